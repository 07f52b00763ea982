"""Panels and arrays of `stage=attention`: rows of the attention matrices over the image (Fig. 3)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from atrc_exp.files import replacing
from atrc_exp.genotype import NONE, joined
from atrc_exp.models.contexts.attention_rows import AttentionRow
from atrc_exp.report.figures import drawing
from atrc_exp.tasks import TASKS

_COLOURS = "magma"  # its lightness rises all the way
_WIDTH = 2.5  # inches of one picture
_REGIONS = 6  # prototypes shown, those of the largest weights


@dataclass(frozen=True)
class Place:
    """The pixel, and where the maps lie on its image."""

    image: np.ndarray
    """(H, W, 3) uint8, as it is in its file."""
    pixel: tuple[int, int]
    """Row and column."""
    cell: tuple[int, int]
    """Row and column of the position of the maps that holds the pixel."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom and top of the maps in the image's pixels, whose centres are whole numbers."""


def save_arrays(
    path: Path, place: Place, rows: Mapping[str, Sequence[AttentionRow]], densities: Mapping[str, Tensor]
) -> None:
    """Write the rows of a target as `.npz`.

    It holds "pixel", "cell", "extent" as in `Place`; by source "<source>.context" and, but for none, "<source>.weights"
    (h, w) and "<source>.beyond"; for contexts that read label regions also "<source>.region_weights" (R,),
    "<source>.region_sizes" (R,) and "<source>.region_task", and the maps of these regions as "regions.<task>"
    (R, h, w), float32. Where a block has several contexts, these are "<source>.<context>.weights" and so on, and
    "<source>.<context>.share" is the context's weight in the block for this image.
    """
    arrays: dict[str, Any] = {"pixel": place.pixel, "cell": place.cell, "extent": place.extent}
    for source, contexts in rows.items():
        arrays[f"{source}.context"] = joined(row.block.context for row in contexts) or NONE
        for row in contexts:
            name = source if len(contexts) == 1 else f"{source}.{row.block.context}"
            arrays |= {f"{name}.weights": _array(row.weights), f"{name}.beyond": row.beyond}
            if len(contexts) > 1:
                arrays[f"{name}.share"] = row.share
            task = row.block.regions
            if task is not None and row.regions is not None and row.sizes is not None:
                arrays |= {f"{name}.region_weights": _array(row.regions), f"{name}.region_sizes": _array(row.sizes)}
                arrays |= {f"{name}.region_task": task, f"regions.{task}": _array(densities[task])}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()


def draw(
    target: str, place: Place, rows: Mapping[str, Sequence[AttentionRow]], names: Mapping[str, Sequence[str]]
) -> Figure:
    """The image with the pixel, and one column a context of a source: its heat map, below it what the map is made of.

    Where a block has several contexts the title of each tells its share of the block's output for this image.

    Args:
        rows: by source, one a context; none of them for a block that is none.
        names: those of the label regions by task.
    """
    shown = [(source, row) for source, contexts in rows.items() for row in contexts or (None,)]
    columns = 1 + len(shown)
    height = _WIDTH * min(max(place.image.shape[0] / place.image.shape[1], 0.5), 1.6)
    figure = Figure(figsize=(_WIDTH * columns + 0.3, height + 2.2), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False, height_ratios=(height, 1.5))
    _show_image(axes[0, 0], place)
    _explain(axes[1, 0], target, place)
    for (source, row), above, below in zip(shown, axes[0, 1:], axes[1, 1:], strict=True):
        share = f", {_percent(100 * row.share)}" if row and len(rows[source]) > 1 else ""
        context = drawing.title(row.block.context if row else NONE)
        above.set_title(f"{TASKS[source].title}: {context}{share}", fontsize=10)
        if row is None:
            _show_none(above, place)
            below.set_axis_off()
            continue
        _show_row(above, place, row)
        if row.regions is not None and row.block.regions is not None:
            _show_prototypes(below, row, names[row.block.regions])
        elif row.window is not None:
            _show_window(below, row, row.window)
        else:
            _show_profile(below, row)
    return figure


def _show_image(axes: Axes, place: Place) -> None:
    axes.imshow(place.image)
    _mark(axes, place)
    axes.set_title("image", fontsize=10)
    axes.set_axis_off()


def _mark(axes: Axes, place: Place) -> None:
    """A white cross with a black rim, seen on light and dark alike."""
    y, x = place.pixel
    for colour, width, size in (("black", 3.2, 10), ("white", 1.4, 8)):
        axes.plot(x, y, "+", color=colour, markersize=size, markeredgewidth=width)
    axes.set(xlim=(-0.5, place.image.shape[1] - 0.5), ylim=(place.image.shape[0] - 0.5, -0.5))


