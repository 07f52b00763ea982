"""Differences of rows to the baselines, paired by seed, with confidence intervals.

The runs of one seed read the same images in the same order and, where weights are pretrained, start from the same ones;
they are compared seed by seed: Student's t interval of the mean difference. A row is called better or worse only where
its interval leaves zero out. Intervals are not corrected for the number of comparisons.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from atrc_exp.errors import UserError
from atrc_exp.metrics.delta import delta_m
from atrc_exp.report.results.columns import DEFAULT_PLACES, heading, places, scale
from atrc_exp.report.results.sheet import GAP, Cell, Sheet
from atrc_exp.tasks import TASKS

LEVEL = 0.95
_MARKS = {1: " ▲", -1: " ▼", 0: ""}

Values = Mapping[str, Mapping[int, float]]
"""Headline metric by task and seed, in the metric's own unit."""


@dataclass(frozen=True)
class Difference:
    """Mean over n seeds of (ours - reference), and its interval, which fewer than two seeds do not have."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def verdict(self, higher_is_better: bool) -> int:
        """1 where ours is better, -1 where it is worse, 0 where the interval holds zero or is missing."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return 0
        return 1 if (self.low > 0) == higher_is_better else -1


@dataclass(frozen=True)
class Compared:
    """A row: its title, and the values of its runs."""

    title: str
    values: Values


def difference(ours: Sequence[float], reference: Sequence[float]) -> Difference | None:
    """Mean of the paired differences with Student's t interval; None without a pair."""
    differences = [a - b for a, b in zip(ours, reference, strict=True)]
    n = len(differences)
    if not n:
        return None
    mean = math.fsum(differences) / n
    if n == 1:
        return Difference(mean, None, None, n)
    if math.isclose(max(differences), min(differences)):  # SciPy answers nan where nothing varies
        return Difference(mean, mean, mean, n)
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(LEVEL)
    return Difference(mean, float(low), float(high), n)


def by_task(ours: Values, reference: Values) -> dict[str, Difference]:
    """Differences of the headline metrics over the seeds that both have, in the metrics' own units."""
    found = {}
    for task in TASKS:
        mine, other = ours.get(task, {}), reference.get(task, {})
        common = sorted(mine.keys() & other.keys())
        if paired := difference([mine[seed] for seed in common], [other[seed] for seed in common]):
            found[task] = paired
    return found


def of_delta(ours: Values, reference: Values) -> Difference | None:
    """Mean and interval of Δm of every seed against the same seed of the reference, in per cent.

    The result is None where Δm is undefined or a task of ours is not in the reference.
    """
    if not ours or not ours.keys() <= reference.keys():
        return None
    common = set.intersection(*(ours[task].keys() & reference[task].keys() for task in ours))
    try:
        deltas = [
            delta_m({task: ours[task][seed] for task in ours}, {task: reference[task][seed] for task in ours},
                    [TASKS[task] for task in ours])
            for seed in sorted(common)
        ]  # fmt: skip
    except UserError:
        return None
    return difference(deltas, [0.0] * len(deltas))


def sheet(name: str, conditions: str, rows: Sequence[Compared], references: Sequence[Compared]) -> Sheet | None:
    """The table of all rows against all references but themselves; None where nothing can be paired.

    Args:
        name: that of the table of results whose rows these are.
        conditions: what the heading says of the conditions under which the rows are compared.
        references: baselines, most often the multi-task and the single-task networks.
    """
    pairs = [
        (row, reference, by_task(row.values, reference.values), of_delta(row.values, reference.values))
        for reference in references
        for row in rows
        if row.title != reference.title
    ]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        return None
    tasks = [task for task in TASKS if any(task in found for _, _, found, _ in pairs)]
    lines, records = [], []
    for row, reference, found, delta in pairs:
        seeds = sorted({each.n for each in found.values()})
        cells = [Cell(row.title), Cell(reference.title), Cell("–".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))))]
        cells += [_cell(found.get(t), scale(t), places(t), TASKS[t].higher_is_better) for t in tasks]
        lines.append((*cells, _cell(delta, 1.0, DEFAULT_PLACES, True)))
        records.append(_record(row, reference, found, delta))
    return Sheet(
        name=f"{name}_differences",
        title=f"Differences paired by seed, {conditions}",
        header=("Run", "minus", "Pairs", *map(heading, tasks), "Δm against it [%] ↑"),
        rows=tuple(lines),
        notes=(
            f"Mean difference [{100 * LEVEL:.0f} % interval of Student's t]; ▲ better and ▼ worse where the interval "
            "leaves zero out, not corrected for the number of comparisons. Δm here is the mean of the seeds' own.",
        ),
        align="ll" + "r" * (len(tasks) + 2),
        records=tuple(records),
    )


def _cell(found: Difference | None, factor: float, digits: int, higher_is_better: bool) -> Cell:
    if found is None:
        return Cell(GAP)
    verdict = found.verdict(higher_is_better)
    text = f"{factor * found.mean:+z.{digits}f}"
    if found.low is not None and found.high is not None:
        text += f" [{factor * found.low:+z.{digits}f}, {factor * found.high:+z.{digits}f}]{_MARKS[verdict]}"
    return Cell(text, 1 if verdict == 1 else None)


def _record(
    row: Compared, reference: Compared, found: Mapping[str, Difference], delta: Difference | None
) -> dict[str, Any]:
    record: dict[str, Any] = {"title": row.title, "minus": reference.title}
    for task, each in found.items():
        record |= _numbers(f"{task}_{TASKS[task].metric}", each, scale(task), TASKS[task].higher_is_better)
    return record | (_numbers("delta_m_percent", delta, 1.0, True) if delta else {})


def _numbers(key: str, found: Difference, factor: float, higher_is_better: bool) -> dict[str, Any]:
    interval = [None if end is None else factor * end for end in (found.low, found.high)]
    return {key: factor * found.mean, f"{key}_low": interval[0], f"{key}_high": interval[1], f"{key}_pairs": found.n,
            f"{key}_verdict": ("worse", "open", "better")[found.verdict(higher_is_better) + 1]}  # fmt: skip
