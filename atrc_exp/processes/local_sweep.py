"""Runs side by side on this machine (`hydra/launcher=joblib`): what workers need, and how a signal ends all runs.

joblib answers a Ctrl-C by killing its workers, and the end of one worker by killing the others. Therefore no signal is
sent to a worker: they leave the process group of the terminal, and the launching process notes a signal in a file. Runs
look there where they look for signals of their own, and a job that has not begun returns at once. For the same reason
each run is a process of its own below its worker: where the kernel kills one for lack of memory, the others go on.
Where it is a worker that was killed, runs outlive the workers that joblib kills; each finds its own gone, and saves.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import IO, Any

from atrc_exp.files import alone, take_lock, write_text
from atrc_exp.processes import orphans
from atrc_exp.processes.signals import SIGNALS, answer

NOTE_VARIABLE = "ATRC_EXP_SWEEP_SIGNAL"
"""Environment variable that holds the path of the note in the launching process and its workers."""

_LOOK = 1.0  # seconds between a worker's looks for its launcher
_running: int | None = None  # process id of the run below this worker
_first: int | None = None  # number of the first job of this worker
_lock: IO[Any] | None = None  # that this worker and its run hold, until both have ended


def watch(note: Path) -> None:
    """Answer signals to this process for a sweep that it is about to launch.

    Args:
        note: file that the signal is noted in; it does not exist yet.
    """
    os.environ[NOTE_VARIABLE] = str(note.absolute())
    answer(_stop)


def is_worker() -> bool:
    """Tell whether this process, which runs a job, is a worker of a sweep on this machine. `n_jobs=1` has no worker."""
    return NOTE_VARIABLE in os.environ and multiprocessing.parent_process() is not None


def join() -> None:
    """Prepare this worker for its next job. From its first job on, the worker ends when its launcher does."""
    global _lock
    if os.getsid(0) != os.getpid():
        os.setsid()
        launcher = multiprocessing.parent_process()
        assert launcher is not None and launcher.pid is not None
        orphans.depend_on(launcher.pid)
        signal.signal(signal.SIGALRM, _look_for_launcher)
        signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
        with suppress(OSError):  # on a full disk nobody waits for this worker's run if it loses its worker
            path = _locks() / f"{os.getpid()}.lock"
            path.parent.mkdir(parents=True, exist_ok=True)
            _lock = path.open("w")
            take_lock(_lock, wait=False)
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type] # joblib's own starts no loader processes
    answer(_pass_on)


def run_apart(number: int, job: Callable[[int], None]) -> int:
    """Run a job of this worker in a process below it and wait for its end.

    Args:
        number: position of the job in its sweep.
        job: called with the number of this worker's first job, which tells workers apart.

    Returns:
        The exit code of the process, negative where a signal has killed it.
    """
    global _running, _first
    _first = number if _first is None else _first
    process = multiprocessing.get_context("fork").Process(target=_below, args=(job, _first, os.getpid()))
    process.start()
    _running = process.pid
    process.join()
    _running = None
    if orphans.orphaned():
        os._exit(128 + signal.SIGTERM)
    assert process.exitcode is not None
    return process.exitcode


def describe(code: int) -> str:
    """Put an exit code of `run_apart` into words."""
    if code != -signal.SIGKILL:
        return f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "SIGKILL, by which the kernel also frees memory"


def noted() -> int:
    """Return the signal that ends the sweep which this process belongs to, 0 for none."""
    try:
        return int(Path(os.environ[NOTE_VARIABLE]).read_text(encoding="utf-8"))
    except (KeyError, FileNotFoundError):
        return 0


def end_worker(worker: BaseProcess) -> None:
    """End a worker as joblib does, but not what is below it: the run finds its worker gone, saves and leaves."""
    if worker.pid is not None and worker.exitcode is None:
        os.kill(worker.pid, signal.SIGKILL)
    worker.join()


def wait_for_workers() -> None:
    """Wait, in the launching process, until all workers have ended and all runs that have lost their worker."""
    for path in _locks().glob("*.lock"):
        with alone(path):
            pass


def _locks() -> Path:
    return Path(os.environ[NOTE_VARIABLE]).parent


def _below(job: Callable[[int], None], first: int, worker: int) -> None:
    orphans.depend_on(worker)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    job(first)


def _look_for_launcher(number: int, frame: FrameType | None) -> None:
    if orphans.orphaned():
        if _running is None:
            os._exit(128 + signal.SIGTERM)
        _pass_on(signal.SIGTERM, frame)  # the run saves, and `run_apart` leaves


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Pass a signal to this worker on to its run: if the worker itself ended, joblib would end the others."""
    if _running is not None:
        with suppress(ProcessLookupError):
            os.kill(_running, number)


def _stop(number: int, frame: FrameType | None) -> None:
    """Let the runs end. This is called in the launching process, where a second Ctrl-C leaves at once."""
    if number == signal.SIGINT == noted():
        for worker in [child.pid for child in multiprocessing.active_children() if child.pid]:
            with suppress(ProcessLookupError):  # it has not joined
                os.killpg(worker, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    write_text(Path(os.environ[NOTE_VARIABLE]), str(int(number)))
    again = "; Ctrl-C again leaves at once" if number == signal.SIGINT else ""
    print(f"{signal.Signals(number).name}: running jobs save and end, no other starts{again}", file=sys.stderr)
