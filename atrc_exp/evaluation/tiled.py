"""Predictions of images of any size by a network that was trained on one: whole, in tiles, or resized.

A whole image is treated as in validation: centred on a canvas of at least the crop size, in one pass. Predictions come
in bands of rows from top to bottom, so that of a large image only the maps of a row of tiles are in memory at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atrc_exp.data.augment import EvalTransform
from atrc_exp.data.finish import finish
from atrc_exp.data.readers.sample import Sample
from atrc_exp.normalisation import Normalisation

Outputs = dict[str, Tensor]
Pass = Callable[[Tensor], Outputs]
"""From a normalised image (3, h, w) to outputs (c, h, w) by task that can be averaged: unit vectors for normals."""
Bands = Iterator[Outputs]
"""Outputs (c, n, W) of the next n rows; all bands together have the H rows of the image."""

_BAND = 256  # rows of a band where all of them are there at once


def predict_tiled(
    forward: Pass,
    image: np.ndarray,
    crop: Sequence[int],
    tile: Sequence[int],
    overlap: float,
    normalisation: Normalisation,
) -> Bands:
    """Outputs of an image (H, W, 3) uint8, whole or from tiles of at most `tile` that are blended where they overlap.

    A tile's weight falls linearly from its centre to its border. Contexts reach no further than their tile.

    Args:
        overlap: least overlap of neighbours, as a share of the crop size.
        normalisation: of the network.
    """
    canvas, top, left = on_canvas(image, crop, normalisation)
    height, width = image.shape[:2]
    whole = tuple(canvas.shape[1:])
    sides = [min(pair) for pair in zip(whole, tile, strict=True)]
    if tuple(sides) == whole:
        outputs = forward(canvas)
        yield from _bands({task: x[:, top : top + height, left : left + width] for task, x in outputs.items()})
        return
    shared = [int(overlap * min(pair)) for pair in zip(sides, crop, strict=True)]
    rows, columns = (tile_starts(*lengths) for lengths in zip(whole, sides, shared, strict=True))
    first = 0
    for band in _blended(forward, canvas, rows, columns, sides):
        last = first + next(iter(band.values())).shape[1]
        inside = slice(max(top, first) - first, max(min(top + height, last) - first, 0))
        yield {task: x[:, inside, left : left + width] for task, x in band.items()}
        first = last


def _blended(forward: Pass, canvas: Tensor, rows: Sequence[int], columns: Sequence[int], tile: Sequence[int]) -> Bands:
    """A band after each row of tiles: what no tile below covers."""
    weight = _ramp(tile[0])[:, None] * _ramp(tile[1])
    total = torch.zeros(tile[0], canvas.shape[2])
    sums: Outputs = {}
    for y, below in zip(rows, [*rows[1:], canvas.shape[1]], strict=True):
        for x in columns:
            place = (..., slice(x, x + tile[1]))
            total[place] += weight
            for task, output in forward(canvas[:, y : y + tile[0], x : x + tile[1]]).items():
                if task not in sums:
                    sums[task] = torch.zeros(output.shape[0], *total.shape)
                sums[task][place] += weight * output
        done = below - y
        yield {task: values[:, :done] / total[:done] for task, values in sums.items()}
        for values in (total, *sums.values()):
            rest = values[..., done:, :].clone()
            values.zero_()[..., : tile[0] - done, :] = rest


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First positions of the fewest evenly spread tiles that cover `length` and overlap by at least so many pixels."""
    parts = ceil((length - tile) / (tile - overlap)) + 1
    return [round(index * (length - tile) / max(parts - 1, 1)) for index in range(parts)]


def choose_tile(
    canvas: Sequence[int], crop: Sequence[int], overlap: float, fits: Callable[[int, int], bool]
) -> tuple[int, int]:
    """Height and width of the largest tiles that fit: the canvas, or both its sides in 2, 3, ... parts.

    No tile is smaller than the crop size, whether it fits or not: the network has been trained at that size.
    """
    for parts in count(1):
        height, width = (
            max(side, ceil((whole + (parts - 1) * int(overlap * side)) / parts))
            for whole, side in zip(canvas, crop, strict=True)
        )
        if fits(height, width) or (height, width) == tuple(crop):
            break
    return height, width


def _ramp(length: int) -> Tensor:
    distance = torch.arange(length) + 0.5
    return torch.minimum(distance, length - distance) / (length / 2)


def predict_resized(forward: Pass, image: np.ndarray, crop: Sequence[int], normalisation: Normalisation) -> Bands:
    """Outputs of an image (H, W, 3) uint8 that is scaled to fit into the crop size, and scaled back (bilinear)."""
    height, width = image.shape[:2]
    scale = min(crop[0] / height, crop[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if size != (height, width):
        image = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    canvas, top, left = on_canvas(image, crop, normalisation)
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    outputs = {task: output[window] for task, output in forward(canvas).items()}
    if size == (height, width):
        yield from _bands(outputs)
        return
    for rows in torch.arange(height).split(_BAND):
        yield {task: _stretched(output, rows, (height, width)) for task, output in outputs.items()}


def _stretched(output: Tensor, rows: Tensor, size: Sequence[int]) -> Tensor:
    """The `rows` (n,) of a map (c, h, w) that is resized to `size` (H, W), pixel centres at half integers."""
    last = output.shape[1] - 1
    position = ((rows + 0.5) * output.shape[1] / size[0] - 0.5).clamp(0, last)
    above = position.long()
    lines = torch.lerp(output[:, above], output[:, (above + 1).clamp(max=last)], (position - above)[:, None])
    return F.interpolate(lines[None], (len(rows), size[1]), mode="bilinear")[0]


def _bands(outputs: Outputs) -> Bands:
    height = next(iter(outputs.values())).shape[1]
    for first in range(0, height, _BAND):
        yield {task: output[:, first : first + _BAND] for task, output in outputs.items()}


def on_canvas(image: np.ndarray, crop: Sequence[int], normalisation: Normalisation) -> tuple[Tensor, int, int]:
    """Normalised image (3, h, w), padded to at least the crop size, and the offset of its content."""
    batch = EvalTransform(crop, ())(Sample("", image, {}))
    (canvas,) = finish(batch, (), torch.device("cpu"), normalisation).image
    return canvas, (canvas.shape[1] - image.shape[0]) // 2, (canvas.shape[2] - image.shape[1]) // 2
