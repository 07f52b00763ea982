"""Predictions of images of any size by a network that was trained on one: tiles, or a resized image.

An image that fits into the crop size is treated as in validation: centred on the canvas, in one pass.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atrc_exp.data.augment import EvalTransform
from atrc_exp.data.finish import finish
from atrc_exp.data.sample import Sample
from atrc_exp.normalisation import Normalisation

Outputs = dict[str, Tensor]
Pass = Callable[[Tensor], Outputs]
"""From a normalised image (3, h, w) to outputs (c, h, w) by task that can be averaged: unit vectors for normals."""


def predict_tiled(
    forward: Pass, image: np.ndarray, crop: Sequence[int], overlap: float, normalisation: Normalisation
) -> Outputs:
    """Outputs (c, H, W) of an image (H, W, 3) uint8 from tiles of the crop size, blended where they overlap.

    A tile's weight falls linearly from its centre to its border. Contexts reach no further than their tile.

    Args:
        overlap: least share of a tile's side that its neighbour covers too.
        normalisation: of the network.
    """
    canvas, top, left = on_canvas(image, crop, normalisation)
    height, width = image.shape[:2]
    rows, columns = (tile_starts(n, tile, overlap) for n, tile in zip(canvas.shape[1:], crop, strict=True))
    tiles = [(y, x) for y in rows for x in columns]
    if len(tiles) == 1:
        blended = forward(canvas)
    else:
        blended = _blend(forward, canvas, tiles, crop)
    return {task: output[:, top : top + height, left : left + width] for task, output in blended.items()}


def _blend(forward: Pass, canvas: Tensor, tiles: Sequence[tuple[int, int]], crop: Sequence[int]) -> Outputs:
    weight = _ramp(crop[0])[:, None] * _ramp(crop[1])
    total = torch.zeros(canvas.shape[1:])
    sums: Outputs = {}
    for y, x in tiles:
        window = (..., slice(y, y + crop[0]), slice(x, x + crop[1]))
        total[window] += weight
        for task, output in forward(canvas[window]).items():
            if task not in sums:
                sums[task] = torch.zeros(output.shape[0], *canvas.shape[1:])
            sums[task][window] += weight * output
    return {task: value / total for task, value in sums.items()}


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First positions of the fewest evenly spread tiles that cover `length` and overlap by at least that share."""
    stride = max(1, int(tile * (1 - overlap)))
    count = ceil((length - tile) / stride) + 1
    return [round(index * (length - tile) / max(count - 1, 1)) for index in range(count)]


def _ramp(length: int) -> Tensor:
    distance = torch.arange(length) + 0.5
    return torch.minimum(distance, length - distance) / (length / 2)


def predict_resized(forward: Pass, image: np.ndarray, crop: Sequence[int], normalisation: Normalisation) -> Outputs:
    """Outputs (c, H, W) of an image (H, W, 3) uint8 that is scaled to fit into the crop size, and scaled back."""
    height, width = image.shape[:2]
    scale = min(crop[0] / height, crop[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if size != (height, width):
        image = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    canvas, top, left = on_canvas(image, crop, normalisation)
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    outputs = {task: output[window] for task, output in forward(canvas).items()}
    if size == (height, width):
        return outputs
    return {task: F.interpolate(output[None], (height, width), mode="bilinear")[0] for task, output in outputs.items()}


def on_canvas(image: np.ndarray, crop: Sequence[int], normalisation: Normalisation) -> tuple[Tensor, int, int]:
    """Normalised image (3, h, w), padded to at least the crop size, and the offset of its content."""
    item = EvalTransform(crop, ())(Sample("", image, {}))
    canvas = finish(item, (), torch.device("cpu"), normalisation)["image"]
    return canvas, (canvas.shape[1] - image.shape[0]) // 2, (canvas.shape[2] - image.shape[1]) // 2
