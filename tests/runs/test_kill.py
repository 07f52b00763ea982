"""A search through the command line, killed at any moment and started again, is the search that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import command_line as cli
import pytest
from safetensors.torch import load_file

from atrc_exp import genotype as genotypes
from atrc_exp.runs import checkpoint
from atrc_exp.runs.files import WEIGHTS

RUN = Path("runs/rooms_hrnet18_search/seed0")
pytestmark = pytest.mark.slow
PLACES = {"step": 8, "write": 4, "image": 4}  # how often each occurs in the search


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, rooms: Path) -> Path:
    """Folder of the search that runs to its end."""
    cwd = tmp_path_factory.mktemp("whole")
    assert cli.run(cwd, rooms, *cli.SEARCH) == 0, (cwd / "console.txt").read_text()
    return cwd / RUN


def check(folder: Path, whole: Path) -> None:
    """Everything that a run leaves is the same bit for bit, and no temporary file is left."""
    assert cli.records(folder) == cli.records(whole)
    assert cli.same(cli.last(folder), cli.last(whole))
    for name in ("genotype.json", "checkpoints/best.json"):
        assert (folder / name).read_text() == (whole / name).read_text()
    summaries = [json.loads((f / "summary.json").read_text()) for f in (folder, whole)]
    assert {**summaries[0], "seconds": 0} == {**summaries[1], "seconds": 0}
    files = [{str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} - {"status.json"} for f in (folder, whole)]
    assert files[0] == files[1]


def test_the_undisturbed_search(whole: Path) -> None:
    frozen = [record["frozen"] for record in cli.records(whole, "search")]
    assert frozen[0] < frozen[-1], "a block must freeze on the way"
    assert [record["step"] for record in cli.records(whole, "val")] == [4, 8]
    kept = [path.name for path in (whole / "checkpoints").iterdir()]
    [best] = json.loads((whole / "summary.json").read_text())["best_checkpoints"]["kept"]
    assert set(kept) == {"best.json", f"best-{best['iteration']}.pt", "last.pt", "previous.pt"}
    exported = load_file(whole / WEIGHTS)
    assert cli.same(exported, dict(cli.last(whole)["network"]))


def test_killed_three_times_on_its_way(tmp_path: Path, rooms: Path, whole: Path) -> None:
    """In a step, while a checkpoint is written, and during a validation: each later in the run than the one before."""
    for kill in (("step", 2), ("write", 2), ("image", 3)):
        assert cli.run(tmp_path, rooms, *cli.SEARCH, kill=kill) == -signal.SIGKILL
        for path in (tmp_path / RUN / "checkpoints").glob("[!.]*.pt"):
            checkpoint.load(path)
    assert cli.run(tmp_path, rooms, *cli.SEARCH) == 0
    check(tmp_path / RUN, whole)


@pytest.mark.parametrize("seed", range(5))
def test_killed_four_times_anywhere(tmp_path: Path, rooms: Path, whole: Path, seed: int) -> None:
    """Three times at a random place, once at a random time; the loader has a worker or none."""
    draw = random.Random(seed)
    for kill in (None, *((place, draw.randint(1, PLACES[place] // 2)) for place in draw.choices(list(PLACES), k=3))):
        workers = f"engine.workers={draw.randint(0, 1)}"
        process = cli.start(tmp_path, rooms, *cli.SEARCH, workers, kill=kill)
        process.join(draw.uniform(1, 15) if kill is None else 900)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
    assert cli.run(tmp_path, rooms, *cli.SEARCH) == 0
    check(tmp_path / RUN, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signal_to_the_whole_process_group(
    tmp_path: Path, rooms: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    """As Ctrl-C in a terminal: the loader's workers get it too, and the step is finished all the same."""
    process = cli.start(tmp_path, rooms, *cli.SEARCH)
    until = time.monotonic() + 600
    while not cli.records(tmp_path / RUN, "train") and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.join(900)
    assert process.exitcode == code, (tmp_path / "console.txt").read_text()
    assert json.loads((tmp_path / RUN / "status.json").read_text())["status"] == "interrupted"
    assert "Traceback" not in (tmp_path / "console.txt").read_text()
    assert cli.run(tmp_path, rooms, *cli.SEARCH) == 0
    check(tmp_path / RUN, whole)


def test_sweep_killed_as_a_whole(tmp_path: Path, rooms: Path, whole: Path) -> None:
    """In the second of two searches; the same command again runs only what is missing, and votes."""
    command = ("-m", *cli.SEARCH, "seed=0,1")
    assert cli.run(tmp_path, rooms, *command, kill=("step", 12)) == -signal.SIGKILL
    assert not (tmp_path / RUN.parent / "genotype.json").exists()
    assert cli.run(tmp_path, rooms, *command) == 0
    printed = (tmp_path / "console.txt").read_text()
    assert printed.count("done already") == 1 and "resumed after 3 iterations" in printed
    check(tmp_path / RUN, whole)
    assert genotypes.load(tmp_path / RUN.parent).details["runs"] == 2


