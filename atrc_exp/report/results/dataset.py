"""What `stage=prepare` shows and writes of a dataset: `dataset_report.json`, a figure, and a table on the console."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from atrc_exp.config import DatasetConfig
from atrc_exp.data.prepare.check import DEPTH_EDGES, Findings, Labels
from atrc_exp.data.readers.reader import Reader, absence_notes, count_notes, fingerprint, list_files
from atrc_exp.data.readers.sample import Sample
from atrc_exp.files import write_json
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.sheet import Sheet, plain
from atrc_exp.report.results.tables import console, show_sheet
from atrc_exp.rooms.dataset.sheet import draw_label
from atrc_exp.tasks import IGNORE, TASKS, class_count

FILE_NAME = "dataset_report.json"
_SHOWN = 20  # problems on the console; the file has all
_NAMED = 10  # classes in a note
_WIDTH = 11.0  # inches of the figure
_METRE_TICKS = [digit * 10.0**power for power in range(-2, 3) for digit in (1, 1.5, 2, 3, 5, 7)]
_COLOURS = {"train": "#4d96c9", "val": "#fdae61"}


def as_record(reader: Reader, config: DatasetConfig, findings: Findings) -> dict[str, Any]:
    """The findings as JSON values; there is a fingerprint only where no file is missing."""
    counts = {split: len(ids) for split, ids in reader.ids.items()}
    lacking = {file for file, problem in findings.problems if problem == "is missing"}
    sizes, missing = list_files(reader, config.tasks)
    other = [file for file in missing if file not in lacking]
    labels = {
        split: {task: _label_record(found, _names(task, reader, config)) for task, found in tasks.items()}
        for split, tasks in findings.labels.items()
    }
    return {
        "version": 2,
        "root": str(reader.root.absolute()),
        "dataset": {
            "name": config.name,
            "packaging": reader.packaging,
            "counts": counts,
            "fingerprint": fingerprint(sizes) if not lacking else None,
            "notes": [
                *reader.notes,
                *absence_notes(other),
                *count_notes(replace(config, strict=False), counts),
                *_absent_classes(labels),
            ],
        },
        "files": len(findings.files),
        "bytes": sum(findings.files.values()),
        "image_sizes": {f"{height}x{width}": number for (height, width), number in findings.images.most_common()},
        "labels": labels,
        "warnings": findings.doubts.lines(),
        "problems": [{"file": file, "problem": problem} for file, problem in findings.problems],
    }


def write(
    folder: Path, record: Mapping[str, Any], samples: Sequence[Sample], class_names: Mapping[str, Sequence[str]]
) -> None:
    """Write the record and its figure to `folder`, and show what matters of it."""
    write_json(folder / FILE_NAME, record)
    figure = draw(record, samples, class_names)
    drawing.freeze_layout(figure)
    drawing.save(figure, (folder / FILE_NAME).with_suffix(""))
    _show(record)
    console().print(f"written to {folder / FILE_NAME}", markup=False, highlight=False)


def draw(record: Mapping[str, Any], samples: Sequence[Sample], class_names: Mapping[str, Sequence[str]]) -> Figure:
    """Facts as text, some images with their labels, the depths, and the shares of all classes in both splits."""
    train = record["labels"]["train"]
    maps = [task for task, labels in train.items() if labels.get("classes")]
    depths = [task for task, labels in train.items() if labels.get("histogram")]
    facts = _facts(record)
    columns = 1 + len(samples[0].labels) if samples else 1
    rows = [_WIDTH / columns * sample.image.shape[0] / sample.image.shape[1] for sample in samples]
    heights = [0.3 + 0.15 * len(facts), sum(rows) + 0.3 * bool(rows), *[2.4] * (len(depths) + len(maps))]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    ratios = [max(height, 0.01) for height in heights]
    top, pictures, *charts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=ratios)[:, 0]
    top.text(0.01, 0.98, "\n".join(facts), va="top", family="monospace", fontsize=8)
    if samples:
        _draw_samples(pictures, samples, rows, class_names, record)
    for part, task in zip(charts, (*depths, *maps), strict=True):
        axes = part.subplots()
        by_split = {split: labels[task] for split, labels in record["labels"].items()}
        if task in depths:
            _draw_depths(axes, task, by_split)
        else:
            _draw_classes(axes, task, {split: labels["classes"] for split, labels in by_split.items()})
    return figure


def _names(task: str, reader: Reader, config: DatasetConfig) -> list[str]:
    """Names of the classes of a task with class maps; their numbers where they have none."""
    if not reader.tasks[task].kind.class_map:
        return []
    return list(reader.class_names.get(task) or map(str, range(class_count(task, config.num_classes, reader.tasks))))


def _absent_classes(labels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A note for each split and task some of whose classes never occur: they cannot be learned, or scored."""
    notes = []
    for split, tasks in labels.items():
        for task, found in tasks.items():
            shares = found.get("classes", {})
            absent = [name for name, share in shares.items() if not share]
            if absent:
                shown = ", ".join(absent[:_NAMED]) + (", ..." if len(absent) > _NAMED else "")
                notes.append(f"{len(absent)} of {len(shares)} classes of {task} never occur in {split}: {shown}")
    return notes


