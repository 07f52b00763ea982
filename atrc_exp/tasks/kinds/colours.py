"""Colours of maps in pictures: class palettes, colour maps, grey for what is unlabelled."""

from collections.abc import Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from torch import Tensor

UNLABELLED = 0.5  # grey


def coloured(values: Tensor, name: str) -> np.ndarray:
    """Colours (h, w, 3) of values (h, w) in [0, 1]."""
    return colormaps[name](values.clamp(0, 1).numpy())[..., :3]


def palette(classes: np.ndarray) -> np.ndarray:
    """Distinct colours of up to 60 classes, the rest share them."""
    colours = np.concatenate([colormaps[name].colors for name in ("tab20", "tab20b", "tab20c")])  # type: ignore[attr-defined]
    return colours[classes % len(colours)]


def grey_out(picture: np.ndarray, valid: Tensor) -> np.ndarray:
    """The picture (h, w, 3), grey where `valid` (h, w) is not."""
    return np.where(valid.numpy()[..., None], picture, UNLABELLED)


def mean_colour(colours: Iterable[str]) -> str:
    """The mean of colours, of which each is `#rrggbb`."""
    return to_hex(np.mean([to_rgb(colour) for colour in colours], 0))


def ink(colour: str) -> str:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.4 else "white"
