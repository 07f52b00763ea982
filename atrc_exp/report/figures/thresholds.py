"""Scores over the thresholds of boundaries and saliency, from `evaluation.json`, with several runs overlaid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.evaluation import FILE_NAME
from atrc_exp.runs.finished import know_tasks, run_name, run_names, seed_folders
from atrc_exp.tasks import TASKS

_CURVES = (("precision", "precision"), ("recall", "recall"), ("f", "F-measure"))
_OPERATING_POINT: dict[str, Any] = {"markersize": 7, "markeredgecolor": "black", "zorder": 4, "linestyle": "none"}


@dataclass(frozen=True)
class Evaluation:
    """What one `evaluation.json` tells of thresholds."""

    name: str
    """`<name>/seed<k>` of the run."""
    conditions: tuple[str, Any]
    """Fingerprint of the data, and the rules of scoring."""
    curves: dict[str, dict[str, list[float]]]
    """By task: threshold, precision, recall and f, all of one length."""


def read(runs_dir: Path) -> tuple[list[Evaluation], list[str]]:
    """Evaluations of all runs that hold curves, in the order of their names, and what cannot be read."""
    files = [run / FILE_NAME for name in run_names(runs_dir) for run in seed_folders(name).values()]
    found, damaged = [], []
    for path in files:
        if not path.is_file():
            continue
        try:
            evaluation = _read_file(path)
        except UserError as error:
            damaged.append(str(error))
        else:
            found += [evaluation] if evaluation.curves else []
    return found, damaged


def _read_file(path: Path) -> Evaluation:
    know_tasks(path.parent)
    record = read_json(path)
    try:
        conditions = record["dataset"]["fingerprint"], record["rules"]
        curves = record.get("curves", {})  # none where it was written before there were any
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an evaluation of a run ({type(error).__name__}: {error})") from None
    return Evaluation(f"{run_name(path.parents[1])}/{path.parent.name}", conditions, curves)


def draw(evaluations: Sequence[Evaluation]) -> Figure:
    """One row a task: precision, recall and F over the threshold; the best F of each run is marked in all three.

    Raises:
        UserError: no curve, or runs that were scored on other images or by other rules.
    """
    if not evaluations:
        raise UserError(
            f"no {FILE_NAME} with threshold curves: python -m atrc_exp stage=evaluate run=RUN_DIR writes it"
        )
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.conditions != first.conditions:
            raise UserError(f"{first.name} and {other.name} were scored on other data or by other rules; their curves "
                            "cannot stand in one figure")  # fmt: skip
    tasks = [task for task in TASKS if any(task in evaluation.curves for evaluation in evaluations)]
    figure = Figure(figsize=(10, 2.9 * len(tasks) + 0.2 * len(evaluations)), layout="constrained")
    grid = figure.subplots(len(tasks), len(_CURVES), sharex=True, squeeze=False)
    names = drawing.short_names([evaluation.name for evaluation in evaluations])
    handles = []
    for number, evaluation in enumerate(evaluations):
        look = drawing.line_look(number)
        for row, task in zip(grid, tasks, strict=True):
            if task in evaluation.curves:
                _draw_curves(row, evaluation.curves[task], look)
        handles.append(Line2D([], [], label=names[evaluation.name], linewidth=1.3, markersize=6, **look))
    for row, task in zip(grid, tasks, strict=True):
        row[0].set_ylabel(TASKS[task].title, weight="bold")
    for axes, (_, title) in zip(grid[0], _CURVES, strict=True):
        axes.set_title(title, fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("threshold")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3), frameon=False, fontsize=8,
                  title="run (marked: best F)", title_fontsize=8, handlelength=3.5)  # fmt: skip
    return figure


def _draw_curves(row: Sequence[Axes], curve: dict[str, list[float]], look: dict[str, Any]) -> None:
    best = max(range(len(curve["f"])), key=curve["f"].__getitem__)
    for axes, (key, _) in zip(row, _CURVES, strict=True):
        axes.plot(curve["threshold"], curve[key], linewidth=1.3, **{**look, "marker": None})
        axes.plot([curve["threshold"][best]], [curve[key][best]], **{**look, **_OPERATING_POINT})
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
