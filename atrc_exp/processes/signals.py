"""The signals that end runs in good order, for a single run and for a sweep alike."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], None]


def answer(handler: Handler) -> dict[signal.Signals, Any]:
    """Set the handler of all these signals. SIGHUP stays ignored where it is, as under nohup.

    At a SIGHUP the terminal is gone. Standard output and error are led elsewhere, since printing would fail.

    Returns:
        The handlers before, by signal.
    """
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def hang_up(number: int, frame: FrameType | None) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in terminals:
            os.dup2(nowhere, stream)
        os.close(nowhere)
        handler(number, frame)

    handlers: dict[signal.Signals, Handler] = dict.fromkeys(SIGNALS, handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    else:
        handlers[signal.SIGHUP] = hang_up
    return {number: signal.signal(number, answered) for number, answered in handlers.items()}


@contextmanager
def held() -> Iterator[None]:
    """Let these signals wait in this thread, and in the processes that it starts here, which must unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
