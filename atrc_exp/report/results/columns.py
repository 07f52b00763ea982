"""Columns of scores in tables: heading, unit, decimal places and direction of a task's headline metric."""

from atrc_exp.report.results.aggregate import Statistic
from atrc_exp.report.results.sheet import GAP
from atrc_exp.tasks import TASKS

PLACES = {"m": 4}  # decimal places by unit, as in the paper's tables
DEFAULT_PLACES = 2


def heading(name: str) -> str:
    """Heading of a task's column: metric, unit and direction."""
    task = TASKS[name]
    unit = f" [{task.unit}]" if task.unit else ""
    return f"{task.title} {task.metric}{unit} {'↑' if task.higher_is_better else '↓'}"


def scale(name: str) -> float:
    """Factor from a task's headline metric to the unit of its column."""
    return 100.0 if TASKS[name].unit == "%" else 1.0


def places(name: str) -> int:
    """Decimal places of a task's column."""
    return PLACES.get(TASKS[name].unit, DEFAULT_PLACES)


def measure(name: str, found: Statistic | None) -> str:
    """Mean ± standard deviation in the unit of the task's column, a gap where there is none."""
    if found is None:
        return GAP
    mean = f"{scale(name) * found.mean:.{places(name)}f}"
    return mean if found.std is None else f"{mean} ± {scale(name) * found.std:.{places(name)}f}"
