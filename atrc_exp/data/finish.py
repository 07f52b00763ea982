"""The last steps from loaded arrays to a batch, on the device: floats, normalisation, the ignore step.

Until here images and class maps are bytes, which is what crosses to a GPU.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from atrc_exp.normalisation import Normalisation
from atrc_exp.tasks import Task

Item = dict[str, Any]
"""What the transforms make of a sample, and their collation of several: "image" (..., 3, H, W) uint8, "labels" by task:
(..., H, W) uint8 class maps, (..., H, W) float32 values or (..., C, H, W) float32 vectors; "id"; "size" (..., 2) as in
`Batch`; "content" (..., 2), height and width of what is not padding, centred on the canvas."""

Batch = dict[str, Any]
"""`{"image": (B, 3, H, W) float32 normalised RGB, "labels": {task: tensor}, "id": list[str], "size": (B, 2) int64}`;
labels are (B, H, W) int64 for class maps, all others (B, C, H, W) float32. "size" is the
original height and width, centred on the canvas at offset floor((canvas - size) / 2)."""


def finish(item: Item, tasks: Sequence[Task], device: torch.device, normalisation: Normalisation) -> Batch:
    """Move an item, or a collation of items, to the device and bring it into its final form; without a host sync.

    The image's padding is 0 after normalisation, the mean colour. Where a map of a task with
    `background_is_unlabelled` shows nothing but background it is unlabelled.
    """
    labels = {
        task.name: task.kind.finish(task, item["labels"][task.name].to(device, non_blocking=True)) for task in tasks
    }
    return {"image": _image(item, device, normalisation), "labels": labels, "id": item["id"], "size": item["size"]}


def _image(item: Item, device: torch.device, normalisation: Normalisation) -> Tensor:
    """Normalised RGB (..., 3, H, W) float32; in place from the first float on, since fresh memory costs more."""
    image = item["image"].to(device, non_blocking=True).float()
    factor, offset = _linear(normalisation, device)
    torch.addcmul(offset, image, factor, out=image)
    sizes = item["content"].reshape(-1, 2).tolist()  # in main memory: nothing waits for the device
    for own, (height, width) in zip(image.view(-1, *image.shape[-3:]), sizes, strict=True):
        top, left = (own.shape[1] - height) // 2, (own.shape[2] - width) // 2
        for border in (own[:, :top], own[:, top + height :], own[..., :left], own[..., left + width :]):
            if border.numel():
                border.zero_()
    return image


@cache
def _linear(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset (3, 1, 1) from 8-bit values to normalised ones; kept, since a copy to a GPU waits for it."""
    channels = (normalisation.mean, normalisation.std)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in channels)
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)
