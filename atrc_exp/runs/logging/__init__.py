"""Where records go: metrics.jsonl, the console, and W&B. Only rank 0 has any of them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrc_exp.config import Config
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.runs.files import LOG, RECORDS
from atrc_exp.runs.logging import wandb
from atrc_exp.runs.logging.console import ProgressDisplay, TrainLog
from atrc_exp.runs.logging.jsonl import JsonLines
from atrc_exp.tasks import Task

log = logging.getLogger(__name__)


class Logger:
    """Hands every record to every place; on ranks other than 0 it does nothing.

    Leaving this context manager closes all places. W&B gets exit code 1 after an error; after a signal it gets that of
    the signal, and is marked as preempting where a scheduler has ended the run.
    """

    def __init__(
        self, config: Config, folder: Path, run_id: str, tasks: Sequence[Task], *, iteration: int, is_main: bool
    ) -> None:
        self.is_main = is_main
        if not is_main:
            return
        self.train_log = TrainLog(folder / LOG)
        self.lines = JsonLines(folder / RECORDS, iteration)
        self.wandb = wandb.start(config, folder, run_id)
        self.display = ProgressDisplay(iteration, config.engine.iterations, tasks, bar=config.engine.progress)

    def step(self, iteration: int) -> None:
        """Show that a step is done. No numbers are shown, since reading them would wait for the device."""
        if self.is_main:
            self.display.step(iteration)

    def record(self, record: Mapping[str, Any]) -> None:
        """Log one record: `step`, `kind` (train, search or val) and numbers, nested at will."""
        if self.is_main:
            self.lines.record(record)
            self.display.record(record)
            if self.wandb is not None:
                self.wandb.record(record)

    def note(self, **facts: Any) -> None:
        """Add what has turned out about the run to its configuration in W&B."""
        if self.is_main and self.wandb is not None:
            self.wandb.note(facts)

    def image(self, step: int, key: str, draw: Callable[[], np.ndarray], caption: str | None = None) -> None:
        """Show a picture (H, W, 3) uint8 in W&B; it is drawn only where there is W&B."""
        if self.is_main and self.wandb is not None:
            self.wandb.image(step, key, draw(), caption=caption)

    def artifact(self, path: Path, kind: str, name: str) -> None:
        """Keep a file in W&B."""
        if self.is_main and self.wandb is not None:
            self.wandb.artifact(path, kind, name)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self.is_main:
            return
        self.display.close()
        interrupted = isinstance(error, Interrupted)
        if error is not None:
            log.log(logging.WARNING if interrupted else logging.ERROR, "stopped: %s", error or type(error).__name__)
        self.train_log.close()
        if self.wandb is not None:
            if isinstance(error, Interrupted):
                self.wandb.close(exit_code=128 + error.signal, preempted=error.preempted)
            else:
                self.wandb.close(exit_code=0 if error is None else 1)
