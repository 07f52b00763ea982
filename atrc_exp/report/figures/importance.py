"""What `stage=importance` makes of its scores: drops of the metrics and of Δm, their correlation with the agreement of
the searches, `importance.json`, a table on the console and the matrix as a figure (Sec. 4.4, Fig. 6)."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.text import Text

from atrc_exp.evaluation.importance import Importance
from atrc_exp.files import write_json
from atrc_exp.genotype import NONE, Genotype, task_of, vote_agreement
from atrc_exp.metrics.delta import delta_m
from atrc_exp.models.contexts.maps import Block
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.aggregate import Row, Statistic, statistic
from atrc_exp.report.results.columns import DEFAULT_PLACES, places, scale
from atrc_exp.report.results.sheet import GAP, Sheet, plain
from atrc_exp.report.results.tables import console, show_sheet
from atrc_exp.runs.finished import Setting
from atrc_exp.tasks import TASKS
from atrc_exp.words import counted

STEM = "importance"
_DARKEST, _DARKEST_GREY = 0.6, 0.4  # of the colour maps, so that the sequence of lightness leaves room for text
_LEAST_BLOCKS = 3  # for a correlation: two points always lie on a line

Baseline = tuple[Statistic | None, str]
"""The single-task score that Δm is measured against, and the name of its runs, or None and why there is none."""


def baseline_of(task: str, setting: Setting, baselines: Sequence[Row]) -> Baseline:
    """Choose the baseline of a task among `find_baselines`, under the conditions of the run."""
    rows = [row for row in baselines if row.experiment.tasks == (task,) and row.experiment.setting == setting]
    scored = [row for row in rows if task in row.statistics]
    if not scored:
        return None, f"no single-task runs of {task} on {setting}"
    if len(scored) > 1:
        return None, f"several single-task baselines of {task}: {', '.join(row.name for row in scored)}; keep one"
    if scored[0].statistics[task].mean == 0:
        return None, f"the single-task baseline of {task} is 0"
    return scored[0].statistics[task], scored[0].name


def drops(task: str, reference: float, permuted: Sequence[float]) -> list[float]:
    """By how much each permuted score is worse than the reference, in the metric's unit; below 0 where it is better."""
    sign = 1 if TASKS[task].higher_is_better else -1
    return [sign * (reference - value) for value in permuted]


def delta_m_drops(task: str, reference: float, permuted: Sequence[float], baseline: float, tasks: int) -> list[float]:
    """Drops of Δm over `tasks` tasks, in percentage points, when the score of one of them changes."""

    def gain(score: float) -> float:
        return delta_m({task: score}, {task: baseline}, [TASKS[task]])

    return [(gain(reference) - gain(value)) / tasks for value in permuted]


