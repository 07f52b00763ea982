"""What the figures have in common: how context types and runs are drawn, and in which forms a figure is saved."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from atrc_exp.files import replacing
from atrc_exp.genotype import CONTEXT_TYPES, context_type, parted, scale_of, task_of
from atrc_exp.tasks import title_of
from atrc_exp.tasks.kinds.colours import mean_colour

FORMATS = (".png", ".pdf")
_SVG_FACTOR = 3  # sharpness at any size is worth that many times the bytes

_COLOURS = ("black", "#d95f02", "#1f78b4", "#7a7a7a", "#54357f")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = "os^Dv*PX<>"


def line_look(index: int) -> dict[str, Any]:
    """Line of the index-th of several runs: twenty pairs of colour and dash, and ten markers."""
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)]}  # fmt: skip


def title(context: str) -> str:
    """What a figure calls a context type, or a block that has several.

    Raises:
        UserError: an unknown type; so in the functions below.
    """
    return " + ".join(context_type(name).title for name in parted(context))


def row_title(row: str, between: str = ", ") -> str:
    """Title of a target: its task, and the scale of one that has a scale, counted from the finest."""
    title = title_of(task_of(row))
    return title if row == task_of(row) else f"{title}{between}scale {scale_of(row)}"


def fill(context: str) -> str:
    """Colour of the areas of a context type; of a block that has several, their mean."""
    return mean_colour(context_type(name).colour for name in parted(context))


def patch(context: str, **style: Any) -> Patch:
    """Entry of a legend for the areas of a context type."""
    return Patch(facecolor=fill(context), label=title(context), **style)


def curve(context: str) -> dict[str, Any]:
    """Line of a context type; its neighbours in the table have other dashes."""
    dash = _DASHES[_place(context) % len(_DASHES)]
    return {"color": context_type(context).line_colour, "linestyle": dash, "linewidth": 1.6}


def marker(context: str) -> str:
    """Marker of a context type."""
    return _MARKERS[_place(context) % len(_MARKERS)]


def _place(context: str) -> int:
    return list(CONTEXT_TYPES).index(context_type(context).name)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without the words, parted by `_`, that all of them begin with; a single name stays whole."""
    words = [name.split("_") for name in names]
    shared = 0
    if len(names) > 1:
        while all(len(parts) > shared + 1 for parts in words) and len({parts[shared] for parts in words}) == 1:
            shared += 1
    return {name: "_".join(parts[shared:]) for name, parts in zip(names, words, strict=True)}


def save(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figure, by default as `<stem>.png` and `<stem>.pdf`; each file is moved into place when it is whole."""
    paths = [stem.with_name(stem.name + suffix) for suffix in formats]
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=160, bbox_inches="tight", facecolor="white")
    return paths


def note_missing(axes: Axes, text: str = "no data") -> None:
    """Say so in axes that nothing was drawn into, in place of a scale that means nothing."""
    drawn = any(np.size(line.get_xdata()) for line in axes.lines) or axes.patches or axes.images or axes.collections
    if not drawn:
        axes.set_yticks(())
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color="0.4", transform=axes.transAxes)


def freeze_layout(figure: Figure) -> None:
    """Lay the figure out once, so that it is written at once and what is placed afterwards keeps its surroundings."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def data_uri(figure: Figure, png: bytes) -> str:
    """The figure inside a page: as SVG, or its PNG where that is much smaller (many long curves)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", facecolor="white")
    svg = buffer.getvalue()
    media, content = ("png", png) if len(svg) > _SVG_FACTOR * len(png) else ("svg+xml", svg)
    return f"data:image/{media};base64,{base64.b64encode(content).decode()}"
