"""What a person sees: train.log, and on a terminal a progress bar with losses, time left and memory."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from atrc_exp.tasks import Task

log = logging.getLogger(__name__)

_ROOT = logging.getLogger("atrc_exp")
_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
_TERMINAL = Console()
_BAR = 16  # columns


def show_messages(is_main: bool) -> None:
    """Show messages of the package on the console: all of rank 0, warnings of the others.

    This does nothing where the application has set up logging itself.
    """
    _ROOT.setLevel(logging.INFO if is_main else logging.WARNING)
    if _ROOT.hasHandlers():
        return
    handler: logging.Handler
    if _TERMINAL.is_terminal:
        handler = RichHandler(console=_TERMINAL, show_path=False, markup=False)
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_FORMAT)
    _ROOT.addHandler(handler)


@contextmanager
def image_progress(title: str, total: int, *, bar: bool) -> Iterator[Callable[..., None]]:
    """Show a bar over images on a terminal.

    The caller gets a function to call after each image, or with `share=` after a part of one. Its other arguments are
    not looked at.
    """
    with Progress(console=_TERMINAL, disable=not (bar and _TERMINAL.is_terminal)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda *_, share=1.0: progress.advance(task, share)


class TrainLog:
    """Copies messages of the package to a file until it is closed."""

    def __init__(self, path: Path) -> None:
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.handler.setFormatter(_FORMAT)
        _ROOT.addHandler(self.handler)

    def close(self) -> None:
        _ROOT.removeHandler(self.handler)
        self.handler.close()


def training_bar(console: Console) -> Progress:
    """A bar with count, time spent and time left, and a `text` that takes the rest of the line and no more."""
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)

    def fixed() -> Column:
        return Column(no_wrap=True)

    return Progress(
        BarColumn(_BAR, table_column=Column(width=_BAR)), MofNCompleteColumn(table_column=fixed()),
        TimeElapsedColumn(table_column=fixed()), TextColumn("left", table_column=fixed()),
        TimeRemainingColumn(table_column=fixed()), TextColumn("{task.fields[text]}", markup=False, table_column=rest),
        console=console, expand=True,
    )  # fmt: skip


class ProgressDisplay:
    """A bar on a terminal, a line a record elsewhere."""

    def __init__(self, iteration: int, iterations: int, tasks: Sequence[Task], *, bar: bool) -> None:
        self.iterations = iterations
        self.losses = ("loss", *(name for task in tasks for name in (task.name, f"{task.name}_aux")), "skipped_steps")
        self.scores = ("loss", *(f"{task.name}/{key}" for task in tasks for key in (task.metric, "loss")))
        self.progress: Progress | None = None
        if bar and _TERMINAL.is_terminal:
            self.progress = training_bar(_TERMINAL)
            self.progress.start()
            self.task = self.progress.add_task("", total=iterations, completed=iteration, text="")

    def step(self, iteration: int) -> None:
        """Move the bar. This costs the host microseconds and the device nothing."""
        if self.progress is not None:
            self.progress.update(self.task, completed=iteration)

    def record(self, record: Mapping[str, Any]) -> None:
        """Show the losses of a training record or the scores of a validation."""
        if record["kind"] == "train":
            left = (self.iterations - record["step"]) * record["seconds_per_step"]
            memory = f"{record['memory_mib'] / 1024:.1f} GiB"
            text = _numbers(record, self.losses)
            if self.progress is not None:
                self.progress.update(self.task, text=f"{memory}  {text}")
            else:
                log.info("%d/%d  %s  %s  %s left", record["step"], self.iterations, text, memory, duration(left))
        elif record["kind"] == "val":
            log.info("validation at %d: %s", record["step"], _numbers(record, self.scores))

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


def _numbers(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    return " ".join(f"{key} {record[key]:.4g}" for key in keys if key in record)


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
