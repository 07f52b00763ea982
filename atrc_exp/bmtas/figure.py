"""The branching of an encoder as a tree: `python -m atrc_exp.bmtas.figure RUN_OR_FILE [--out STEM]`.

Writes `<stem>.png` and `<stem>.svg`, by default beside the file.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from atrc_exp.bmtas.tree import FILE_NAME, Branching, load
from atrc_exp.errors import UserError
from atrc_exp.report.figures import drawing
from atrc_exp.tasks import TASKS
from atrc_exp.words import counted

FIGURE = "branching"
FORMATS = (".png", ".svg")
_LAYER, _LANE = 0.5, 0.55  # inches of one layer and of one task


def draw(branching: Branching) -> Figure:
    """Layers from left to right, one box for every copy of a layer; a line is as wide as the tasks that it carries."""
    lanes = {task: lane for lane, task in enumerate(_order(branching))}
    layers = list(branching.layers)
    figure = Figure(figsize=(_LAYER * (len(layers) + 4), _LANE * (len(lanes) + 1.6)))
    axes = figure.add_subplot()
    centre = (len(lanes) - 1) / 2
    before = [(-1.0, centre)]
    _box(axes, -1, centre, len(lanes), "0.75")
    axes.text(-1, -0.75, "stem", ha="center", va="bottom", fontsize=8)
    for x, layer in enumerate(layers):
        places = []
        for group, parent in zip(branching.layers[layer], branching.parents(layer), strict=True):
            y = sum(lanes[task] for task in group) / len(group)
            _edge(axes, before[parent], (x, y), len(group), _colour(group))
            _box(axes, x, y, len(group), _colour(group))
            places.append((float(x), y))
        before = places
    for group, place in zip(branching.layers[layers[-1]], before, strict=True):
        for task in group:
            _edge(axes, place, (len(layers), lanes[task]), 1, _colour((task,)))
            axes.text(len(layers) + 0.15, lanes[task], TASKS[task].title, va="center", fontsize=10)
    _stages(axes, layers, len(lanes))
    axes.set(xlim=(-1.6, len(layers) + 2.2), ylim=(len(lanes) + 0.3, -1.2))
    axes.set_axis_off()
    axes.text(-1.4, len(lanes) - 0.1, _caption(branching), fontsize=8, va="top")
    return figure


def _order(branching: Branching) -> list[str]:
    """Tasks in an order in which those that share a layer stand side by side."""
    steps = [
        {task: number for number, group in enumerate(groups) for task in group} for groups in branching.layers.values()
    ]
    return sorted(branching.tasks, key=lambda task: [step[task] for step in steps])


def _colour(group: Sequence[str]) -> str | tuple[float, ...]:
    """A task's own colour for what belongs to it alone, grey for what is shared."""
    return colormaps["tab10"](list(TASKS).index(group[0])) if len(group) == 1 else "0.75"


def _box(axes: Axes, x: float, y: float, tasks: int, colour: str | tuple[float, ...]) -> None:
    height = 0.3 + 0.12 * (tasks - 1)
    axes.add_patch(
        FancyBboxPatch((x - 0.22, y - height / 2), 0.44, height, boxstyle="round,pad=0,rounding_size=0.08",
                       facecolor=colour, edgecolor="0.25", linewidth=0.8, zorder=2)
    )  # fmt: skip


def _edge(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], tasks: int, colour: str | tuple[float, ...]
) -> None:
    bend = end[0] - 0.5  # level up to here, then to the height of the end
    axes.plot([start[0], bend - 0.15, bend + 0.15, end[0]], [start[1], start[1], end[1], end[1]], color=colour,
              linewidth=1.2 + 1.2 * tasks, solid_joinstyle="round", zorder=1)  # fmt: skip


def _stages(axes: Axes, layers: Sequence[str], tasks: int) -> None:
    """Name the stages and part them by thin lines."""
    for stage, members in groupby(enumerate(layers), key=lambda item: item[1].partition(".")[0]):
        positions = [x for x, _ in members]
        axes.text(sum(positions) / len(positions), -0.75, stage, ha="center", va="bottom", fontsize=8)
        axes.plot([positions[0] - 0.5] * 2, [-0.6, tasks - 0.4], color="0.85", linewidth=0.8, zorder=0)


def _caption(branching: Branching) -> str:
    copies = sum(len(groups) for groups in branching.layers.values())
    text = f"{copies} copies of {counted(len(branching.layers), 'layer')}"
    gflops = branching.details.get("gflops")
    if gflops:
        text += (f"; GFLOPs of the encoder at 512x512: {gflops['branched']:.1f} "
                 f"(all shared {gflops['shared']:.1f}, all split {gflops['split']:.1f})")  # fmt: skip
    return text


def save(branching: Branching, stem: Path) -> list[Path]:
    """Draw the tree into `<stem>.png` and `<stem>.svg`."""
    return drawing.save(draw(branching), stem, FORMATS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the branching of a run or file."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.bmtas.figure", description=__doc__)
    parser.add_argument("source", type=Path, help="a branching.json or the folder of a branch search")
    parser.add_argument("--out", type=Path, help="path of the figure without its suffix")
    options = parser.parse_args(arguments)
    file = options.source / FILE_NAME if options.source.is_dir() else options.source
    try:
        paths = save(load(file), options.out or file.with_name(FIGURE))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"written: {', '.join(map(str, paths))}")


if __name__ == "__main__":
    main()
