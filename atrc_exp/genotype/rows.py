"""Rows of a genotype: a task, or a task at one scale of a pyramid, `semseg@0` at the finest."""

from collections.abc import Iterable

AT = "@"
"""Between task and scale; no name of a task has it."""


def row_of(task: str, scale: int) -> str:
    """The row of a task at a scale, counted from the finest."""
    return f"{task}{AT}{scale}"


def rows_of(tasks: Iterable[str], scales: int) -> tuple[str, ...]:
    """All rows, scale by scale from the finest; the tasks themselves where no scale has rows of its own (0)."""
    tasks = tuple(tasks)
    return tuple(row_of(task, scale) for scale in range(scales) for task in tasks) if scales else tasks


def task_of(row: str) -> str:
    """The task of a row."""
    return row.partition(AT)[0]


def scale_of(row: str) -> int:
    """The scale of a row; 0 of one that is for no scale in particular."""
    return int(row.partition(AT)[2] or 0)
