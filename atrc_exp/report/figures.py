"""What the figures have in common: names and looks of the context types, titles of tasks, and the two file formats."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from atrc_exp.files import replacing

TITLES = {"none": "none", "global": "global", "local": "local", "tlabel": "T-label", "slabel": "S-label"}
FILLS = {"none": "#f7f7f7", "global": "#fee090", "local": "#8fd0a8", "tlabel": "#4d96c9", "slabel": "#54357f"}
"""Colours whose lightness falls in the order of the types, so that a grey print keeps them apart."""
INKS = {"none": "black", "global": "black", "local": "black", "tlabel": "black", "slabel": "white"}
FORMATS = (".png", ".pdf")


def save(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figure beside and move it into place, by default as `<stem>.png` and `<stem>.pdf`."""
    paths = [stem.with_name(stem.name + suffix) for suffix in formats]
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=160, bbox_inches="tight", facecolor="white")
    return paths
