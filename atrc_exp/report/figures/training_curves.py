"""Losses and scores over the iterations, and the dynamics of a search, from the records in `metrics.jsonl`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from atrc_exp.errors import UserError
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.columns import heading, scale
from atrc_exp.runs.files import RECORDS
from atrc_exp.runs.finished import know_tasks, run_name, seed_folders
from atrc_exp.runs.logging import jsonl
from atrc_exp.tasks import TASKS

_LOOKS: dict[str, dict[str, Any]] = {
    "final": {"linestyle": "-"},
    "auxiliary": {"linestyle": (0, (4, 2))},
    "validation": {"linestyle": ":", "marker": "x"},
}


@dataclass(frozen=True)
class History:
    """Records of one run by kind and rising step; of steps repeated by a resume the last one counts."""

    seed: int
    records: Mapping[str, Sequence[Mapping[str, Any]]]

    def series(self, kind: str, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of a number where it has one."""
        found = [(r["step"], r[key]) for r in self.records.get(kind, ()) if r.get(key) is not None]
        return [step for step, _ in found], [value for _, value in found]


def read(folder: Path) -> list[History]:
    """Histories of all runs of a name, finished or not.

    Raises:
        UserError: none of them has logged anything.
    """
    histories = [_read_run(path, seed) for seed, path in seed_folders(folder).items()]
    histories = [history for history in histories if history.records]
    if not histories:
        raise UserError(f"{run_name(folder)}: no run has logged anything yet")
    return histories


def damaged(folder: Path) -> list[str]:
    """What had to be left out of the records of a name's runs, file by file."""
    counts = {path / RECORDS: jsonl.count_damaged(path / RECORDS) for path in seed_folders(folder).values()}
    return [f"{path}: damaged lines that are left out: {count}" for path, count in counts.items() if count]


def _read_run(run: Path, seed: int) -> History:
    know_tasks(run)
    by_kind: dict[str, dict[int, Any]] = {}
    for record in jsonl.read(run / RECORDS):
        by_kind.setdefault(record["kind"], {})[record["step"]] = record
    return History(seed, {kind: [found[step] for step in sorted(found)] for kind, found in by_kind.items()})


def draw_training(histories: Sequence[History]) -> Figure:
    """Above the losses of each task, below its headline metric on the validation images; one colour a seed.

    Raises:
        UserError: no loss and no score was logged.
    """
    tasks = [task for task in TASKS if any(h.series("train", task)[0] for h in histories)]
    if not tasks:
        raise UserError("no task's loss was logged")
    figure = Figure(figsize=(2.5 * len(tasks) + 0.4, 4.2), layout="constrained")
    grid = figure.subplots(2, len(tasks), sharex=True, squeeze=False)
    for column, task in enumerate(tasks):
        for number, history in enumerate(histories):
            look = _seed_look(number)
            for name, key in (("final", task), ("auxiliary", f"{task}_aux")):
                _line(grid[0][column], history.series("train", key), look | _LOOKS[name])
            _line(grid[0][column], history.series("val", f"{task}/loss"), look | _LOOKS["validation"])
            steps, values = history.series("val", f"{task}/{TASKS[task].metric}")
            _line(grid[1][column], (steps, [scale(task) * value for value in values]), look)
        grid[0][column].set_title(TASKS[task].title, fontsize=10, weight="bold")
        grid[1][column].set_title(heading(task), fontsize=8)
        grid[1][column].set_xlabel("iteration", fontsize=8)
    grid[0][0].set_ylabel("loss")
    grid[1][0].set_ylabel("validation")
    kinds = [Line2D([], [], color="black", label=name, **look) for name, look in _LOOKS.items()]
    _finish(figure, grid.flat, [*kinds, *_seed_handles(histories)])
    return figure


def draw_search(histories: Sequence[History]) -> Figure:
    """Mean entropy of the blocks with its weight and the temperature, and the number of frozen blocks, over time.

    Raises:
        UserError: no search record.
    """
    if not any("search" in history.records for history in histories):
        raise UserError("no search record was logged")
    panels = (("entropy", "mean entropy of the blocks"), ("frozen", "frozen blocks"),
              ("entropy_weight", "weight of the entropy"), ("temperature", "Gumbel temperature"))  # fmt: skip
    figure = Figure(figsize=(10.4, 2.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (key, title) in zip(grid, panels, strict=True):
        for number, history in enumerate(histories):
            _line(axes, history.series("search", key), _seed_look(number))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("iteration", fontsize=8)
    _finish(figure, grid, _seed_handles(histories))
    return figure


def _seed_look(number: int) -> dict[str, Any]:
    return drawing.line_look(number) | {"linestyle": "-", "linewidth": 1.1, "markersize": 4}


def _line(axes: Axes, series: tuple[list[int], list[float]], look: Mapping[str, Any]) -> None:
    axes.plot(*series, **look, markevery=max(1, len(series[0]) // 6))


def _seed_handles(histories: Sequence[History]) -> list[Line2D]:
    return [Line2D([], [], label=f"seed {history.seed}", **_seed_look(n)) for n, history in enumerate(histories)]


def _finish(figure: Figure, grid: Iterable[Axes], handles: Sequence[Line2D]) -> None:
    for axes in grid:
        drawing.note_missing(axes, "no value was logged")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False, fontsize=9)
