"""Runs side by side on this machine (`hydra/launcher=joblib`): what workers need, and how a signal ends all runs.

joblib answers a Ctrl-C by killing its workers, and the end of one worker by killing the others. Therefore no signal is
sent to a worker: they leave the process group of the terminal, and whoever gets a signal notes it in a file. Runs look
there where they look for signals of their own, and a job that has not begun returns at once.
"""

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from atrc_exp.files import write_text

NOTE_VARIABLE = "ATRC_EXP_SWEEP_SIGNAL"
"""Environment variable that holds the path of the note in the launching process and its workers."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def watch(note: Path) -> None:
    """Answer signals to this process for a sweep that it is about to launch.

    Args:
        note: file that the signal is noted in; it does not exist yet.
    """
    os.environ[NOTE_VARIABLE] = str(note.absolute())
    for number in SIGNALS:
        signal.signal(number, _stop)


def is_worker() -> bool:
    """Whether this process, which runs a job, is a worker of a sweep on this machine."""
    return NOTE_VARIABLE in os.environ


def join() -> None:
    """Prepare this worker for its next job."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type] # joblib's own starts no loader processes
    for number in SIGNALS:
        signal.signal(number, _note)


def noted() -> int:
    """The signal that ends the sweep which this process belongs to, 0 for none."""
    try:
        return int(Path(os.environ[NOTE_VARIABLE]).read_text(encoding="utf-8"))
    except (KeyError, FileNotFoundError):
        return 0


def _note(number: int, frame: FrameType | None) -> None:
    write_text(Path(os.environ[NOTE_VARIABLE]), str(int(number)))


def _stop(number: int, frame: FrameType | None) -> None:
    """In the launching process: let the runs end; the second Ctrl-C ends them itself."""
    if number == signal.SIGINT == noted():
        for worker in [child.pid for child in multiprocessing.active_children() if child.pid]:
            with suppress(ProcessLookupError):  # it has not joined
                os.killpg(worker, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    _note(number, frame)
    again = "; Ctrl-C again leaves at once" if number == signal.SIGINT else ""
    print(f"{signal.Signals(number).name}: running jobs save and end, no other starts{again}", file=sys.stderr)
