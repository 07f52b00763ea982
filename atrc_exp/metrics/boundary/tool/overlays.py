"""Pictures of hits, misses and false alarms of one image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = {"hit": (0, 120, 90), "miss": (0, 90, 200), "false alarm": (225, 80, 0)}  # told apart by the colour-blind
_WIDTH = 400  # screen pixels, at least; a pixel has two or more
_STRIP = 20


def draw_overlay(
    prediction: NDArray[Any],
    hits: NDArray[np.bool_],
    misses: NDArray[np.bool_],
    false: NDArray[np.bool_],
    title: str,
) -> Image.Image:
    """Draw the kinds of pixels (H, W) in colours over the prediction in pale grey, with a legend and a title below."""
    response = prediction.astype(np.float32)
    top = response.max()
    pale = 255 - 70 * (response / top if top > 0 else response)
    picture = np.repeat(pale.astype(np.uint8)[..., None], 3, axis=2)
    for name, mask in (("miss", misses), ("false alarm", false), ("hit", hits)):
        picture[mask] = COLOURS[name]
    height, width = hits.shape
    scale = max(2, -(-_WIDTH // width))
    body = Image.fromarray(picture).resize((scale * width, scale * height), Image.Resampling.NEAREST)
    whole = Image.new("RGB", (max(body.width, 8 * len(title)), body.height + 2 * _STRIP), "white")
    whole.paste(body, (0, 0))
    draw, x = ImageDraw.Draw(whole), 6
    for (name, colour), mask in zip(COLOURS.items(), (hits, misses, false), strict=True):
        text = f"{name} {np.count_nonzero(mask)}"
        draw.rectangle((x, body.height + 5, x + 10, body.height + 15), fill=colour)
        draw.text((x + 15, body.height + 4), text, fill="black")
        x += 30 + 7 * len(text)
    draw.text((6, body.height + _STRIP + 3), title, fill="black")
    return whole


def write_overlay(path: Path, picture: Image.Image) -> None:
    """Write a PNG and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
