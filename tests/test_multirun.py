"""Sweeps and torchrun through the real command line, on tiny rooms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_rooms import QUICK

from atrc_exp.genotype import load

pytestmark = pytest.mark.slow


def run(cwd: Path, rooms: Path, *arguments: str, launch: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    settings = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
                "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}", "engine.iterations=2",
                "engine.batch_size=2", "engine.workers=0", "logger=none", *QUICK)  # fmt: skip
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    command = [sys.executable, *launch, "-m", "atrc_exp", *flags, *settings, *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, env=environment)


def test_search_sweep_votes_and_the_same_command_again_has_nothing_to_do(tmp_path, rooms):
    command = ("-m", "+experiment=rooms_hrnet18_search", "seed=0,1")
    done = run(tmp_path, rooms, *command)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "rooms_hrnet18_search"
    voted = load(folder)
    assert voted.tasks == ("semseg", "depth", "normals", "edge") and voted.details["runs"] == 2
    assert {"votes", "agreement", "kappa", "ties", "sources"} <= set(voted.details)
    assert (folder / "votes.png").stat().st_size > 0
    again = run(tmp_path, rooms, *command)
    assert again.returncode == 0 and again.stdout.count("done already") == 2
    atrc = run(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", f"genotype={folder}")
    assert atrc.returncode == 0, atrc.stderr
    assert load(tmp_path / "runs" / "rooms_hrnet18_atrc" / "seed0").blocks == voted.blocks


def test_failed_job_is_reported_the_others_go_on_and_the_exit_code_says_so(tmp_path, rooms):
    command = ("-m", "+experiment=rooms_hrnet18_multi_task", "seed=0,1")
    broken = tmp_path / "runs" / "rooms_hrnet18_multi_task" / "seed0"
    broken.parent.mkdir(parents=True)
    broken.write_text("a file where the folder of the run belongs")
    done = run(tmp_path, rooms, *command, "tasks=[depth]")
    assert done.returncode == 3
    assert "job 0" in done.stderr and "Traceback" not in done.stderr
    table = json.loads((broken.parent / "table.json").read_text())
    assert json.loads((broken.parent / "seed1" / "summary.json").read_text())["status"] == "done"
    broken.unlink()
    again = run(tmp_path, rooms, *command, "tasks=[depth]")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already") == 1
    assert json.loads((broken.parent / "table.json").read_text()) != table


def test_joblib_with_one_worker_runs_in_the_launching_process(tmp_path, rooms):
    """As on a machine with one core."""
    done = run(tmp_path, rooms, "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "tasks=[depth]", "seed=0,1",
               "+experiment=rooms_hrnet18_multi_task")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs done" in done.stdout


def test_torchrun_shares_one_run_between_two_processes(tmp_path, rooms):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(tmp_path, rooms, "+experiment=rooms_hrnet18_multi_task", "tasks=[depth,edge]", launch=torchrun)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "rooms_hrnet18_multi_task" / "seed0"
    assert json.loads((folder / "summary.json").read_text())["iteration"] == 2
    assert json.loads((folder / "environment.json").read_text())["starts"][0]["world"] == 2


def test_batch_smaller_than_the_ranks_is_one_message(tmp_path, rooms):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(tmp_path, rooms, "+experiment=rooms_hrnet18_multi_task", "engine.batch_size=1", launch=torchrun)
    assert done.returncode != 0
    assert "error: engine.batch_size" in done.stderr


def test_mistake_is_not_repeated_by_torchrun(tmp_path, rooms):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3")
    done = run(tmp_path, rooms, "dataset=nyud", "dataset.root=/nowhere", launch=torchrun)
    assert done.returncode != 0
    assert done.stderr.count("error: dataset.root=/nowhere") == 1


def test_learning_rate_grid_ends_with_a_ranking(tmp_path, rooms):
    grid = run(tmp_path, rooms, "-m", "+experiment=rooms_hrnet18_multi_task", "+sweep=learning_rate",
               "optim.lr=0.002,0.01", "optim.head_lr_factor=1", "evaluation.boundary_every=0")  # fmt: skip
    assert grid.returncode == 0, grid.stderr
    ranking = json.loads((tmp_path / "runs/rooms_hrnet18_multi_task_learning_rates/ranking.json").read_text())
    names = {one["name"] for one in ranking["ranking"]}
    assert names == {f"rooms_hrnet18_multi_task_lr{rate}_heads1.0" for rate in (0.002, 0.01)}