def block_entries(
    measured: Importance, genotype: Genotype, baselines: Mapping[str, Statistic | None]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Context type, permuted scores and drops by target and source; a drop that has no value is None."""
    entries: dict[str, dict[str, dict[str, Any]]] = {target: {} for target in genotype.rows}
    for target, source in genotype.pairs():
        context = genotype.blocks[target][source]
        entry: dict[str, Any] = {"context": context, "permuted": [], "drop": None, "delta_m_drop": None}
        scores = measured.permuted.get(Block(target, source, context), [])
        task = task_of(target)
        reference, baseline = measured.headline.get(task, math.nan), baselines[task]
        if scores and all(map(math.isfinite, (reference, *scores))):
            entry["permuted"] = scores
            entry["drop"] = _summary(drops(task, reference, scores))
            if baseline is not None:
                changes = delta_m_drops(task, reference, scores, baseline.mean, len(genotype.tasks))
                entry["delta_m_drop"] = _summary(changes)
        entries[target][source] = entry
    return entries


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    found = statistic(values)
    return {"mean": found.mean, "std": found.std}


def correlation(
    entries: Mapping[str, Mapping[str, Mapping[str, Any]]], votes: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> dict[str, Any]:
    """Pearson correlation, over the blocks, of the mean drop of Δm with the agreement of the searches on the block.

    Args:
        entries: result of `block_entries`; blocks without a drop of Δm are left out.
        votes: those of the searches by target, source and context type; empty where there are none.

    Returns:
        "pearson", None with a "reason" where it is undefined, the number of "blocks", and the "agreement" of every one.
    """
    agreement = {t: {s: vote_agreement(votes.get(t, {}).get(s, {})) for s in row} for t, row in entries.items()}
    pairs = [
        (entry["delta_m_drop"]["mean"], agreement[target][source])
        for target, row in entries.items()
        for source, entry in row.items()
        if entry["delta_m_drop"] is not None and agreement[target][source] is not None
    ]
    pearson: float | None = None
    reason: str | None = None
    if all(value is None for row in agreement.values() for value in row.values()):
        reason = "the genotype carries no votes of two or more searches"
    elif len(pairs) < _LEAST_BLOCKS:
        reason = f"{counted(len(pairs), 'block')} with both a drop of Δm and an agreement, {_LEAST_BLOCKS} are needed"
    else:
        importance, agreed = zip(*pairs, strict=True)
        if len(set(importance)) == 1 or len(set(agreed)) == 1:
            reason = "the " + ("drops of Δm" if len(set(importance)) == 1 else "agreements") + " are all equal"
        else:
            pearson = statistics.correlation(importance, agreed)
    return {"pearson": pearson, "reason": reason, "blocks": len(pairs), "agreement": agreement}


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Print the matrix and write `importance.json`, `.png` and `.pdf`.

    Args:
        record: source, dataset, blocks and correlation, ready for JSON.
    """
    write_json(folder / f"{STEM}.json", record)
    paths = drawing.save(draw(record), folder / STEM)
    output = console()
    show_sheet(_sheet(record), lines=True)
    for note in record["notes"]:
        output.print(Text(note), soft_wrap=True)
    output.print(Text(correlation_text(record["correlation"])), soft_wrap=True)
    names = ", ".join(str(path) for path in (folder / f"{STEM}.json", *paths))
    output.print(Text(f"written: {names}"), soft_wrap=True)


def correlation_text(found: Mapping[str, Any]) -> str:
    """One line: the coefficient, or why there is none."""
    what = "Pearson correlation of the drops of Δm with the agreement of the searches"
    if found["pearson"] is None:
        return f"{what}: undefined, {found['reason']}"
    return f"{what}: {found['pearson']:+.2f} over {found['blocks']} blocks"


def _sheet(record: Mapping[str, Any]) -> Sheet:
    source = record["source"]
    title = (
        f"{source['run']}, iteration {source['iteration']}: drop of Δm [percentage points] and of the target's metric, "
        f"{counted(record['permutations'], 'permutation')} of {counted(record['images'], 'image')}"
    )
    rows = (
        [
            f"{target}\n{unit_of(task_of(target))}",
            *("\n".join((e["context"], *_numbers(target, e))) for e in row.values()),
        ]
        for target, row in record["blocks"].items()
    )
    header = ("target ← source", *record["tasks"])
    return Sheet("importance", title, header, plain(rows), align="l" * len(header))


def unit_of(task: str) -> str:
    """The headline metric of a task with its unit."""
    return f"{TASKS[task].metric} [{TASKS[task].unit}]"


def _numbers(target: str, entry: Mapping[str, Any]) -> list[str]:
    """Drops of Δm, where it has one, and of the metric as text; nothing for a block without output."""
    if entry["context"] == NONE:
        return []
    metric = _spread(entry["drop"], scale(task_of(target)), places(task_of(target)))
    return [*([_spread(entry["delta_m_drop"], 1.0, DEFAULT_PLACES)] if entry["delta_m_drop"] else []), metric]


def _spread(found: Mapping[str, float | None] | None, scale: float, places: int) -> str:
    if found is None:
        return GAP
    mean, std = found["mean"], found["std"]
    assert mean is not None
    text = f"{scale * mean:.{places}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text if std is None else f"{text} ± {scale * std:.{places}f}"


def draw(record: Mapping[str, Any]) -> Figure:
    """Matrix of blocks, targets down and sources across: darker where permuting the output costs more.

    Blue is a drop of Δm, on one scale. A target without Δm has its metric's drops instead, in grey, on a scale of its
    own.
    """
    tasks: list[str] = record["tasks"]
    width, height = len(tasks), len(record["blocks"])
    figure = Figure(figsize=(1.45 * width + 1.6, 1.0 * height + 1.1))
    axes = figure.add_subplot()
    scale = _scale("delta_m_drop", [entry for row in record["blocks"].values() for entry in row.values()])
    for y, (target, row) in enumerate(record["blocks"].items()):
        own_scale = _scale("drop", list(row.values()))
        for x, entry in enumerate(row.values()):
            fill: Any = "white"
            if entry["delta_m_drop"]:
                fill = colormaps["Blues"](_DARKEST * scale(entry["delta_m_drop"]["mean"]))
            elif entry["drop"]:
                fill = colormaps["Greys"](_DARKEST_GREY * own_scale(entry["drop"]["mean"]))
            _draw_block(axes, x, y, fill, target, entry)
    axes.set(xlim=(0, width), ylim=(height, 0), ylabel="target task")
    axes.set_xticks([index + 0.5 for index in range(width)], [TASKS[task].title for task in tasks])
    targets = [f"{drawing.row_title(target)}\n{unit_of(task_of(target))}" for target in record["blocks"]]
    axes.set_yticks([index + 0.5 for index in range(height)], targets)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source task", labelpad=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.text(0, height + 0.1, _caption(record), fontsize=8, va="top")
    return figure


def _scale(key: str, entries: Sequence[Mapping[str, Any]]) -> Normalize:
    """Scale that maps 0 and the means of a kind of drop to 0 ... 1."""
    means = [entry[key]["mean"] for entry in entries if entry[key]]
    return Normalize(min(0.0, *means, 0.0), max(1e-9, *means, 0.0))


def _draw_block(axes: Any, x: int, y: int, fill: Any, target: str, entry: Mapping[str, Any]) -> None:
    missing = entry["context"] == NONE
    hatch = "////" if missing else None
    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=fill, edgecolor="0.8" if missing else "0.35",
                             linewidth=0.6, hatch=hatch))  # fmt: skip
    title = drawing.title(entry["context"])
    if missing:
        axes.text(x + 0.5, y + 0.5, title, ha="center", va="center", fontsize=9,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
        return
    main, *metric = _numbers(target, entry)
    axes.text(x + 0.5, y + 0.2, title, ha="center", va="center", fontsize=8 if len(title) < 24 else 7)
    axes.text(x + 0.5, y + 0.5, main, ha="center", va="center", fontsize=10, weight="bold")
    for text in metric:
        axes.text(x + 0.5, y + 0.8, text, ha="center", va="center", fontsize=8)


def _caption(record: Mapping[str, Any]) -> str:
    entries = {target: list(row.values()) for target, row in record["blocks"].items()}
    with_delta = [target for target, row in entries.items() if any(entry["delta_m_drop"] for entry in row)]
    without = [drawing.row_title(target) for target in entries if target not in with_delta]
    lines = ["bold: drop of Δm [percentage points]; below: that of the target's metric"] if with_delta else []
    if without:
        lines.append(f"grey, for {', '.join(without)}: drop of the target's metric, since it has no Δm")
    lines += [
        f"mean ± std of {record['permutations']} permutations",
        correlation_text(record["correlation"]),
        *record["notes"],
    ]
    return "\n".join(lines)
