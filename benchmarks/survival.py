"""What a run survives: a search is disturbed and the same command given again, and what it leaves is compared bit for
bit with what an undisturbed search leaves.

    python benchmarks/survival.py [--only TEXT]      prints the table of docs/operations.md, in minutes on two cores
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import command_line as cli  # noqa: E402 # of the tests: fast starts, kills at a given place, comparisons
import small_rooms  # noqa: E402

from atrc_exp import genotype  # noqa: E402
from atrc_exp.rooms import generate  # noqa: E402
from atrc_exp.runs import checkpoint  # noqa: E402

RUN = Path("runs/rooms_hrnet18_search/seed0")
DAY = 86_400
BOTH = (checkpoint.LAST, checkpoint.PREVIOUS)


@dataclass(frozen=True)
class Case:
    """A disturbance: `disturb` runs the command in a folder to its end and returns the exit code."""

    name: str
    disturb: Callable[[Path, Path], int]
    lost: bool = False
    """Whether the run cannot go on, and has to say so with exit code 2."""


def signalled(number: signal.Signals, to_group: bool = False) -> Callable[[Path, Path], int]:
    """Send a signal after the third step, to the process or, as a terminal does, to its whole group."""

    def disturb(cwd: Path, rooms: Path) -> int:
        process = cli.start(cwd, rooms, *cli.SEARCH)
        reach(cwd, process, 3)
        (os.killpg if to_group else os.kill)(process.pid, number)
        process.join()
        return process.exitcode

    return disturb


def killed(*places: tuple[str, int]) -> Callable[[Path, Path], int]:
    """Kill the command at each place in turn, with a start for each."""
    return lambda cwd, rooms: [cli.run(cwd, rooms, *cli.SEARCH, kill=place) for place in places][-1]


def file_limit(cwd: Path, rooms: Path) -> int:
    """From the third step on no file may grow beyond a size that no checkpoint keeps to, as on a full disk."""
    process = cli.start(cwd, rooms, *cli.SEARCH)
    reach(cwd, process, 3)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    process.join()
    return process.exitcode


def then(change: Callable[[Path], object]) -> Callable[[Path, Path], int]:
    """Kill the command in its seventh step, when there are two checkpoints, and change its folder of checkpoints."""

    def disturb(cwd: Path, rooms: Path) -> int:
        code = cli.run(cwd, rooms, *cli.SEARCH, kill=("step", 7))
        change(cwd / RUN / "checkpoints")
        return code

    return disturb


def damage(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def clock(shift: int) -> Callable[[Path, Path], int]:
    """The system's clock jumps by `shift` seconds in the middle of the run."""

    def disturb(cwd: Path, rooms: Path) -> int:
        (cwd / "sitecustomize.py").write_text(
            "import itertools, time\nreal, calls = time.time, itertools.count()\n"
            f"time.time = lambda: real() + {shift} * (next(calls) > 500)\n"
        )
        data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
                "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}")  # fmt: skip
        command = [sys.executable, "-m", "atrc_exp", *data, *cli.SEARCH]
        with (cwd / "console.txt").open("w") as console:
            return subprocess.call(command, cwd=cwd, stdout=console, stderr=console,
                                   env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(cwd)})  # fmt: skip

    return disturb


def reach(cwd: Path, process: multiprocessing.process.BaseProcess, step: int) -> None:
    """Wait until the run has logged a step."""
    while process.is_alive() and len(cli.records(cwd / RUN, "train")) < step:
        time.sleep(0.02)


CASES = (
    *(Case(f"{number.name} to the process", signalled(number))
      for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)),
    Case("SIGINT to the process group (Ctrl-C)", signalled(signal.SIGINT, to_group=True)),
    Case("SIGKILL to the process", signalled(signal.SIGKILL)),
    Case("SIGKILL in a step, twice", killed(("step", 2), ("step", 3))),
    Case("SIGKILL while a checkpoint is written", killed(("write", 2))),
    Case("SIGKILL in a validation", killed(("image", 3))),
    Case("a disk that takes no checkpoint", file_limit),
    Case("one bit of last.pt changed", then(lambda folder: damage(folder / checkpoint.LAST))),
    Case("last.pt cut off", then(lambda folder: os.truncate(folder / checkpoint.LAST, 1000))),
    Case("last.pt lost", then(lambda folder: (folder / checkpoint.LAST).unlink())),
    Case("last.pt and previous.pt damaged", then(lambda folder: [damage(folder / name) for name in BOTH]),
         lost=True),
    Case("all checkpoints lost", then(shutil.rmtree)),
    Case("the clock put back by a day", clock(-DAY)),
    Case("the clock put forward by a day", clock(DAY)),
)  # fmt: skip


def outcome(case: Case, cwd: Path, rooms: Path, whole: Path) -> str:
    """Disturb, give the same command again, compare; a row of the table."""
    cwd.mkdir()
    code = case.disturb(cwd, rooms)
    again = cli.run(cwd, rooms, *cli.SEARCH)
    if case.lost:
        end = f"refused with exit code {again}" if again else "NOT REFUSED"
    else:
        end = "the same bits" if again == 0 and identical(cwd / RUN, whole) else f"DIFFERENT (exit code {again})"
    log = (cwd / RUN / "train.log").read_text().splitlines()
    resumed = [line.split("resumed after ")[1] for line in log if "resumed after" in line]
    start = "no" if case.lost else f"after {resumed[-1]}" if resumed else "from the beginning"
    return f"| {case.name} | {code} | {start} | {end} |"


def identical(folder: Path, whole: Path) -> bool:
    """Whether two searches have left the same records, checkpoint and genotype."""
    genotypes = [(run / genotype.FILE_NAME).read_bytes() for run in (folder, whole)]
    return (
        genotypes[0] == genotypes[1]
        and cli.records(folder) == cli.records(whole)
        and cli.same(cli.last(folder), cli.last(whole))
    )


def main() -> None:
    """Print the table, row by row; exit code 1 where a row is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rooms = folder / "rooms"
        generate(rooms, train=small_rooms.TRAIN, val=small_rooms.VAL, image_size=small_rooms.SIZE, workers=1,
                 progress=False)  # fmt: skip
        assert cli.run(folder / "whole", rooms, *cli.SEARCH) == 0
        print("| What happens | Exit code | The same command goes on | In the end |")
        print("| :-- | --: | :-- | :-- |", flush=True)
        failed = False
        for number, case in enumerate(case for case in CASES if only in case.name):
            row = outcome(case, folder / str(number), rooms, folder / "whole" / RUN)
            print(row, flush=True)
            failed |= "DIFFERENT" in row or "NOT REFUSED" in row
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
