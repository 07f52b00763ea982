"""Multi-task performance relative to single-task baselines (Sec. 4.1)."""

from collections.abc import Iterable, Mapping

from atrc_exp.errors import UserError
from atrc_exp.tasks import Task


def delta_m(results: Mapping[str, float], baselines: Mapping[str, float], tasks: Iterable[Task]) -> float:
    """Mean relative gain over the tasks in per cent; a gain is positive whatever the metric's direction.

    Args:
        results: headline metric by task.
        baselines: the same of the single-task networks with the same backbone, in the same units.
        tasks: the tasks averaged over, all with the same weight.

    Raises:
        UserError: a task without result or baseline, a baseline of 0, or no task.
    """
    gains = []
    for task in tasks:
        if task.name not in results or task.name not in baselines:
            lacking = "result" if task.name not in results else "single-task baseline"
            raise UserError(f"Δm: no {lacking} for {task.name}; give one, or leave the task out")
        result, baseline = results[task.name], baselines[task.name]
        if baseline == 0:
            raise UserError(f"Δm: the single-task baseline of {task.name} is 0, a relative gain is undefined")
        gains.append(relative_gain(task, result, baseline))
    if not gains:
        raise UserError("Δm: no task to average over")
    return 100 * sum(gains) / len(gains)


def relative_gain(task: Task, result: float, baseline: float) -> float:
    """Gain of a task's headline metric over a baseline other than 0, as a fraction; positive is better."""
    gain = (result - baseline) / baseline
    return gain if task.higher_is_better else -gain
