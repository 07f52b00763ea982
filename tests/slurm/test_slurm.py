"""Sweeps on a real Slurm: whatever it does to a job, the searches are those of an undisturbed sweep, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cluster as slurm
import command_line as cli
import pytest
from cluster import Cluster, wait_for

from atrc_exp import genotype as genotypes
from atrc_exp.files import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=slurm.missing() or ""),
]
submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")

NAME = Path("runs/rooms_hrnet18_search")
LAUNCHER = ("hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1",
            "hydra.launcher.timeout_min=60", 'hydra.launcher.setup=["export OMP_NUM_THREADS=1"]')  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, rooms: Path) -> Path:
    """Folder of the searches of two seeds that nobody disturbs, without Slurm."""
    cwd = tmp_path_factory.mktemp("whole")
    assert cli.run(cwd, rooms, "-m", *cli.SEARCH, "seed=0,1") == 0, (cwd / "console.txt").read_text()
    return cwd / NAME


class Sweep:
    """The launching command, with what it prints in `<cwd>/console.txt`."""

    def __init__(self, cluster: Cluster, cwd: Path, rooms: Path, *overrides: str, **environment: str) -> None:
        data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
                "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}")  # fmt: skip
        command = [sys.executable, "-m", "atrc_exp", "-m", *LAUNCHER, *data, *cli.SEARCH, *overrides]
        self.cwd = cwd
        with (cwd / "console.txt").open("a") as console:
            self.process = subprocess.Popen(
                command, cwd=cwd, env={**cluster.environment, **environment}, stdout=console,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def end(self) -> int:
        return self.process.wait(280)

    @property
    def printed(self) -> str:
        return (self.cwd / "console.txt").read_text()

    def stop_run(self, seed: int, start: int = 1) -> int:
        """Hold the process of a run, in its n-th start, as soon as it answers signals; returns its process id."""
        folder = self.cwd / NAME / f"seed{seed}"
        log = folder / "train.log"
        wait_for(
            lambda: (log.exists() and log.read_text().count("run folder:") >= start) or self.ended(), f"start {start}"
        )
        assert not self.ended(), self.printed
        process = int((folder / ".lock").read_text().split()[1])
        os.kill(process, signal.SIGSTOP)
        return process

    def ended(self) -> bool:
        return self.process.poll() is not None


@pytest.fixture
def launch(cluster: Cluster, tmp_path: Path, rooms: Path) -> Iterator[Callable[..., Sweep]]:
    """Starts the launching command with more overrides, and ends at last what a failed test has left of it."""
    sweeps: list[Sweep] = []

    def start(*overrides: str, **environment: str) -> Sweep:
        sweeps.append(Sweep(cluster, tmp_path, rooms, *overrides, **environment))
        return sweeps[-1]

    yield start
    for sweep in sweeps:
        sweep.process.kill()
        sweep.process.wait()


def check(cwd: Path, whole: Path, *seeds: int) -> None:
    for seed in seeds:
        folders = [root / f"seed{seed}" for root in (cwd / NAME, whole)]
        assert cli.records(folders[0]) == cli.records(folders[1])
        assert cli.same(*map(cli.last, folders))


def starts(cwd: Path, seed: int) -> int:
    return len(read_json(cwd / NAME / f"seed{seed}" / "environment.json")["starts"])


def test_job_is_preempted_with_a_grace_period_and_then_reaches_its_time_limit(
    cluster: Cluster, launch: Callable[..., Sweep], tmp_path: Path, whole: Path
) -> None:
    sweep = launch("seed=0")
    sweep.stop_run(0)
    cluster.output("sbatch", "--partition=high", f"--ntasks={slurm.CPUS}", "--output=/dev/null", "--wrap=sleep 1")

    sweep.stop_run(0, start=2)
    [job] = [line.split()[0] for line in cluster.active()]
    cluster.output("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    log = tmp_path / NAME / "seed0" / "train.log"
    wait_for(lambda: "SIGUSR2: a checkpoint follows" in log.read_text(), "Slurm's warning before the time limit")
    cluster.output("scontrol", "update", f"JobId={job}", "TimeLimit=60")

    assert sweep.end() == 0, sweep.printed
    assert starts(tmp_path, 0) == 3
    assert "SIGTERM: a checkpoint follows" in log.read_text()
    check(tmp_path, whole, 0)


def test_one_job_is_cancelled_and_one_launcher_stopped(
    cluster: Cluster, launch: Callable[..., Sweep], tmp_path: Path, whole: Path
) -> None:
    """Three times the same command: a job is cancelled; Ctrl-C, with jobs that get no environment; and undisturbed."""
    sweep = launch("seed=0,1")
    run = sweep.stop_run(1)
    [job] = [line.split()[0] for line in cluster.active() if line.split()[0].endswith("_1")]
    cluster.output("scancel", job)
    os.kill(run, signal.SIGCONT)
    assert sweep.end() == 3, sweep.printed
    assert "no record of job 1" in sweep.printed and "Traceback" not in sweep.printed
    assert "cancelled" in sweep.printed, "the launcher tells what Slurm says of the job"
    assert json.loads((tmp_path / NAME / genotypes.FILE_NAME).read_text())["runs"] == 1
    assert not any(line.startswith(job) for line in cluster.active())

    sweep = launch("seed=0,1", SBATCH_EXPORT="NONE")
    wait_for(lambda: sweep.printed.count("This command waits") == 2 or sweep.ended(), "the submission")
    sweep.process.send_signal(signal.SIGINT)
    assert sweep.end() == 130, sweep.printed
    assert "the jobs go on" in sweep.printed and "atrc_exp.report.votes" in sweep.printed
    wait_for(lambda: not cluster.active(), "the end of the jobs")
    check(tmp_path, whole, 0, 1)

    sweep = launch("seed=0,1")
    assert sweep.end() == 0, sweep.printed
    assert "2 of 2 jobs done" in sweep.printed
    assert (starts(tmp_path, 0), starts(tmp_path, 1)) == (1, 2)
    assert genotypes.load(tmp_path / NAME).blocks == genotypes.load(whole).blocks
    logs = [path.read_text() for path in tmp_path.glob("runs/.multirun/.submitit/*/*_log.out")]
    assert len(logs) == 6 and not any("ConfigStore" in log for log in logs)


def test_tasks_of_a_job_are_the_ranks_of_its_run(launch: Callable[..., Sweep], tmp_path: Path) -> None:
    sweep = launch("seed=0", "hydra.launcher.tasks_per_node=2")
    assert sweep.end() == 0, sweep.printed
    assert [start["world"] for start in read_json(tmp_path / NAME / "seed0/environment.json")["starts"]] == [2]
    assert "1 of 1 job" in sweep.printed


@pytest.mark.parametrize(
    ("override", "reason"),
    [("hydra.launcher.partition=nowhere", "partition"), ("hydra.launcher.mem_gb=999", "Memory")],
)
def test_what_slurm_refuses_is_one_message(
    cluster: Cluster, launch: Callable[..., Sweep], tmp_path: Path, override: str, reason: str
) -> None:
    sweep = launch("seed=0,1", override)
    assert sweep.end() == 2
    assert "Traceback" not in sweep.printed and reason in sweep.printed.splitlines()[-1]
    assert not (tmp_path / NAME).exists()
