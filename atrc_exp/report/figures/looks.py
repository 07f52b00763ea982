"""What the figures have in common: looks of the context types and of several runs, and the forms of a figure."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from atrc_exp.files import replacing

TITLES = {"none": "none", "global": "global", "local": "local", "tlabel": "T-label", "slabel": "S-label"}
FILLS = {"none": "#f7f7f7", "global": "#fee090", "local": "#8fd0a8", "tlabel": "#4d96c9", "slabel": "#54357f"}
"""Colours whose lightness falls in the order of the types, so that a grey print keeps them apart."""
HATCHES = {"none": "", "global": "....", "local": "////", "tlabel": "", "slabel": ""}
INKS = {"none": "black", "global": "black", "local": "black", "tlabel": "black", "slabel": "white"}
FORMATS = (".png", ".pdf")
_SVG_FACTOR = 3  # sharpness at any size is worth that many times the bytes

_COLOURS = ("black", "#d95f02", "#1f78b4", "#7a7a7a", "#54357f")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = "os^Dv*PX<>"


def line_look(index: int) -> dict[str, Any]:
    """Line of the index-th of several runs: twenty pairs of colour and dash, and ten markers."""
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)]}  # fmt: skip


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