def _explain(axes: Axes, target: str, place: Place) -> None:
    axes.set_axis_off()
    text = (
        f"target {drawing.row_title(target)}\npixel ({place.pixel[0]}, {place.pixel[1]})\n\n"
        "above: weight of every\nposition of the source;\nbelow: prototypes with the\nlargest weights, the window\n"
        "that the pixel sees, or all\nweights in falling order"
    )
    axes.text(0, 1, text, fontsize=9, va="top", transform=axes.transAxes)


def _show_none(axes: Axes, place: Place) -> None:
    axes.set(xticks=(), yticks=(), facecolor="0.92", box_aspect=place.image.shape[0] / place.image.shape[1])
    axes.text(0.5, 0.5, "no output", ha="center", va="center", color="0.3", transform=axes.transAxes)


def _show_row(axes: Axes, place: Place, row: AttentionRow) -> None:
    """The weights on a scale from the least to the largest one, both written below."""
    weights = 100 * _array(row.weights)
    picture = axes.imshow(weights, extent=place.extent, cmap=_COLOURS, interpolation="nearest")
    _mark(axes, place)
    axes.set(xticks=(), yticks=())
    if row.window is not None:
        _outline(axes, place, weights.shape, row.window)
    below = axes.inset_axes((0.0, -0.09, 1.0, 0.05))
    bar = axes.figure.colorbar(picture, cax=below, orientation="horizontal")
    low, high = float(weights.min()), float(weights.max())
    ends = [low, high] if low < high else [low]
    bar.set_ticks(ends, labels=[f"{end:.3g} %" for end in ends])
    if low < high:
        least, most = below.get_xticklabels()
        least.set_horizontalalignment("left")
        most.set_horizontalalignment("right")
    below.tick_params(labelsize=7, length=0)


def _outline(axes: Axes, place: Place, shape: tuple[int, ...], window: tuple[slice, slice]) -> None:
    """A frame around the window, most of which may be as dark as what is outside of it."""
    left, right, bottom, top = place.extent
    rows, columns = window
    height, width = (bottom - top) / shape[0], (right - left) / shape[1]
    corner = left + columns.start * width, top + rows.start * height
    size = (columns.stop - columns.start) * width, (rows.stop - rows.start) * height
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="0.6", linewidth=0.8))


def _show_prototypes(axes: Axes, row: AttentionRow, names: Sequence[str]) -> None:
    """Bars of the largest weights, each with the name and the size of its region."""
    assert row.regions is not None and row.sizes is not None
    weights, sizes = 100 * _array(row.regions), 100 * _array(row.sizes)
    largest = np.argsort(-weights, kind="stable")[:_REGIONS]
    at = np.arange(len(largest))
    axes.barh(at, weights[largest], color="0.75", edgecolor="0.35", linewidth=0.6)
    for y, index in enumerate(largest.tolist()):
        axes.text(0.02, y, f"{names[index]} (size {_percent(sizes[index])})", fontsize=7, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    assert row.block.regions is not None
    axes.set(yticks=(), xlim=(0, max(1.0, 1.15 * weights.max())), ylim=(_REGIONS - 0.4, -0.6))
    axes.set_xlabel(f"weight of {TASKS[row.block.regions].title} prototypes [%]", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=7, length=2)


def _percent(value: float) -> str:
    return "0 %" if value == 0 else f"{value:.1f} %" if value >= 0.05 else "< 0.1 %"


def _show_window(axes: Axes, row: AttentionRow, window: tuple[slice, slice]) -> None:
    """The part of the map that the pixel sees, enlarged."""
    part = _array(row.weights)[window]
    axes.imshow(part, cmap=_COLOURS, vmin=0, interpolation="nearest")
    axes.set(xticks=(), yticks=())
    beyond = f", {100 * row.beyond:.1f} % beyond the border" if row.beyond else ""
    axes.set_xlabel(f"{part.shape[0]} × {part.shape[1]} window{beyond}", fontsize=7, labelpad=2)


def _show_profile(axes: Axes, row: AttentionRow) -> None:
    """Weights in falling order, as multiples of an even spread."""
    weights = np.sort(_array(row.weights), axis=None)[::-1] * row.weights.numel()
    axes.plot(np.linspace(0, 100, len(weights)), weights, color="black", linewidth=1)
    axes.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, 100), ylim=(0, 1.1 * math.ceil(max(1.0, float(weights[0])) * 10) / 10))
    axes.set_xlabel("positions by weight [%]; 1 = even", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=7, length=2)
