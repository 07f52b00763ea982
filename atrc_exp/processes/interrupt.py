"""Signals that end a run in good order: a checkpoint at the next step boundary, then the exit code of the signal.

SIGTERM (scheduler), SIGINT (Ctrl-C), SIGUSR1 (Slurm's `--signal=USR1@120`, a warning before the time limit) and SIGHUP
(the terminal has gone; ignored under nohup) all do the same. Where another program has set a handler, such as submitit
its SIGUSR2 that queues the job again, that handler is called after the checkpoint. A second SIGINT leaves at once.
"""

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist

from atrc_exp.processes import local_sweep, orphans, slurm
from atrc_exp.processes.ranks import Ranks
from atrc_exp.processes.signals import answer

log = logging.getLogger(__name__)

QUEUE_AGAIN = signal.SIGUSR2
"""The run answers it only where somebody has set a handler for it; submitit's handler queues the job again."""


class Interrupted(SystemExit):
    """A signal ends the run, whose state is saved. The exit code is 128 + signal, as shells and schedulers expect."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return f"{self.signal.name}; the same command goes on from the last checkpoint"

    @property
    def preempted(self) -> bool:
        """Whether a scheduler took the machine away, rather than a person stopping the run."""
        return self.signal is not signal.SIGINT


class Interruption:
    """Remembers a signal until the run asks for it. This context manager must be entered in the main thread.

    A rank whose torchrun has died, and a run of a sweep whose launcher has, take that as SIGTERM, so that they do not
    go on unseen.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}
        self._vote: tuple[torch.Tensor, Any] | None = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = answer(self._remember)
            if callable(signal.getsignal(QUEUE_AGAIN)):
                self._before[QUEUE_AGAIN] = signal.signal(QUEUE_AGAIN, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, Interrupted):
            # Slurm announces a pre-emption by SIGTERM alone, and does not queue a job again that ends by itself.
            preempted = error.signal is signal.SIGTERM and QUEUE_AGAIN in self._before and slurm.preempted()
            number = QUEUE_AGAIN if preempted else error.signal
            before = self._before.get(number)
            if callable(before) and before is not signal.default_int_handler:
                signal.raise_signal(number)  # submitit's handler queues the job again and exits by itself

    def agreed(self) -> int:
        """Signal that the run ends with, 0 for none; collective: the same on every rank at the same step.

        With several ranks the answer is that of the call before, so that no rank waits for the slowest in every step.
        """
        own = self._own()
        if self.ranks.world == 1:
            return own
        agreed = self.finish_vote()
        ballot = torch.tensor(own)  # on the CPU (gloo), so that nothing waits for the device
        self._vote = (ballot, dist.all_reduce(ballot, op=dist.ReduceOp.MAX, async_op=True))
        return agreed

    def finish_vote(self) -> int:
        """Return the result of the vote under way, 0 where there is none. All ranks must call this."""
        if self._vote is None:
            return 0
        (ballot, handle), self._vote = self._vote, None
        handle.wait()
        return int(ballot)

    def leave_if_asked(self, result: object = None) -> None:
        """End this rank at once where it has had a signal. Use it in work that begins with a checkpoint.

        Args:
            result: is not looked at; it lets a validation call this method after each image.

        Raises:
            Interrupted: there was a signal.
        """
        if number := self._own():
            raise Interrupted(number)

    def _own(self) -> int:
        if orphans.orphaned():
            return signal.SIGTERM
        return self.number or local_sweep.noted()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT == self.number:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self.number = number
        again = "; Ctrl-C again leaves at once" if number == signal.SIGINT else ""
        log.warning("%s: a checkpoint follows at the next step%s", signal.Signals(number).name, again)
