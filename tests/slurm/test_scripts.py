"""The scripts for sbatch without submitit, as they stand in `multirun_scripts/`."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cluster as slurm
import command_line as cli
import pytest
from cluster import Cluster, wait_for

from atrc_exp.files import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=slurm.missing() or ""),
]

SCRIPTS = Path(__file__).parents[2] / "multirun_scripts"
RUN = Path("runs/rooms_hrnet18_search/seed0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as running:
        yield running


def submit(cluster: Cluster, cwd: Path, rooms: Path, script: str, *overrides: str, **environment: str) -> str:
    """Hand a script to sbatch; returns the id of the job."""
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}")  # fmt: skip
    command = ["sbatch", "--parsable", "--cpus-per-task=1", "--output=job.out", str(SCRIPTS / script), *data,
               *cli.SEARCH, *overrides]  # fmt: skip
    submitted = subprocess.run(command, cwd=cwd, env={**cluster.environment, "OMP_NUM_THREADS": "1", **environment},
                               capture_output=True, text=True, check=True)  # fmt: skip
    return submitted.stdout.strip()


def first_step(cwd: Path) -> None:
    wait_for(lambda: cli.records(cwd / RUN, "train"), "the first step")


def starts_again(cwd: Path, start: int) -> None:
    """Wait until a run that Slurm has queued again trains."""
    log = cwd / RUN / "train.log"
    wait_for(lambda: "loss" in "".join(log.read_text().split("run folder:")[start:]), f"start {start}")


def starts(cwd: Path) -> list[dict]:
    return read_json(cwd / RUN / "environment.json")["starts"]


@pytest.mark.parametrize(("script", "world"), [("slurm_job.sh", 1), ("slurm_nodes.sh", 2)])
def test_warned_or_preempted_job_is_queued_again_and_a_cancelled_one_is_not(
    cluster: Cluster, tmp_path: Path, rooms: Path, script: str, world: int
) -> None:
    """SIGUSR1 is what `--signal` makes Slurm send before the time limit: to the steps, or to the script (`B:`)."""
    long = ("engine.iterations=400", "engine.validate_every=400", "engine.checkpoint_every=400")
    job = submit(cluster, tmp_path, rooms, script, *long, RANKS="1")
    first_step(tmp_path)
    to_script = ["--batch"] if world > 1 else []
    cluster.output("scancel", "--signal=USR1", *to_script, job)
    wait_for(lambda: (tmp_path / RUN / "status.json").exists(), "the save before the time limit")
    assert signal.SIGUSR1.name in read_json(tmp_path / RUN / "status.json")["error"]
    steps = cli.last(tmp_path / RUN)["iteration"]

    starts_again(tmp_path, 2)
    assert f"resumed after {steps} iterations" in (tmp_path / RUN / "train.log").read_text()
    nodes = ("--nodes=2", "--exclusive", "--partition=high")
    cluster.output("sbatch", *nodes, "--output=/dev/null", "--wrap=sleep 1")  # pre-empts the job, with a grace period
    starts_again(tmp_path, 3)
    assert [start["world"] for start in starts(tmp_path)] == [world] * 3
    cluster.output("scancel", job)
    wait_for(lambda: not cluster.active(), "the end of the cancelled job")
    assert not (tmp_path / RUN / "summary.json").exists()
    assert len(starts(tmp_path)) == 3
