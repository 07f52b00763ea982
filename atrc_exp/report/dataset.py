"""What `stage=prepare` shows and writes of a dataset: `dataset_report.json`, a figure, and a table on the console."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from atrc_exp.config import DatasetConfig
from atrc_exp.data.check import Findings, Labels
from atrc_exp.data.reader import Reader, count_notes, fingerprint
from atrc_exp.files import write_json
from atrc_exp.report import figures
from atrc_exp.report.tables import console
from atrc_exp.tasks import IGNORE, TASKS

FILE_NAME = "dataset_report.json"
_SHOWN = 20  # problems on the console; the file has all
_COLOURS = {"train": "#4d96c9", "val": "#fdae61"}


def as_record(reader: Reader, config: DatasetConfig, findings: Findings) -> dict[str, Any]:
    """The findings as JSON values; there is a fingerprint only where no file is missing."""
    counts = {split: len(ids) for split, ids in reader.ids.items()}
    complete = not any(problem == "is missing" for _, problem in findings.problems)
    return {
        "version": 1,
        "root": str(reader.root.absolute()),
        "dataset": {
            "name": config.name,
            "packaging": reader.packaging,
            "counts": counts,
            "fingerprint": fingerprint(findings.files) if complete else None,
            "notes": [*reader.notes, *count_notes(replace(config, strict=False), counts)],
        },
        "files": len(findings.files),
        "bytes": sum(findings.files.values()),
        "image_sizes": {f"{height}x{width}": number for (height, width), number in findings.images.most_common()},
        "labels": {
            split: {task: _label_record(task, labels, reader.class_names.get(task)) for task, labels in tasks.items()}
            for split, tasks in findings.labels.items()
        },
        "problems": [{"file": file, "problem": problem} for file, problem in findings.problems],
    }


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record and its figure to `folder`, and show what matters of it."""
    write_json(folder / FILE_NAME, record)
    figures.save(draw(record), (folder / FILE_NAME).with_suffix(""))
    _show(record)
    console().print(f"written to {folder / FILE_NAME}", markup=False, highlight=False)


def draw(record: Mapping[str, Any]) -> Figure:
    """Facts as text, and below them the shares of the classes of every class map in both splits."""
    tasks = [task for task, labels in record["labels"]["train"].items() if labels.get("classes")]
    figure = Figure(figsize=(11, 2.2 + 2.4 * len(tasks)), layout="constrained")
    top, *rows = figure.subplots(1 + len(tasks), 1, squeeze=False)[:, 0]
    top.axis("off")
    top.text(0, 1, "\n".join(_facts(record)), va="top", family="monospace", fontsize=8, transform=top.transAxes)
    for axes, task in zip(rows, tasks, strict=True):
        _draw_classes(axes, task, {split: labels[task]["classes"] for split, labels in record["labels"].items()})
    return figure


def _label_record(task: str, labels: Labels, names: list[str] | None) -> dict[str, Any]:
    valid = max(labels.valid, 1)
    record: dict[str, Any] = {"pixels": labels.pixels, "invalid_share": 1 - labels.valid / max(labels.pixels, 1)}
    kind = TASKS[task].label
    if kind == "classes":
        counts = labels.counts[:IGNORE]
        known = names or [str(value) for value in range(int(counts.nonzero()[0].max(initial=0)) + 1)]
        record["classes"] = {name: int(count) / valid for name, count in zip(known, counts, strict=False)}
    elif labels.valid and kind == "depth":
        record |= {"min": labels.range[0], "max": labels.range[1], "mean": float(labels.total[0]) / valid}
    elif labels.valid:
        record["mean"] = [float(value) / valid for value in labels.total]
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
            lines.append(f"{split} {task}: {_summary(labels)}")
    return lines


def _summary(labels: Mapping[str, Any]) -> str:
    text = f"{labels['invalid_share']:.2%} of the pixels unlabelled"
    if "min" in labels:
        text += f", {labels['min']:.2f} to {labels['max']:.2f} m, mean {labels['mean']:.2f} m"
    elif "mean" in labels:
        x, y, z = labels["mean"]
        text += f", mean ({x:.3f}, {y:.3f}, {z:.3f})"
    return text


def _draw_classes(axes: Axes, task: str, shares: Mapping[str, Mapping[str, float]]) -> None:
    names = max(map(list, shares.values()), key=len)
    positions = np.arange(len(names))
    for offset, (split, values) in zip((-0.2, 0.2), shares.items(), strict=True):
        axes.bar(positions + offset, [values.get(name, 0.0) for name in names], 0.4, label=split, color=_COLOURS[split])
    axes.set_xticks(positions, names, rotation=90 if len(names) > 10 else 0, fontsize=7)
    axes.set_ylabel("share of labelled pixels", fontsize=7)
    axes.set_title(TASKS[task].title, fontsize=9)
    axes.legend(fontsize=7)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _show(record: Mapping[str, Any]) -> None:
    out, dataset = console(), record["dataset"]
    for line in _facts(record)[:3]:
        out.print(line, markup=False, highlight=False)
    table = Table("split", "labels", "what they hold")
    for split, tasks in record["labels"].items():
        for task, labels in tasks.items():
            table.add_row(split, TASKS[task].title, _summary(labels))
    out.print(table)
    for note in dataset["notes"]:
        out.print(f"note: {note}", markup=False, highlight=False)
    problems = record["problems"]
    for problem in problems[:_SHOWN]:
        out.print(f"{problem['file']}: {problem['problem']}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > _SHOWN:
        out.print(f"and {len(problems) - _SHOWN} more problems")
