"""Search against retraining (Fig. 4): how much better than the single-task networks, task by task.

The networks that the searches end with, sampled from the supergraph, stand beside those retrained from the searches'
vote. Each is compared with single-task networks of its own data, backbone and length of training; where there are none,
a gap says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, load, vote
from atrc_exp.metrics.delta import relative_gain
from atrc_exp.report.results.aggregate import Row, Statistic
from atrc_exp.runs.finished import read_runs
from atrc_exp.tasks import TASKS

_WIDTH = 0.8  # of the bars of one task together
_LOOKS: tuple[dict[str, Any], ...] = (
    {"facecolor": "white", "hatch": "////"},
    {"facecolor": "0.65"},
    {"facecolor": "0.9", "hatch": "...."},
)


@dataclass(frozen=True)
class Bars:
    """The runs of one name, relative to the single-task means."""

    label: str
    gains: Mapping[str, Statistic]
    """By task in per cent: (M - M_ST) / M_ST, with the sign turned where lower is better."""
    gaps: Mapping[str, str]
    """Tasks without a bar, each with the reason."""


def relative_to_single_tasks(label: str, row: Row, baselines: Sequence[Row]) -> Bars:
    """Mean and standard deviation over seeds of the gains over the single-task means of the row's own setting."""
    setting = row.experiment.setting
    gains: dict[str, Statistic] = {}
    gaps: dict[str, str] = {}
    for task in row.experiment.tasks:
        fitting = [b for b in baselines if b.experiment.setting == setting and b.experiment.tasks == (task,)]
        if task not in row.statistics:
            gaps[task] = "no headline metric"
        elif not fitting:
            gaps[task] = f"no single-task runs of {setting.iterations} iterations on the same data and backbone"
        elif len(fitting) > 1:
            gaps[task] = f"several single-task baselines: {', '.join(b.name for b in fitting)}"
        elif task not in fitting[0].statistics or fitting[0].statistics[task].mean == 0:
            gaps[task] = f"{fitting[0].name} has no headline metric, or 0"
        else:
            found, reference = row.statistics[task], fitting[0].statistics[task].mean
            std = None if found.std is None else 100 * found.std / abs(reference)
            gains[task] = Statistic(100 * relative_gain(TASKS[task], found.mean, reference), std, found.n)
    return Bars(f"{label}, n = {len(row.seeds)}", gains, gaps)


def compare(search: Row, rows: Sequence[Row], baselines: Sequence[Row], runs_dir: Path) -> list[Bars]:
    """The searches of one name, and the networks in `rows` that were retrained from their vote.

    Raises:
        UserError: nothing was retrained from the vote, or there is no bar to draw.
    """
    voted = vote([load(run.folder) for run in read_runs(runs_dir / search.name)])
    retrained = [row for row in rows if _is_retrained(row, search, voted, runs_dir)]
    if not retrained:
        raise UserError(f"{search.name}: no finished run was retrained from the vote of these searches")
    bars = [relative_to_single_tasks("sampled from the supergraph", search, baselines)]
    for row in retrained:
        label = "retrained" if len(retrained) == 1 else f"retrained ({row.name})"
        bars.append(relative_to_single_tasks(label, row, baselines))
    if not any(series.gains for series in bars):
        reasons = dict.fromkeys(reason for series in bars for reason in series.gaps.values())
        raise UserError(f"{search.name}: nothing to compare with: {'; '.join(reasons)}")
    return bars


def _is_retrained(row: Row, search: Row, voted: Genotype, runs_dir: Path) -> bool:
    """Whether the row's runs have the network, the data and the genotype of the search's vote."""
    ours, theirs = row.experiment, search.experiment
    if ours.distillation != "atrc" or ours.tasks != theirs.tasks or ours.neck != theirs.neck:
        return False
    if replace(ours.setting, iterations=theirs.setting.iterations) != theirs.setting:
        return False
    return all(load(run.folder) == voted for run in read_runs(runs_dir / row.name))


def notes(bars: Sequence[Bars]) -> list[str]:
    """What is missing in the figure: gaps with their reasons, bars without a deviation."""
    lines = []
    for series in bars:
        for reason in dict.fromkeys(series.gaps.values()):
            tasks = ", ".join(TASKS[task].title for task, why in series.gaps.items() if why == reason)
            lines.append(f"{series.label}: no bar for {tasks}: {reason}")
        if any(gain.std is None for gain in series.gains.values()):
            lines.append(f"{series.label}: no error bar, since one run has no deviation")
    return lines


def draw(bars: Sequence[Bars]) -> Figure:
    """One group of bars a task, with the standard deviation over seeds; a missing bar is marked n/a."""
    tasks = list(dict.fromkeys(task for series in bars for task in (*series.gains, *series.gaps)))
    figure = Figure(figsize=(1.5 * len(tasks) + 1.4, 3.4), layout="constrained")
    axes = figure.subplots()
    width = _WIDTH / len(bars)
    looks = [_LOOKS[number % len(_LOOKS)] for number in range(len(bars))]
    for number, (series, look) in enumerate(zip(bars, looks, strict=True)):
        places = {task: x - _WIDTH / 2 + (number + 0.5) * width for x, task in enumerate(tasks)}
        _draw_bars(axes, series, places, width, look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(tasks)), [TASKS[task].title for task in tasks])
    axes.set_xlim(-0.6, len(tasks) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("relative performance [%] ↑")
    axes.margins(y=0.12)
    axes.grid(axis="y", color="0.9", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    handles = [Patch(edgecolor="black", label=series.label, **look) for series, look in zip(bars, looks, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(bars), frameon=False, fontsize=9)
    return figure


def _draw_bars(axes: Axes, series: Bars, places: Mapping[str, float], width: float, look: Mapping[str, Any]) -> None:
    for task, gain in series.gains.items():
        axes.bar(places[task], gain.mean, 0.92 * width, edgecolor="black", linewidth=0.8, zorder=2, **look)
        if gain.mean == 0:
            _write(axes, "0", places[task])
        if gain.std is not None:
            axes.errorbar(places[task], gain.mean, gain.std, fmt="none", ecolor="black", elinewidth=1.4, capsize=3,
                          zorder=3)  # fmt: skip
    for task in series.gaps:
        _write(axes, "n/a", places[task], rotation=90)


def _write(axes: Axes, text: str, x: float, **look: Any) -> None:
    """Write a word where there is no bar."""
    axes.annotate(text, (x, 0), xytext=(0, 3), textcoords="offset points", fontsize=8, color="0.3", ha="center",
                  va="bottom", **look)  # fmt: skip
