"""Pre-emption under submitit, with its local executor in the place of Slurm."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line as cli
import pytest

from atrc_exp.files import read_json

RUN = Path("runs/rooms_hrnet18_search/seed0")


@pytest.mark.slow
def test_preempted_job_is_queued_again_and_goes_on(tmp_path: Path, rooms: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    command = [sys.executable, "-m", "atrc_exp", "-m", "hydra/launcher=submitit_local", *cli.SEARCH, *data,
               "engine.iterations=60", "engine.validate_every=60", "engine.checkpoint_every=100"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 900
    while not cli.records(tmp_path / RUN, "train") and time.monotonic() < until:
        time.sleep(0.05)
    job = int((tmp_path / RUN / ".lock").read_text().split()[1])
    os.kill(job, signal.SIGUSR2)
    printed, _ = sweep.communicate(timeout=900)
    assert sweep.returncode == 0 and "1 of 1 job done" in printed
    log = (tmp_path / RUN / "train.log").read_text()
    assert "SIGUSR2: a checkpoint follows" in log and "resumed after" in log
    assert read_json(tmp_path / RUN / "summary.json")["iteration"] == 60
    assert len(read_json(tmp_path / RUN / "environment.json")["starts"]) == 2
