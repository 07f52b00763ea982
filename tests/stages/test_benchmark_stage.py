"""`stage=benchmark`: what it writes, that configurations are compared in one run, and the mistakes it names."""

import json
import math
import subprocess
import sys

import pytest
import tiny_engine as tiny
from small_rooms import QUICK, command

from atrc_exp.errors import UserError
from atrc_exp.stages import run_stage
from atrc_exp.stages.benchmark import _changed
from atrc_exp.training.benchmark import PHASES, Runner, Subject

BENCHMARK = ("stage=benchmark", "benchmark.steps=3", "benchmark.warmup=1")


@pytest.mark.slow
def test_configurations_are_measured_side_by_side(tmp_path, rooms, capsys):
    config = command(tmp_path, rooms, "+experiment=rooms_hrnet18_global", *QUICK, *BENCHMARK, "engine.accumulate=2",
                     "engine.iterations=4000", "benchmark.against=['distillation=none']")  # fmt: skip
    run_stage(config)
    written = json.loads((tmp_path / "runs" / config.name / "benchmark.json").read_text())
    first, second = written["configurations"]
    assert first["label"] == config.name and second["label"] == "distillation=none"
    assert first["step_ratio"] == first["memory_ratio"] == 1
    for row in (first, second):
        seconds = row["seconds"]
        assert all(seconds[phase] > 0 for phase in PHASES)
        assert row["images_per_second"] == pytest.approx(2 / seconds["step"])
        assert row["projected_hours"] == pytest.approx(4000 * seconds["step"] / 3600)
        assert 50 < row["peak_memory_mib"] < 10_000
    assert first["parameters"] > second["parameters"]
    assert written["versions"]["torch"] and written["device"] and written["date"]
    printed = capsys.readouterr().out
    assert "distillation=none" in printed and "benchmark.json" in printed
    assert not (tmp_path / "runs" / config.name / "seed0").exists()


def test_a_bilevel_step_is_measured_with_both_of_its_batches(tmp_path):
    steps = 2
    config = tiny.with_engine(tiny.config(tmp_path, kind="bilevel", strategy="darts"), accumulate=2)
    batches = [tiny.images(seed, 2) for seed in range(2 * 2 * steps)]
    asked = []

    def loader(config, tasks, device, number):
        asked.append(number)
        return iter(batches)

    runner = Runner(Subject("", config, lambda config: (tiny.network(config), tiny.tasks()), loader), steps)
    forwards = []
    runner.objective.register_forward_hook(lambda _, given, __: forwards.append(given[0]))
    for _ in range(steps):
        runner.step()
    assert asked == [2 * steps] and len(forwards) == len(batches)
    assert {id(image) for image in forwards} == {id(batch.image) for batch in batches}


def test_other_configurations_build_on_the_command(tmp_path, rooms):
    config = command(tmp_path, rooms, "+experiment=rooms_hrnet18_global", *QUICK, *BENCHMARK, "engine.batch_size=4")
    local = _changed(config, "rooms_hrnet18_local")
    assert (local.distillation.name, local.name, local.engine.batch_size) == ("local", "rooms_hrnet18_local", 4)
    smaller = _changed(config, "engine.batch_size=2 engine.precision=bf16")
    assert (smaller.distillation.name, smaller.engine.batch_size, smaller.engine.precision) == ("global", 2, "bf16")
    assert local.backbone.name == smaller.backbone.name == "mobilenetv3_small_050"


@pytest.mark.parametrize(
    ("entry", "parts"),
    [("rooms_hrnet18_globl", ["rooms_hrnet18_global"]), ("engine.batch_sze=2", ["'batch_size'"]),
     ("distillation=atrc", ["genotype"])],
)  # fmt: skip
def test_mistakes_in_other_configurations_are_named(tmp_path, rooms, entry, parts):
    config = command(tmp_path, rooms, "+experiment=rooms_hrnet18_global", *BENCHMARK, f"benchmark.against=['{entry}']")
    with pytest.raises(UserError) as caught:
        run_stage(config)
    assert all(part in str(caught.value) for part in ("benchmark.against", entry, *parts)), str(caught.value)


def test_missing_data_is_not_replaced_by_random_data(tmp_path, rooms):
    nowhere = ("dataset=nyud", f"dataset.root={tmp_path / 'nowhere'}", *QUICK, *BENCHMARK)
    with pytest.raises(UserError, match=r"dataset\.root"):
        run_stage(command(tmp_path, rooms, *nowhere))


@pytest.mark.slow
def test_command_line(tmp_path):
    """As a user starts it, on random data and with a comparison composed inside of Hydra."""
    overrides = ("+experiment=rooms_hrnet18_multi_task", *QUICK, "stage=benchmark", "benchmark.steps=1",
                 "benchmark.warmup=0", "benchmark.data=random", "engine.batch_size=2", f"runs_dir={tmp_path}",
                 "benchmark.against=['distillation=global']")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "atrc_exp", *overrides], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rooms_hrnet18_multi_task" / "benchmark.json").read_text())["configurations"]
    assert [row["network"].split(", ")[1] for row in rows] == ["none", "global"]
    assert math.isclose(rows[1]["step_ratio"], rows[1]["seconds"]["step"] / rows[0]["seconds"]["step"])
