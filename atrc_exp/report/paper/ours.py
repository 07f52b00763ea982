"""Our runs in the rows of a table of the paper: what is there, what is missing, and what does not belong there.

A run stands in a row only if it is what the row says (module, tasks, form, dataset), and the rows of a table stand
together only under the same data, backbone and number of iterations. The others become gaps with a reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from atrc_exp.errors import UserError
from atrc_exp.report.paper.published import Published, Table
from atrc_exp.report.results.aggregate import Delta, Row, Statistic, aggregate, delta_against, statistics_of
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.finished import Setting, left_out, read_runs, seed_folders
from atrc_exp.tasks import TASKS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What stands beside one row of the paper."""

    published: Published
    names: Mapping[str, str]
    """Name of the runs by task."""
    values: Mapping[str, Mapping[int, float]]
    """Headline metric of every run by task and seed, in the metric's own unit."""
    statistics: Mapping[str, Statistic]
    seeds: Mapping[str, int]
    """Number of finished runs by name, of the names that stand in the row."""
    delta: Delta | None
    """None unless every task has a value."""
    parameters: int | None
    """Parameters of all networks of the row; None unless every name has runs."""
    gap: str
    """What stands in place of the number of seeds where there is none: missing, unfinished or left out."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A table of ours."""

    tasks: tuple[str, ...]
    rows: tuple[Ours, ...]
    settings: tuple[Setting, ...]
    """Conditions of the runs, one a backbone."""


def find(table: Table, runs_dir: Path, dataset: str) -> Found:
    """Read the runs of the table's presets for `dataset` in `runs_dir`."""
    tasks = table.tasks if dataset == table.dataset or table.part else _tasks_of_runs(table, runs_dir, dataset)
    fitting: dict[str, Row] = {}
    reasons: dict[str, tuple[str, str]] = {}
    for published in table.rows:
        for name in dict.fromkeys(published.run_names(dataset, tasks).values()):
            try:
                fitting[name] = _read(runs_dir / name, published, dataset, tasks)
            except _GapError as gap:
                reasons[name] = gap.word, gap.note
    for name, reason in _strangers(table, fitting, dataset, tasks).items():
        del fitting[name]
        reasons[name] = "left out", reason
    baselines = [row for row in fitting.values() if row.experiment.is_baseline]
    rows = [_ours(published, published.run_names(dataset, tasks), fitting, reasons, baselines)
            for published in table.rows]  # fmt: skip
    return Found(tasks, tuple(rows), tuple(dict.fromkeys(row.experiment.setting for row in fitting.values())))


class _GapError(Exception):
    """Why a name has no place in a row: a word for the table, and a note."""

    def __init__(self, word: str, note: str = "") -> None:
        super().__init__(word, note)
        self.word, self.note = word, note


def _tasks_of_runs(table: Table, runs_dir: Path, dataset: str) -> tuple[str, ...]:
    """Tasks that the table's networks have on a dataset that the paper's table is not about."""
    names = {name for published in table.rows for name in published.run_names(dataset, tuple(TASKS)).values()}
    found: set[str] = set()
    for name in names:
        found.update(task for run in read_runs(runs_dir / name) for task in run.experiment.tasks)
    return tuple(task for task in TASKS if task in found)


def _read(folder: Path, published: Published, dataset: str, tasks: Sequence[str]) -> Row:
    """Aggregate the runs of one name.

    Raises:
        _GapError: the runs cannot stand in the row.
    """
    if not seed_folders(folder):
        raise _GapError("missing")
    others = left_out(folder)
    if len(others) == len(seed_folders(folder)):
        word = "left out" if any((path / SUMMARY).is_file() for path in others) else "unfinished"
        raise _GapError(word, "; ".join(f"{path.parent.name}/{path.name}: {why}" for path, why in others.items()))
    try:
        row = aggregate(folder)
    except UserError as error:
        raise _GapError("left out", str(error)) from None
    experiment = row.experiment
    own = {task for task, name in published.run_names(dataset, tasks).items() if name == folder.name}
    expected = {
        "stage": ("retrain", experiment.stage),
        "dataset": (dataset, experiment.setting.dataset),
        "distillation": (published.distillation, experiment.distillation),
        "tasks": (_listed(own), _listed(experiment.tasks)),
        "classifications": (_listed(own if published.is_classification else ()), _listed(experiment.classifications)),
        "objective": ("", ", ".join(experiment.objective)),
    }
    wrong = [f"{key} {given or 'none'} where the row has {wanted or 'none'}"
             for key, (wanted, given) in expected.items() if given != wanted]  # fmt: skip
    if wrong:
        raise _GapError("left out", f"{folder.name} is another experiment: {'; '.join(wrong)}")
    return row


def _listed(tasks: Iterable[str]) -> str:
    return ", ".join(task for task in TASKS if task in tasks)


def _strangers(table: Table, rows: Mapping[str, Row], dataset: str, tasks: Sequence[str]) -> dict[str, str]:
    """Names that were not trained under the conditions of most of the others, each with the difference."""
    backbones = {name: published.backbone for published in table.rows
                 for name in published.run_names(dataset, tasks).values()}  # fmt: skip
    settings = {name: row.experiment.setting for name, row in rows.items()}
    data = _most_common([(setting.fingerprint, setting.iterations) for setting in settings.values()])
    common = {
        backbone: _most_common([
            setting for name, setting in settings.items()
            if backbones[name] == backbone and (setting.fingerprint, setting.iterations) == data
        ])
        for backbone in backbones.values()
    }  # fmt: skip
    return {name: f"{name} was trained on {setting}, the other rows on {common[backbones[name]] or 'other data'}"
            for name, setting in settings.items() if setting != common[backbones[name]]}  # fmt: skip


def _most_common(values: Sequence[T]) -> T | None:
    """Return the value that occurs most often, the first of several; None for no values."""
    found = Counter(values).most_common(1)
    return found[0][0] if found else None


def _ours(
    published: Published,
    names: Mapping[str, str],
    fitting: Mapping[str, Row],
    reasons: Mapping[str, tuple[str, str]],
    baselines: Sequence[Row],
) -> Ours:
    parts = {name: fitting[name] for name in names.values() if name in fitting}
    gaps = {name: reasons[name] for name in names.values() if name in reasons}
    values = {task: fitting[name].values[task] for task, name in names.items()
              if name in fitting and task in fitting[name].values}  # fmt: skip
    statistics = statistics_of(values)
    delta = None
    if parts and len(statistics) == len(names):
        experiment = next(iter(parts.values())).experiment
        delta = delta_against(baselines, replace(experiment, tasks=tuple(names)), statistics)
    counts = [row.parameters for row in parts.values()]
    known = [count for count in counts if count is not None]
    notes = [note for row in parts.values() for note in row.notes]
    notes += [note or f"{name} is missing" for name, (_, note) in gaps.items() if note or parts]
    return Ours(
        published=published,
        names=names,
        values=values,
        statistics=statistics,
        seeds={name: len(row.seeds) for name, row in parts.items()},
        delta=delta,
        parameters=sum(known) if len(known) == len(set(names.values())) else None,
        gap="" if parts else " and ".join(dict.fromkeys(word for word, _ in gaps.values())),
        notes=tuple(notes),
    )
