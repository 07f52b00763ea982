"""The commands behind a table: what is run, in which order, and what counts as done."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from atrc_exp.errors import UserError
from atrc_exp.files import write_json, write_text
from atrc_exp.genotype import Genotype, save, uniform
from atrc_exp.report.campaign.plan import Overrides, steps, table_rows

TASKS = ("semseg", "depth", "normals", "edge")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(number, *presets):
    return [row for row in table_rows(number) if row.preset in presets]


def finish(step):
    for folder, config in step.runs().items():
        write_json(folder / "summary.json", {})
        write_text(folder / "config.yaml", yaml.safe_dump(dataclasses.asdict(config)))


def test_overrides_are_taken_apart():
    given = ["seed=0,3", "hydra/launcher=joblib", "+hydra.launcher.n_jobs=2", "runs_dir=else", "engine.iterations=2",
             "benchmark.steps=9", "genotype=published/nyud_hrnet18"]  # fmt: skip
    overrides = Overrides.parse(given)
    assert overrides.seeds == (0, 3) and overrides.runs_dir == "else"
    assert overrides.genotype == "published/nyud_hrnet18" and overrides.benchmark == ("benchmark.steps=9",)
    assert overrides.common == tuple(given[1:5])
    assert overrides.composable == ("runs_dir=else", "engine.iterations=2")
    assert Overrides.parse([]).seeds == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("override", "part"),
    [("tasks=[depth]", "set by the table"), ("+experiment=x", "set by the table"), ("seed=a", "whole numbers"),
     ("depth", "KEY=VALUE")],
)  # fmt: skip
def test_overrides_that_do_not_fit(override, part):
    with pytest.raises(UserError, match=part):
        Overrides.parse([override])


def test_search_comes_before_what_is_built_from_its_vote_and_only_once():
    overrides = Overrides.parse(["seed=0,1", "engine.iterations=2"])
    planned, unknown = steps("G-1", "rooms", rows("G-1", "atrc", "atrc_no_self"), overrides)
    assert [step.arguments()[1:3] for step in planned] == [
        ["+experiment=rooms_hrnet18_search", "seed=0,1"],
        ["+experiment=rooms_hrnet18_atrc", "genotype=runs/rooms_hrnet18_search"],
        ["+experiment=rooms_hrnet18_atrc_no_self", "genotype=runs/rooms_hrnet18_search"],
    ]
    assert unknown == [] and planned[1].configs[0].engine.iterations == 2
    assert planned[1].arguments() == ["-m", "+experiment=rooms_hrnet18_atrc",
                                               "genotype=runs/rooms_hrnet18_search", "seed=0,1",
                                               "engine.iterations=2"]  # fmt: skip


def test_a_given_genotype_needs_no_search():
    planned, _ = steps("1", "rooms", rows("1", "atrc"), Overrides.parse(["genotype=published/nyud_hrnet18"]))
    assert [step.preset for step in planned] == ["rooms_hrnet18_atrc"]
    assert planned[0].variants == ("genotype=published/nyud_hrnet18",)


def test_single_task_networks_are_one_command_with_a_name_a_task():
    overrides = Overrides.parse(["seed=0,1"])
    (step,), _ = steps("4", "rooms", rows("4", "single_task"), overrides)
    assert step.arguments()[2] == "tasks=[semseg],[depth],[normals],[edge]"
    assert list(step.runs())[:3] == [Path(f"runs/rooms_hrnet18_single_task_{task}/seed{seed}")
                                     for task, seed in [("semseg", 0), ("semseg", 1), ("depth", 0)]]  # fmt: skip
    assert len(step.missing()) == 8


@pytest.mark.slow
def test_tables_of_some_tasks_and_of_branched_networks():
    overrides = Overrides.parse([])
    planned, _ = steps("D-1", "rooms", table_rows("D-1"), overrides)
    assert [step.variants for step in planned] == [("tasks=[depth]", "tasks=[normals]"), (), ()]
    planned, _ = steps("5", "pascal", rows("5", "bmtas_atrc"), overrides)
    assert [(step.preset.removeprefix("pascal_resnet50_"), len(step.seeds)) for step in planned] == [
        ("branch", 1), ("bmtas_search", 5), ("bmtas_atrc", 5),
    ]  # fmt: skip
    assert [step.preset for step in steps("F", "rooms", table_rows("F"), overrides)[0]] == ["rooms_hrnet18_search"]


def test_presets_that_a_dataset_lacks_are_named():
    planned, unknown = steps("3", "rooms", rows("3", "mti_net", "atrc"), Overrides.parse([]))
    assert [step.preset for step in planned] == ["rooms_hrnet48_search"]
    assert unknown == ["rooms_hrnet48_mti_net", "rooms_hrnet48_atrc"]


def test_finished_runs_are_done_and_searches_when_they_have_voted():
    overrides = Overrides.parse(["seed=0,1"])
    planned, _ = steps("1", "rooms", rows("1", "atrc"), overrides)
    search, atrc = planned
    finish(atrc)
    assert atrc.is_done and not atrc.missing()
    (Path("runs/rooms_hrnet18_atrc/seed1/summary.json")).unlink()
    assert not atrc.is_done and atrc.missing() == [Path("runs/rooms_hrnet18_atrc/seed1")]
    finish(search)
    assert not search.missing() and not search.is_done
    voted = uniform(TASKS, "local")
    for runs, done in [(1, False), (2, True)]:
        save(Genotype(voted.tasks, voted.blocks, {"runs": runs}), "runs/rooms_hrnet18_search/genotype.json")
        assert search.is_done is done


def test_runs_of_another_configuration_are_refused_before_anything_runs():
    given = ["seed=0", "engine.iterations=2"]
    (step,), _ = steps("1", "rooms", rows("1", "pap"), Overrides.parse(given))
    finish(step)
    steps("1", "rooms", rows("1", "pap"), Overrides.parse([*given, "engine.workers=0"]))
    with pytest.raises(UserError, match=r"engine.iterations: 2 -> 3"):
        steps("1", "rooms", rows("1", "pap"), Overrides.parse(["seed=0", "engine.iterations=3"]))