@pytest.mark.parametrize(("number", "send", "code"), [(signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)])
def test_signal_to_jobs_side_by_side(
    tmp_path: Path, rooms: Path, whole: Path, number: signal.Signals, send: Callable[[int, int], None], code: int
) -> None:
    """Ctrl-C, and a scheduler that tells the launching process alone: running jobs save, and the third never starts."""
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    command = [sys.executable, "-m", "atrc_exp", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *data,
               *cli.SEARCH, "seed=0,1,2"]  # fmt: skip
    folders = [tmp_path / RUN.with_name(f"seed{seed}") for seed in range(3)]
    sweep = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    while not any(cli.records(folder, "train") for folder in folders) and sweep.poll() is None:
        time.sleep(0.02)
    send(sweep.pid, number)
    printed, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == code, printed
    assert "Traceback" not in printed and printed.count("jobs left; the same command goes on") == 1, printed
    running = [folder for folder in folders if folder.exists()]  # the second may be about to start
    assert running and folders[2] not in running
    for folder in running:
        assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
        assert cli.last(folder)["iteration"] == max(record["step"] for record in cli.records(folder))
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    check(folders[0], whole)
    assert genotypes.load(tmp_path / RUN.parent).details["runs"] == 3


def side_by_side(cwd: Path, rooms: Path) -> tuple[subprocess.Popen, list[str]]:
    """A sweep of two long searches by joblib, both of which have made their first steps; and its command."""
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}")  # fmt: skip
    command = [sys.executable, "-m", "atrc_exp", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *data,
               *cli.SEARCH, "engine.workers=0", "seed=0,1"]  # fmt: skip
    with (cwd / "console.txt").open("w") as console:
        sweep = subprocess.Popen(command, cwd=cwd, stdout=console, stderr=console, start_new_session=True)
    for seed in range(2):
        while not cli.records(cwd / RUN.with_name(f"seed{seed}"), "train") and sweep.poll() is None:
            time.sleep(0.02)
        os.kill(owner(cwd, seed), signal.SIGSTOP)  # until the other one is there too
    assert sweep.poll() is None, (cwd / "console.txt").read_text()
    return sweep, command


def owner(cwd: Path, seed: int) -> int:
    return int((cwd / RUN.with_name(f"seed{seed}") / ".lock").read_text().split()[1])


def parent(stat: Path) -> int:
    """Of the process that a file `/proc/<id>/stat` tells of, 0 where it has just ended."""
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def gone(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_run_killed_beside_another(tmp_path: Path, rooms: Path, whole: Path) -> None:
    """As by the kernel for lack of memory: the other run ends in peace, and the sweep says what is missing."""
    sweep, command = side_by_side(tmp_path, rooms)
    os.kill(owner(tmp_path, 0), signal.SIGKILL)
    os.kill(owner(tmp_path, 1), signal.SIGCONT)
    assert sweep.wait(300) == 3
    printed = (tmp_path / "console.txt").read_text()
    assert "Traceback" not in printed and "job 0, " in printed and "SIGKILL" in printed
    assert (tmp_path / RUN.with_name("seed1") / "summary.json").exists()
    assert genotypes.load(tmp_path / RUN.parent).details["runs"] == 1
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, stdout=subprocess.DEVNULL)
    check(tmp_path / RUN, whole)


def test_killed_worker_leaves_the_runs_time_to_save(tmp_path: Path, rooms: Path, whole: Path) -> None:
    """joblib ends the other workers then; no run is lost or left behind, and the sweep says what is missing."""
    sweep, command = side_by_side(tmp_path, rooms)
    runs = [owner(tmp_path, seed) for seed in range(2)]
    folders = [tmp_path / RUN.with_name(f"seed{seed}") for seed in range(2)]
    workers = [parent(Path(f"/proc/{run}/stat")) for run in runs]
    os.kill(workers[1], signal.SIGKILL)
    os.kill(runs[1], signal.SIGCONT)
    while not all(map(gone, workers)) and sweep.poll() is None:
        time.sleep(0.02)
    assert sweep.poll() is None, "the sweep waits for the runs, or the same command would find their folders in use"
    os.kill(runs[0], signal.SIGCONT)
    assert sweep.wait(300) == 3
    assert all(map(gone, runs + workers))
    printed = (tmp_path / "console.txt").read_text()
    assert "Traceback" not in printed and "job 0, 1" in printed, printed
    for folder in folders:
        assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
        assert cli.last(folder)["iteration"] == max(record["step"] for record in cli.records(folder))
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, stdout=subprocess.DEVNULL)
    check(folders[0], whole)
    assert genotypes.load(tmp_path / RUN.parent).details["runs"] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGHUP, 129)])
