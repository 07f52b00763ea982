"""The end of a multirun, as a function of job records and through Hydra with every launcher that is installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize
from omegaconf import OmegaConf

from atrc_exp.report import sweep

APP = Path(__file__).with_name("sweep_app.py")


@pytest.fixture
def record(runs_dir):
    def write(number, name, seed, stage="retrain", status="done", error=None, sweep_id="now"):
        sweep.record_job(runs_dir, sweep_id, number, runs_dir / name / f"seed{seed}", name, stage, status, error)

    return write


def test_trainings_leave_a_table(runs_dir, make_run, record, capsys):
    for seed in range(2):
        make_run("multi", seed, {"depth": 1.0 + seed})
        record(seed, "multi", seed)
    assert sweep.finish(runs_dir, "now", 2)
    assert "1.5000 ± 0.7071" in (runs_dir / "multi/table.md").read_text()
    printed = capsys.readouterr().out
    assert "1.5000 ± 0.7071" in printed
    assert "2 of 2 jobs done" in printed


def test_searches_leave_a_vote(runs_dir, make_search, record, capsys):
    for seed in range(2):
        make_search("search", seed, "semseg depth", "ng tl")
        record(seed, "search", seed, stage="search")
    assert sweep.finish(runs_dir, "now", 2)
    assert json.loads((runs_dir / "search/genotype.json").read_text())["runs"] == 2
    assert "global 2/2" in capsys.readouterr().out
    assert not (runs_dir / "search/table.md").exists()


def test_other_stages_leave_nothing(runs_dir, record):
    record(0, "multi", 0, stage="profile")
    assert sweep.finish(runs_dir, "now", 1)
    assert [path.name for path in runs_dir.iterdir()] == [".multirun"]


def test_names_have_a_table_each_and_one_together(runs_dir, make_run, record, capsys):
    for number, task in enumerate(("semseg", "depth")):
        make_run(f"single_{task}", 0, {task: 0.5})
        record(number, f"single_{task}", 0)
    assert sweep.finish(runs_dir, "now", 2)
    assert "single_depth" not in (runs_dir / "single_semseg/table.md").read_text()
    printed = capsys.readouterr().out
    assert printed.count("SemSeg miou") == 1
    assert re.search(r"single_semseg .*50\.00", printed)
    assert re.search(r"single_depth .*0\.5000", printed)


@pytest.mark.parametrize("content", ["", "[]"])
def test_damaged_files_are_named_and_the_rest_is_made(runs_dir, make_run, make_search, record, capsys, content):
    for seed in range(2):
        make_run("multi", seed, {"depth": 1.0 + seed})
        record(seed, "multi", seed)
        make_search("search", seed, "semseg depth", "ng tl")
        record(2 + seed, "search", seed, stage="search")
    for name in ("multi", "search"):
        (runs_dir / name / "seed1" / "summary.json").write_text(content)
    assert not sweep.finish(runs_dir, "now", 4)
    printed = "".join(capsys.readouterr().out.split())
    problems = printed[printed.index("sweep:") :]
    assert all(f"{runs_dir}/{name}/seed1/summary.json" in problems for name in ("multi", "search"))
    assert "1.0000" in (runs_dir / "multi" / "table.md").read_text()
    assert json.loads((runs_dir / "search" / "genotype.json").read_text())["runs"] == 1


def test_a_damaged_record_is_that_of_a_job_to_be_done_again(runs_dir, make_run, record, capsys):
    for seed in range(2):
        make_run("multi", seed, {"depth": 1.0})
        record(seed, "multi", seed)
    (runs_dir / sweep.FOLDER / "now" / "1.json").write_text("")
    assert not sweep.finish(runs_dir, "now", 2)
    assert "no record of job 1" in capsys.readouterr().out


def test_failed_job_is_told_and_the_others_count(runs_dir, make_run, record, capsys):
    make_run("multi", 0, {"depth": 1.0})
    record(0, "multi", 0)
    record(1, "multi", 1, status="failed", error="loss of depth is not finite at step 7")
    assert not sweep.finish(runs_dir, "now", 2)
    assert (runs_dir / "multi/table.md").is_file()
    assert re.search(r"multi/seed1: loss of depth is not finite at step 7", capsys.readouterr().out)


def test_job_without_a_record_is_missed(runs_dir, make_run, record, capsys):
    for number in (0, 2):
        make_run("multi", number, {"depth": 1.0})
        record(number, "multi", number)
    assert not sweep.finish(runs_dir, "now", 4)
    assert "no record of job 1, 3" in capsys.readouterr().out


def test_records_of_another_sweep_do_not_count(runs_dir, make_run, record):
    make_run("multi", 0, {"depth": 1.0})
    record(0, "multi", 0)
    record(1, "multi", 1, status="failed", error="old", sweep_id="before")
    assert sweep.finish(runs_dir, "now", 1)


def test_mixed_runs_fail_the_sweep_but_not_the_other_names(runs_dir, make_run, record, capsys):
    make_run("mixed", 0, {"depth": 1.0}, iteration=80)
    make_run("mixed", 1, {"depth": 1.0})
    make_run("multi", 0, {"depth": 1.0})
    for number, (name, seed) in enumerate([("mixed", 0), ("mixed", 1), ("multi", 0)]):
        record(number, name, seed)
    assert not sweep.finish(runs_dir, "now", 3)
    assert "iterations is 80 in seed0 and 40 in seed1" in capsys.readouterr().out
    assert (runs_dir / "multi/table.md").is_file()
    assert not (runs_dir / "mixed/table.md").exists()


def test_damaged_genotype_fails_the_sweep(runs_dir, make_search, record, capsys):
    (make_search("search", 0, "semseg depth", "ng tl") / "genotype.json").write_text("{")
    record(0, "search", 0, stage="search")
    assert not sweep.finish(runs_dir, "now", 1)
    assert "search/seed0/genotype.json" in capsys.readouterr().out


def test_fault_in_the_aggregation_is_an_exit_code(runs_dir, monkeypatch, capsys):
    def fault(*_):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(sweep, "finish", fault)
    hydra = {"launcher": {"_target_": "BasicLauncher"}, "sweep": {"dir": str(runs_dir)}, "sweeper": {"params": None},
             "overrides": {"hydra": [], "task": ["seed=0"]}}  # fmt: skip
    config = OmegaConf.create({"runs_dir": str(runs_dir), "hydra": hydra})
    callback = sweep.SweepCallback()
    with initialize(config_path=None, version_base="1.3"):
        callback.on_multirun_start(config)
        with pytest.raises(SystemExit) as stop:
            callback.on_multirun_end(config)
    assert stop.value.code == sweep.EXIT_CODE
    assert "a fault of ours" in capsys.readouterr().err


def launch(folder, *overrides):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(APP), "-m", *overrides]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_command_runs_on_after_a_failure_and_a_second_one_only_what_is_missing(tmp_path):
    first = launch(tmp_path, "seed=0,1,2,3", "fail=[1]", "vanish=[3]")
    assert first.returncode == sweep.EXIT_CODE, first.stderr
    assert "seed 1 was told to fail" in first.stdout
    assert "no record of job 3" in first.stdout
    assert "2 of 4 jobs done" in first.stdout
    assert json.loads((tmp_path / "runs/multi/table.json").read_text())["rows"][0]["seeds"] == [0, 2]
    second = launch(tmp_path, "seed=0,1,2,3")
    assert second.returncode == 0, second.stderr
    assert json.loads((tmp_path / "runs/multi/table.json").read_text())["rows"][0]["seeds"] == [0, 1, 2, 3]
    assert (tmp_path / "runs/log").read_text().splitlines() == [f"multi/seed{seed} ran" for seed in (0, 2, 1, 3)]


@pytest.mark.slow
def test_command_votes_after_searches(tmp_path):
    done = launch(tmp_path, "seed=0,1", "stage.name=search", "tasks=[semseg,depth]", "name=search")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs/search/genotype.json").read_text())["runs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=2"]),
    ],
)
def test_other_launchers(tmp_path, plugin, options):
    if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed")
    first = launch(tmp_path, "seed=0,1,2", "fail=[1]", *options)
    assert first.returncode == sweep.EXIT_CODE, first.stderr
    assert "seed 1 was told to fail" in first.stdout
    assert launch(tmp_path, "seed=0,1,2", *options).returncode == 0
    assert json.loads((tmp_path / "runs/multi/table.json").read_text())["rows"][0]["seeds"] == [0, 1, 2]
