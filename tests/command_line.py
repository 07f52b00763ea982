"""The real command line in processes that start fast, forked from a server that has imported the package, and that are
killed where a test wants it."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from atrc_exp.runs import checkpoint
from atrc_exp.runs.logging.jsonl import read

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["command_line", "atrc_exp.__main__", "atrc_exp.stages.training", "atrc_exp.data.augment",
                               "atrc_exp.metrics.miou", "atrc_exp.metrics.depth", "sklearn.cluster"])  # fmt: skip
MEASURED = ("seconds_per_step", "memory_mib")
SEARCH = ("+experiment=rooms_hrnet18_search", "backbone=timm", "backbone.name=mobilenetv3_small_050",
          "backbone.weights=random", "distillation.channels=8", "distillation.kernel_size=3", "search.arch_lr=0.4",
          "search.freeze_gap=0.05", "engine.iterations=8", "engine.batch_size=2", "engine.val_batch_size=1",
          "engine.validate_every=4", "engine.checkpoint_every=3", "engine.log_every=1", "engine.workers=1",
          "engine.progress=false", "engine.memory_check=false", "tasks=[semseg,depth]", "logger=none")  # fmt: skip
"""A search of seconds in which blocks freeze."""


def start(
    cwd: Path, rooms: Path, *overrides: str, kill: tuple[str, int] | None = None, **environment: str
) -> BaseProcess:
    """Start `python -m atrc_exp` in `cwd` on rooms of `small_rooms`, in a process group of its own.

    Args:
        kill: the process kills itself with SIGKILL at the n-th (from 1) "step" (after the optimisers, before the step
            counts), "write" (of a checkpoint, nothing in place yet), or "image" (of a validation).
    """
    data = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2",
            "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={cwd / 'cache'}")  # fmt: skip
    cwd.mkdir(exist_ok=True)
    process = SERVER.Process(target=_main, args=(cwd, [*data, *overrides], kill, environment))
    process.start()
    return process


def run(cwd: Path, rooms: Path, *overrides: str, **options: Any) -> int:
    """Wait for the command and return its exit code, negative for a signal."""
    process = start(cwd, rooms, *overrides, **options)
    process.join(900)
    assert process.exitcode is not None, "the command hangs"
    return process.exitcode


def _main(cwd: Path, arguments: list[str], kill: tuple[str, int] | None, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    os.chdir(cwd)
    console = os.open("console.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(console, 1)
    os.dup2(console, 2)
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers, as from a command line
    torch.set_num_threads(1)
    if kill is not None:
        _kill_at(*kill)
    sys.argv = ["atrc_exp", *sorted(arguments, key=lambda argument: not argument.startswith("-"))]
    from atrc_exp.__main__ import main

    main()


def _kill_at(place: str, number: int) -> None:
    from atrc_exp.processes import interrupt
    from atrc_exp.training import step

    holder: Any = {"step": step, "write": os, "image": interrupt.Interruption}[place]
    name = {"step": "_update", "write": "fsync", "image": "leave_if_asked"}[place]
    function, calls = getattr(holder, name), 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        result, calls = function(*arguments), calls + 1
        if calls == number:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(holder, name, counted)


def records(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """Records of a run without what a clock or the operating system measured."""
    found = read(folder / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k not in MEASURED} for r in found if r["kind"].startswith(kind)]


def last(folder: Path) -> dict[str, Any]:
    """The latest checkpoint of a run, without what a clock measured and without the run's random identity."""
    state = checkpoint.load(folder / "checkpoints" / checkpoint.LAST)
    return {key: value for key, value in state.items() if key not in ("seconds", "run_id")}


def same(left: Any, right: Any) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right
