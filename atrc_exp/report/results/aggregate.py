"""Mean, sample standard deviation and Δm of repeated runs (Sec. 4.1).

The runs of one name must be repetitions of one experiment; whatever else is found is refused, never averaged.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.metrics.delta import delta_m
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.finished import Experiment, RunResult, common_experiment, left_out, read_runs, run_name, run_names
from atrc_exp.tasks import TASKS


@dataclass(frozen=True)
class Statistic:
    """Mean over n runs and sample standard deviation (n - 1), which one run does not have."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Delta:
    """Δm over `tasks` in per cent; None where it is undefined. `note` names the reason or the baselines."""

    tasks: tuple[str, ...]
    value: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """The repeated runs of one name."""

    name: str
    seeds: tuple[int, ...]
    experiment: Experiment
    values: Mapping[str, Mapping[int, float]]
    """Headline metric of every run by task and seed, in the metric's own unit."""
    delta: Delta | None
    """None for the single-task baselines themselves and for runs without any headline metric."""
    notes: tuple[str, ...]
    parameters: int | None = None
    """Number of the network."""

    @cached_property
    def statistics(self) -> Mapping[str, Statistic]:
        """Mean and standard deviation by task."""
        return statistics_of(self.values)


def statistic(values: Sequence[float]) -> Statistic:
    """Mean and sample standard deviation of at least one value."""
    return Statistic(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def statistics_of(values: Mapping[str, Mapping[int, float]]) -> dict[str, Statistic]:
    """Mean and standard deviation over the seeds, by task."""
    return {task: statistic(list(found.values())) for task, found in values.items()}


def _values(runs: Sequence[RunResult]) -> dict[str, dict[int, float]]:
    values = {
        task: {run.seed: run.headline[task] for run in runs if task in run.headline}
        for task in runs[0].experiment.tasks
    }
    return {task: found for task, found in values.items() if found}


def aggregate(folder: Path, baselines: Sequence[Row] = ()) -> Row:
    """Summarise the finished runs of one name; Δm is measured against the fitting ones of `baselines`.

    Raises:
        UserError: no finished run, or runs that are no repetitions of one experiment.
    """
    runs, others = read_runs(folder), left_out(folder)
    if not runs:
        damaged = [reason for path, reason in others.items() if (path / SUMMARY).is_file()]
        advice = "; ".join(damaged) or "run the experiment first"
        raise UserError(f"{folder} holds no finished run (no seed*/{SUMMARY}): {advice}")
    experiment = common_experiment(runs)
    found = _values(runs)
    notes = [
        f"{task}: mean over {len(found[task])} of {len(runs)} seeds, the others have no value"
        for task in found
        if len(found[task]) < len(runs)
    ]
    lacking = [task for task in experiment.tasks if task not in found]
    if lacking:
        notes.append(f"no headline metric in these runs for: {', '.join(lacking)}")
    notes += [f"{run_name(folder)}/{path.name} is left out: {reason}" for path, reason in others.items()]
    notes += [f"data: {note}" for note in dict.fromkeys(note for run in runs for note in run.data_notes)]
    return Row(
        name=run_name(folder),
        seeds=tuple(run.seed for run in runs),
        experiment=experiment,
        values=found,
        delta=delta_against(baselines, experiment, statistics_of(found)),
        notes=tuple(notes),
        parameters=runs[0].parameters,
    )


def find_baselines(runs_dir: Path) -> list[Row]:
    """Single-task runs in `runs_dir`, one row for each name and setting (a name may hold runs of several lengths)."""
    rows = []
    for folder in run_names(runs_dir):
        groups: dict[Experiment, list[RunResult]] = {}
        for run in read_runs(folder):
            if run.experiment.is_baseline:
                groups.setdefault(run.experiment, []).append(run)
        for experiment, runs in groups.items():
            seeds = tuple(run.seed for run in runs)
            rows.append(Row(name=run_name(folder), seeds=seeds, experiment=experiment, values=_values(runs),
                            delta=None, notes=()))  # fmt: skip
    return rows


def delta_against(baselines: Iterable[Row], experiment: Experiment, found: Mapping[str, Statistic]) -> Delta | None:
    """Δm from the means over the tasks that have a headline metric here and in their baseline runs.

    None for a baseline itself and where no task has a metric. A task without any baseline run, or with those of two
    names, leaves Δm undefined: over fewer tasks it would be another number.
    """
    if experiment.is_baseline:
        return None
    fitting = [row for row in baselines if row.experiment.setting == experiment.setting]
    by_task = {task: [row for row in fitting if row.experiment.tasks == (task,)] for task in found}
    tasks = tuple(task for task, rows in by_task.items() if not rows or any(row.statistics for row in rows))
    if not tasks:
        return None
    missing = [task for task in tasks if not by_task[task]]
    if missing:
        return Delta(tasks, None, f"no single-task runs of {', '.join(missing)} on {experiment.setting}")
    for task in tasks:
        if len(by_task[task]) > 1:
            names = ", ".join(row.name for row in by_task[task])
            return Delta(tasks, None, f"several single-task baselines of {task}: {names}; keep one of them")
    chosen = {task: by_task[task][0] for task in tasks}
    means = {task: found[task].mean for task in tasks}
    references = {task: row.statistics[task].mean for task, row in chosen.items()}
    try:
        value = delta_m(means, references, [TASKS[task] for task in tasks])
    except UserError as error:
        return Delta(tasks, None, str(error))
    names = ", ".join(f"{row.name} (n={row.statistics[task].n})" for task, row in chosen.items())
    return Delta(tasks, value, f"Δm against {names}")
