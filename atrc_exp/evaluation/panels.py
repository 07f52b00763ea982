"""Pictures of one image, with labels above predictions or predictions alone, and the genotype as a map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from atrc_exp.files import replacing
from atrc_exp.genotype import Genotype, context_type, parted
from atrc_exp.tasks import Task
from atrc_exp.tasks.kinds.colours import UNLABELLED, ink, mean_colour, palette

_PANEL_COLUMNS = 3
_PANEL_WIDTH = 3.2  # inches of one picture
_PANEL_PIXELS = 960  # columns of one picture; of a larger image every n-th pixel is drawn
_LEGEND_ENTRIES = 20


def panel(
    image: Tensor, labels: Mapping[str, Tensor], predictions: Mapping[str, Tensor], tasks: Sequence[Task]
) -> Figure:
    """One column a task, label above prediction, the image in front.

    Args:
        image: (3, h, w) RGB in [0, 1] on the CPU.
        labels: (h, w) classes, or values (c, h, w), by task.
        predictions: network outputs (c, h, w) by task.
    """
    columns = len(tasks) + 1
    height, width = image.shape[-2:]
    figure = Figure(figsize=(2.4 * columns, 2 * 2.4 * height / width + 0.4), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
    axes[0, 0].set_title("image")
    axes[1, 0].text(0.5, 0.5, "above: label\nbelow: prediction", ha="center", va="center")
    for column, task in enumerate(tasks, start=1):
        above, below = task.kind.pictures(task, labels[task.name], predictions[task.name])
        if (above == UNLABELLED).all():
            axes[0, column].text(0.5, 0.5, "no label", ha="center", va="center", transform=axes[0, column].transAxes)
        axes[0, column].imshow(above)
        axes[0, column].set_title(task.title)
        axes[1, column].imshow(below)
    return figure


def prediction_panel(
    image: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    tasks: Sequence[Task],
    class_names: Mapping[str, Sequence[str]],
) -> Figure:
    """The image and one picture a task; class maps have a legend beside them, measured values a colour bar.

    Args:
        image: (H, W, 3) uint8.
        predictions: by task as they are stored (`evaluation.predictions.as_array`), (H, W) or (H, W, C).
        class_names: names by task, for tasks whose classes have names.
    """
    looks = {task.name: task.kind.look_of_prediction(task, predictions[task.name]) for task in tasks}
    cells = 1 + len(tasks) + sum(look.classes for look in looks.values())
    columns = min(cells, _PANEL_COLUMNS)
    rows = -(-cells // columns)
    height = min(_PANEL_WIDTH * image.shape[0] / image.shape[1], 2 * _PANEL_WIDTH)
    figure = Figure(figsize=((_PANEL_WIDTH + 0.6) * columns, (height + 0.35) * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    remaining = iter(axes)
    step = max(1, image.shape[1] // _PANEL_PIXELS)
    _picture(next(remaining), np.asarray(Image.fromarray(image).reduce(step)), "Image")
    for task in tasks:
        axis, look = next(remaining), looks[task.name]
        shown = look.pixels[::step, ::step]
        if look.classes:
            _picture(axis, palette(shown), task.title)
            _class_legend(next(remaining), look.pixels, class_names.get(task.name))
        elif look.colours is None:
            _picture(axis, shown, task.title)
        else:
            low = float(shown.min()) if look.span is None else look.span[0]
            _bar(axis, _scaled(axis, shown, task.title, look.colours, low), look.unit)
    return figure


def _picture(axis: Axes, picture: np.ndarray, title: str, **colours: Any) -> AxesImage:
    axis.set_title(title, fontsize=11)
    return axis.imshow(picture, interpolation="nearest", **colours)


def _scaled(axis: Axes, values: np.ndarray, title: str, colours: str, low: float) -> AxesImage:
    """Values from `low` to the largest; a map of one value stands on the scale from 0 to that value, or to 1."""
    high = float(values.max())
    low = low if low < high else min(0.0, low)
    return _picture(axis, values, title, cmap=colours, vmin=low, vmax=high or 1.0)


def _bar(axis: Axes, picture: AxesImage, label: str) -> None:
    inset = axis.inset_axes((1.02, 0.0, 0.035, 1.0))  # beside the picture, which keeps its size
    axis.figure.colorbar(picture, cax=inset).ax.tick_params(labelsize=8)
    inset.set_title(label, fontsize=8, loc="left")


def _class_legend(axis: Axes, classes: np.ndarray, names: Sequence[str] | None) -> None:
    """Names of the classes that are there, the largest first, with their share of the pixels."""
    pixels = np.bincount(classes.ravel())
    order = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
    handles = []
    for index in order[:_LEGEND_ENTRIES].tolist():
        name, share = names[index] if names else f"class {index}", 100 * pixels[index] / classes.size
        label = f"{name} ({share:.0f} %)" if share >= 1 else f"{name} (< 1 %)"
        handles.append(Patch(color=tuple(palette(np.array(index))), label=label))
    if len(order) > _LEGEND_ENTRIES:
        handles.append(Patch(color="none", label=f"and {len(order) - _LEGEND_ENTRIES} more"))
    axis.legend(handles=handles, loc="upper left", fontsize=8, ncols=1 + (len(handles) > _LEGEND_ENTRIES // 2),
                frameon=False, borderaxespad=0)  # fmt: skip


def save_panel(figure: Figure, path: Path) -> None:
    """Write the figure and move it into place when it is whole."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def genotype_map(genotype: Genotype) -> Figure:
    """Context types of all blocks, targets as rows and sources as columns, with probabilities where known."""
    tasks, targets = genotype.tasks, genotype.rows
    names = {(t, s): parted(genotype.blocks[t][s]) for t, s in genotype.pairs()}
    fills = {pair: mean_colour(context_type(name).colour for name in types) for pair, types in names.items()}
    figure = Figure(figsize=(1.2 * len(tasks) + 1.5, 1.0 * len(targets) + 1.2), layout="constrained")
    axis = figure.subplots()
    axis.imshow([[to_rgb(fills[t, s]) for s in tasks] for t in targets])
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set_yticks(range(len(targets)), targets)
    axis.set_xlabel("source")
    axis.set_ylabel("target")
    probabilities = genotype.details.get("probabilities")
    for row, target in enumerate(targets):
        for column, source in enumerate(tasks):
            lines = [genotype.blocks[target][source]]
            if probabilities:
                lines.append(" + ".join(f"{probabilities[target][source][name]:.2f}" for name in names[target, source]))
            colour = ink(fills[target, source])
            axis.text(column, row, "\n".join(lines), ha="center", va="center", fontsize=9, color=colour)
    return figure


def rendered(figure: Figure) -> np.ndarray:
    """The figure as an (H, W, 3) uint8 array."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