def _label_record(labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    valid = max(labels.valid, 1)
    record: dict[str, Any] = {"pixels": labels.pixels, "invalid_share": 1 - labels.valid / max(labels.pixels, 1)}
    if names:
        counts = labels.counts[:IGNORE]
        record["classes"] = {name: int(count) / valid for name, count in zip(names, counts, strict=False)}
    elif labels.valid and np.isfinite(labels.range[0]):
        record |= {"min": labels.range[0], "max": labels.range[1], "mean": float(labels.total[0]) / valid}
    elif labels.valid:
        record["mean"] = [float(value) / valid for value in labels.total]
    if labels.histogram.any():
        held = labels.histogram.nonzero()[0]
        first, last = int(held[0]), int(held[-1]) + 1
        shares = (labels.histogram[first:last] / valid).tolist()
        record["histogram"] = {"edges": DEPTH_EDGES[first : last + 1].tolist(), "shares": shares}
    return record


def _facts(record: Mapping[str, Any]) -> list[str]:
    dataset = record["dataset"]
    sizes = [f"{size} ({number})" for size, number in record["image_sizes"].items()]
    lines = [
        f"{dataset['name']}, packaging {dataset['packaging']}: {dataset['counts']['train']} training and "
        f"{dataset['counts']['val']} validation images, {record['files']} files, {record['bytes'] / 1e6:.1f} MB",
        f"image sizes: {', '.join(sizes[:6])}{f' and {len(sizes) - 6} more' if len(sizes) > 6 else ''}",
        f"fingerprint: {dataset['fingerprint'] or 'none, files are missing'}",
    ]
    for split, tasks in record["labels"].items():
        for task, labels in tasks.items():
            lines.append(f"{split} {task}: {_summary(labels, TASKS[task].value_unit)}")
    return lines


def _summary(labels: Mapping[str, Any], unit: str) -> str:
    text = f"{labels['invalid_share']:.2%} of the pixels unlabelled"
    if "min" in labels:
        unit = f" {unit}" if unit else ""
        text += f", {labels['min']:.2f} to {labels['max']:.2f}{unit}, mean {labels['mean']:.2f}{unit}"
    elif "mean" in labels:
        x, y, z = labels["mean"]
        text += f", mean ({x:.3f}, {y:.3f}, {z:.3f})"
    return text


def _draw_samples(
    part: SubFigure,
    samples: Sequence[Sample],
    heights: Sequence[float],
    class_names: Mapping[str, Sequence[str]],
    record: Mapping[str, Any],
) -> None:
    """A row for each image: the image, and its labels; all depths on one scale."""
    tasks = [TASKS[task] for task in samples[0].labels]
    grid = part.subplots(len(samples), 1 + len(tasks), squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, title in zip(grid[0], ("Image", *(task.title for task in tasks)), strict=True):
        axes.set_title(title, fontsize=9)
    for row, sample in zip(grid, samples, strict=True):
        row[0].imshow(sample.image)
        for axes, task in zip(row[1:], tasks, strict=True):
            found = record["labels"]["train"][task.name]
            names = list(found.get("classes", ())) if task.name in class_names else []
            span = (found["min"], max(found["max"], 1.001 * found["min"])) if "min" in found else None
            draw_label(axes, task, sample.labels[task.name], names, span)


def _draw_depths(axes: Axes, task: str, labels: Mapping[str, Mapping[str, Any]]) -> None:
    for split, found in labels.items():
        if "histogram" in found:
            axes.stairs(found["histogram"]["shares"], found["histogram"]["edges"], label=split, color=_COLOURS[split])
    edges = [edge for found in labels.values() if "histogram" in found for edge in found["histogram"]["edges"]]
    low, high = min(edges), max(edges)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in _METRE_TICKS if low <= tick <= high], minor=False)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(labelsize=7)
    axes.set_xlabel(TASKS[task].value_unit, fontsize=7)
    axes.set_ylabel("share of labelled pixels", fontsize=7)
    axes.set_title(TASKS[task].title, fontsize=9)
    axes.legend(fontsize=7)


def _draw_classes(axes: Axes, task: str, shares: Mapping[str, Mapping[str, float]]) -> None:
    names = max(map(list, shares.values()), key=len)
    positions = np.arange(len(names))
    for offset, (split, values) in zip((-0.2, 0.2), shares.items(), strict=True):
        axes.bar(positions + offset, [values.get(name, 0.0) for name in names], 0.4, label=split, color=_COLOURS[split])
    axes.set_xticks(positions, names, rotation=90 if len(names) > 10 else 0, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.set_ylabel("share of labelled pixels", fontsize=7)
    axes.set_title(TASKS[task].title, fontsize=9)
    axes.legend(fontsize=7)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _show(record: Mapping[str, Any]) -> None:
    out, dataset = console(), record["dataset"]
    for line in _facts(record)[:3]:
        out.print(line, markup=False, highlight=False)
    rows = (
        (split, TASKS[task].title, _summary(labels, TASKS[task].value_unit))
        for split, tasks in record["labels"].items()
        for task, labels in tasks.items()
    )
    show_sheet(Sheet("labels", "", ("split", "labels", "what they hold"), plain(rows), align="lll"))
    for note in dataset["notes"]:
        out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for warning in record["warnings"]:
        out.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    problems = record["problems"]
    for problem in problems[:_SHOWN]:
        out.print(f"{problem['file']}: {problem['problem']}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > _SHOWN:
        out.print(f"and {len(problems) - _SHOWN} more problems")
