"""The last steps of a batch, on the device: floats, normalisation, the ignore step."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from atrc_exp.data.batch import Batch
from atrc_exp.normalisation import Normalisation
from atrc_exp.tasks import Task


def finish(batch: Batch, tasks: Sequence[Task], device: torch.device, normalisation: Normalisation) -> Batch:
    """Move a batch to the device and bring it into its final form; without a host sync.

    The image's padding is 0 after normalisation, the mean colour. Where a map of a task with
    `background_is_unlabelled` shows nothing but background it is unlabelled.
    """
    moved = batch.to(device)
    labels = {task.name: task.kind.finish(task, moved.labels[task.name]) for task in tasks}
    return replace(moved, image=_normalised(moved, normalisation), labels=labels)


def _normalised(batch: Batch, normalisation: Normalisation) -> Tensor:
    """RGB (B, 3, H, W) float32; in place from the first float on, since fresh memory costs more."""
    image = batch.image.float()
    factor, offset = _linear(normalisation, image.device)
    torch.addcmul(offset, image, factor, out=image)
    for own, (height, width) in zip(image, batch.sizes.tolist(), strict=True):
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