def test_launcher_that_is_gone_leaves_nobody_behind(
    tmp_path: Path, rooms: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    """Runs save and end, and so do the workers above them, which hold a gigabyte each."""
    sweep, command = side_by_side(tmp_path, rooms)
    runs = [owner(tmp_path, seed) for seed in range(2)]
    workers = [parent(Path(f"/proc/{run}/stat")) for run in runs]
    os.kill(sweep.pid, number)
    for run in runs:
        os.kill(run, signal.SIGCONT)
    assert sweep.wait(300) == code
    until = time.monotonic() + 120
    while not all(map(gone, runs + workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(map(gone, runs + workers))
    for seed in range(2):
        folder = tmp_path / RUN.with_name(f"seed{seed}")
        assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
        assert cli.last(folder)["iteration"] == max(record["step"] for record in cli.records(folder))
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, stdout=subprocess.DEVNULL)
    check(tmp_path / RUN, whole)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_torchrun_that_is_gone_leaves_no_rank_behind(tmp_path: Path, rooms: Path, number: signal.Signals) -> None:
    """By a kill, or by a signal that it does not hand on unless it is told to."""
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "atrc_exp",
               *data, *cli.SEARCH, "engine.iterations=400", "engine.validate_every=400"]  # fmt: skip
    with (tmp_path / "console.txt").open("w") as console:
        torchrun = subprocess.Popen(command, cwd=tmp_path, stdout=console, stderr=console, start_new_session=True)
    while not cli.records(tmp_path / RUN, "train") and torchrun.poll() is None:
        time.sleep(0.02)
    assert torchrun.poll() is None, (tmp_path / "console.txt").read_text()
    ranks = [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if parent(stat) == torchrun.pid]
    torchrun.send_signal(number)
    assert torchrun.wait(60) == -number
    until = time.monotonic() + 120
    while not all(map(gone, ranks)) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(ranks) == 2 and all(map(gone, ranks))
    assert "SIGTERM" in json.loads((tmp_path / RUN / "status.json").read_text())["error"]
    assert cli.last(tmp_path / RUN)["iteration"] == max(record["step"] for record in cli.records(tmp_path / RUN))


def wandb_log(folder: Path) -> list[dict]:
    """What a folder of W&B holds, by the reader of its SDK."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def test_wandb_offline_through_a_preemption_and_a_kill(tmp_path: Path, rooms: Path) -> None:
    """Three starts are three folders of one run: preempted, without an end, finished."""
    command, offline = (*cli.SEARCH, "logger=wandb"), {"WANDB_MODE": "offline"}
    process = cli.start(tmp_path, rooms, *command, **offline)
    while not cli.records(tmp_path / RUN, "train") and process.is_alive():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.join(900)
    assert process.exitcode == 143, (tmp_path / "console.txt").read_text()
    assert cli.run(tmp_path, rooms, *command, kill=("step", 2), **offline) == -signal.SIGKILL
    resumed = cli.last(tmp_path / RUN)["iteration"]
    assert cli.run(tmp_path, rooms, *command, **offline) == 0

    folders = sorted((tmp_path / RUN / "wandb").glob("offline-run-*"))
    identity = json.loads((tmp_path / RUN / "environment.json").read_text())["run_id"]
    assert len(folders) == 3 and all(folder.name.endswith(f"-{identity}") for folder in folders)
    logs = [wandb_log(folder) for folder in folders]
    assert [[record["exit"]["exit_code"] for record in log if record["type"] == "exit"] for log in logs] == [
        [143],
        [],
        [0],
    ]
    assert [any(record["type"] == "preempting" for record in log) for log in logs] == [True, False, False]
    steps = [record["history"]["item"]["_step"] for record in logs[2] if record["type"] == "history"]
    assert sorted(set(steps) - {resumed}) == list(range(resumed + 1, 9))


def test_keys_of_wandb_reach_no_file(tmp_path: Path, rooms: Path) -> None:
    """Neither the run folder, W&B's offline files among it, nor what is printed holds the key of the environment."""
    canary = "0123456789abcdef0123456789abcdef01canary"
    assert cli.run(tmp_path, rooms, *cli.SEARCH, "logger=wandb", WANDB_API_KEY=canary, WANDB_MODE="offline") == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files), "W&B has written nothing"
    assert [path for path in files if canary.encode() in path.read_bytes()] == []
