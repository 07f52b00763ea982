"""What `stage=evaluate` shows and writes: tables on the console, `evaluation.json`, confusion matrices and curves.

The numbers behind a figure lie beside it as CSV.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.text import Text

from atrc_exp.files import write_json, write_text
from atrc_exp.metrics.boundary import BoundaryScores, Curve
from atrc_exp.metrics.boundary.drawing import draw_boundary
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.sheet import Cell, Sheet, plain
from atrc_exp.report.results.tables import console, show_sheet
from atrc_exp.tasks import TASKS
from atrc_exp.words import counted

FILE_NAME = "evaluation.json"
FIGURES = "evaluation"
_NUMBERED_CELLS = 12  # classes up to which a confusion matrix has numbers in its cells


def write(
    folder: Path,
    record: Mapping[str, Any],
    per_class: Mapping[str, Sequence[float | None]],
    confusion: Mapping[str, np.ndarray],
    curves: Mapping[str, Curve],
    boundaries: Mapping[str, BoundaryScores],
) -> None:
    """Print the scores and write `<folder>/evaluation.json` and the figures in `<folder>/evaluation/`.

    Args:
        record: source, dataset, rules and metrics, ready for JSON.
        per_class: IoU by task and class, None for classes that never occur.
        confusion: pixels by [label, prediction] (C, C) by task.
        curves: precision, recall and F over the thresholds by task.
        boundaries: scores of boundary tasks with their curves.
    """
    names = {task: class_names(record["dataset"], task, len(ious)) for task, ious in per_class.items()}
    full = {
        **record,
        "per_class": {task: dict(zip(names[task], ious, strict=True)) for task, ious in per_class.items()},
        "boundaries": {task: {k: v for k, v in asdict(s).items() if k != "curve"} for task, s in boundaries.items()},
        "curves": {task: asdict(curve) for task, curve in curves.items()},
    }
    for task, matrix in confusion.items():
        stem = folder / FIGURES / f"confusion_{task}"
        drawing.save(draw_confusion(matrix, names[task], TASKS[task].title), stem)
        write_text(stem.with_suffix(".csv"), _confusion_csv(matrix, names[task]))
    for task, scores in boundaries.items():
        stem = folder / FIGURES / f"boundary_{task}"
        drawing.save(draw_boundary(scores, TASKS[task].title), stem)
        write_text(stem.with_suffix(".csv"), scores.curve_csv())
    write_json(folder / FILE_NAME, full)
    _show(full, confusion)
    console().print(Text(f"written: {folder / FILE_NAME}, figures in {folder / FIGURES}"), soft_wrap=True)


def class_names(dataset: Mapping[str, Any], task: str, classes: int) -> list[str]:
    """Names of a task's classes from the dataset's record, or numbers where they have none."""
    return list(dataset["class_names"].get(task) or (f"class {index}" for index in range(classes)))


def _confusion_csv(matrix: np.ndarray, names: Sequence[str]) -> str:
    rows = [["label \\ prediction", *names], *([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))]
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def _show(record: Mapping[str, Any], confusion: Mapping[str, np.ndarray]) -> None:
    output, source = console(), record["source"]
    what = source.get("predictions") or f"{source['checkpoint']}, iteration {source['iteration']}"
    if "selected_on" in source:
        what += f", a checkpoint selected on {source['selected_on']}"
    output.print(Text(f"{what}: {counted(record['images'], 'image')} of {record['dataset']['name']}"), soft_wrap=True)
    rows = []
    for task, metrics in record["metrics"].items():
        for index, (key, value) in enumerate(metrics.items()):
            unit, rank = _unit(task, key), 1 if key == TASKS[task].metric else None
            cells = (TASKS[task].title if index == 0 else "", key, _number(value, unit), unit)
            rows.append(tuple(Cell(cell, rank) for cell in cells))
    show_sheet(Sheet("metrics", "", ("Task", "Metric", "Value", "Unit"), tuple(rows), align="llrl"))
    for task, ious in record["per_class"].items():
        show_sheet(_per_class_sheet(TASKS[task].title, ious, confusion[task]))


def _unit(task: str, metric: str) -> str:
    if metric.startswith("within"):
        return "% of pixels"
    return "pixels" if metric == "invalid_pixels" else TASKS[task].unit_of(metric)


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "no valid pixel"
    if unit == "%":
        return f"{100 * value:.2f}"
    return {"m": f"{value:.4f}", "pixels": f"{value:.0f}"}.get(unit, f"{value:.2f}")


def _per_class_sheet(title: str, ious: Mapping[str, float | None], matrix: np.ndarray) -> Sheet:
    """Two classes a line: name, IoU and share of the labelled pixels."""
    labelled = matrix.sum(axis=1)
    shares = labelled / max(labelled.sum(), 1)
    cells = [
        [name, "–" if iou is None else f"{100 * iou:.2f}", f"{100 * share:.2f}"]
        for (name, iou), share in zip(ious.items(), shares, strict=True)
    ]
    half = (len(cells) + 1) // 2
    rows = (left + right for left, right in zip_longest(cells[:half], cells[half:], fillvalue=["", "", ""]))
    return Sheet("classes", "", (f"{title} class", "IoU [%]", "Pixels [%]") * 2, plain(rows), align="lrr" * 2)


def draw_confusion(matrix: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Share of each label's pixels by prediction, for the classes that occur; rows are labels and add up to 100 %."""
    present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    shown = matrix[np.ix_(present, present)].astype(np.float64)
    shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    shares[shown.sum(axis=1) == 0] = np.nan  # predicted but never labelled
    side = max(4.0, 0.2 * len(present) + 2.2)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    if not len(present):
        axes.set(xticks=(), xlabel="prediction", ylabel="label", title=title)
        drawing.note_missing(axes, "no labelled pixel")
        return figure
    axes.set_facecolor("0.85")
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    ticks = [names[index] for index in present.tolist()]
    axes.set_xticks(range(len(ticks)), ticks, rotation=90, fontsize=8)
    axes.set_yticks(range(len(ticks)), ticks, fontsize=8)
    axes.set(xlabel="prediction", ylabel="label")
    absent = len(names) - len(present)
    axes.set_title(title + (f" ({absent} of {len(names)} classes never occur)" if absent else ""), fontsize=10)
    if len(present) <= _NUMBERED_CELLS:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if share > 0.5 else "black")  # fmt: skip
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the label's pixels")
    return figure
