"""What the modules gain and what they cost (Fig. 5): Δm against parameters and multiply-adds.

Multiply-adds are counted for one image of the run's size by the paper's convention (`models/profile.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.genotype import CONTEXT_TYPES
from atrc_exp.models.profile import Part, profile_of
from atrc_exp.report.figures.drawing import freeze_layout, short_names
from atrc_exp.report.figures.placing import place_labels
from atrc_exp.report.results.aggregate import Row
from atrc_exp.runs.configurations import read_network_config
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.finished import Experiment, Setting

PROFILE = "profile.json"
_LOOKS: dict[str, dict[str, Any]] = {  # by kind of network: told apart by shape and by fill
    "single-task networks": {"marker": "s", "color": "black", "markerfacecolor": "white"},
    "no distillation": {"marker": "s", "color": "black", "markerfacecolor": "black"},
    "one context type": {"marker": "o", "color": "#1f78b4", "markerfacecolor": "#1f78b4"},
    "ATRC": {"marker": "*", "color": "#c0392b", "markerfacecolor": "#c0392b", "markersize": 13},
    "other modules": {"marker": "D", "color": "0.35", "markerfacecolor": "white"},
}
_KINDS = dict.fromkeys(CONTEXT_TYPES, "one context type") | {"none": "no distillation", "atrc": "ATRC"}


@dataclass(frozen=True)
class Point:
    """One network: its gain in per cent, its parameters and its multiply-adds for one image."""

    name: str
    kind: str
    delta: float
    parameters: int
    multiply_adds: int


def groups(rows: Iterable[Row]) -> dict[tuple[Setting, tuple[str, ...]], list[Row]]:
    """Retrained rows whose Δm can be compared: over the same tasks under the same setting."""
    found: dict[tuple[Setting, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        if row.experiment.stage == "retrain" and row.delta is not None and row.delta.value is not None:
            found.setdefault((row.experiment.setting, row.delta.tasks), []).append(row)
    return found


def points(rows: Sequence[Row], baselines: Iterable[Row], runs_dir: Path) -> tuple[list[Point], list[str]]:
    """The networks of one of `groups`, the single-task networks together at Δm = 0, and why some have no point."""
    delta, setting = rows[0].delta, rows[0].experiment.setting
    assert delta is not None
    found, reasons = [], list[str]()
    try:
        single = [count(_first_run(row, runs_dir)) for row in _references(baselines, setting, delta.tasks)]
        total = sum(single, Part(0, 0, 0, 0))
        found.append(Point("single task", "single-task networks", 0.0, total.parameters, total.paper))
    except UserError as error:
        reasons.append(f"no point for the single-task networks: {error}")
    names = short_names([row.name for row in rows])
    for row in rows:
        assert row.delta is not None and row.delta.value is not None
        try:
            part = count(_first_run(row, runs_dir))
        except UserError as error:
            reasons.append(f"no point for {row.name}: {error}")
        else:
            found.append(Point(names[row.name], _kind(row.experiment), row.delta.value, part.parameters, part.paper))
    return found, reasons


def _references(baselines: Iterable[Row], setting: Setting, tasks: Sequence[str]) -> Iterator[Row]:
    for row in baselines:
        if row.experiment.setting == setting and row.experiment.tasks[0] in tasks and row.statistics:
            yield row


def _first_run(row: Row, runs_dir: Path) -> Path:
    return runs_dir / row.name / f"seed{row.seeds[0]}"


def _kind(experiment: Experiment) -> str:
    return _KINDS.get(experiment.distillation, "other modules")


def count(run: Path) -> Part:
    """Parameters and multiply-adds of a run's network for one image.

    `<runs_dir>/<name>/profile.json`, which `stage=profile` leaves, is taken where it is of this network and image size;
    otherwise the network of the run's configuration is counted.

    Raises:
        UserError: the configuration cannot be read or its network not be built, or it has not the parameters that the
            run's summary tells.
    """
    config = read_network_config(run)
    parameters = read_json(run / SUMMARY)["parameters"]
    kept = _kept(run.parent / PROFILE, config.dataset.crop)
    if kept is not None and kept.parameters == parameters:
        return kept
    counted = profile_of(config).total
    if counted.parameters != parameters:
        raise UserError(f"{run}: its network has {parameters} parameters, that of its configuration has "
                        f"{counted.parameters} in this build; its multiply-adds are not known")  # fmt: skip
    return counted


def _kept(path: Path, crop: Sequence[int]) -> Part | None:
    """The counts in a profile.json, where it can be read and is about images of this size."""
    try:
        stored = read_json(path)
        total = stored["total"]
        plain, local = total["multiply_adds"], total["multiply_adds_with_local_attention"]
        part = Part(total["parameters"], plain, local - plain, total["multiply_adds_paper"])
        return part if stored["input"] == [1, 3, *crop] else None
    except (UserError, KeyError, TypeError):
        return None


def front_of(networks: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, Δm) to which no other network is cheaper and as good, nor better and as cheap, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, delta in sorted(networks, key=lambda each: (each[0], -each[1])):
        if not front or delta > front[-1][1]:
            front.append((cost, delta))
    return front


def draw(found: Sequence[Point]) -> Figure:
    """Δm over parameters (left) and over multiply-adds (right), every network with its name.

    A dashed line joins the networks that are best for their cost.

    Raises:
        UserError: no network.
    """
    if not found:
        raise UserError("no network can be counted")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    columns = ((left, [p.parameters / 1e6 for p in found], "parameters [10⁶]"),
               (right, [p.multiply_adds / 1e9 for p in found], "multiply-adds [10⁹]"))  # fmt: skip
    for axes, xs, label in columns:
        for point, x in zip(found, xs, strict=True):
            axes.plot([x], [point.delta], linestyle="none", zorder=3, **{"markersize": 7, **_LOOKS[point.kind]})
        front = front_of([(x, point.delta) for x, point in zip(xs, found, strict=True)])
        axes.step(*zip(*front, strict=True), where="post", color="0.7", linewidth=1, linestyle="--", zorder=1)
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.set_xscale("log")  # the single-task networks cost several times what the others do
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(label)
        axes.margins(x=0.2, y=0.14)
        axes.grid(color="0.93", zorder=0)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("Δm [%] ↑")
    if not any(point.delta for point in found):
        left.set_ylim(-1, 1)  # around the zeros that are all there is
    kinds = [kind for kind in _LOOKS if any(point.kind == kind for point in found)]
    handles = [Line2D([], [], linestyle="none", label=kind, **{"markersize": 7, **_LOOKS[kind]}) for kind in kinds]
    handles.append(Line2D([], [], color="0.7", linewidth=1, linestyle="--", label="best for its cost"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    freeze_layout(figure)
    for axes, xs, _ in columns:
        place_labels(axes, list(zip(xs, (p.delta for p in found), strict=True)), [p.name for p in found])
    return figure
