"""Feature pyramids, maps at several strides, and the interface of the necks between backbone and heads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atrc_exp.resizing import resize

Pyramid = list[Tensor]
"""One (B, C_i, h_i, w_i) per stride, finest first."""
Pyramids = Pyramid | dict[str, Pyramid]
"""One pyramid that all tasks share, or one by task; what backbones and necks give."""


def of_task(pyramids: Pyramids, task: str) -> Pyramid:
    """The pyramid that `task` reads."""
    return pyramids[task] if isinstance(pyramids, dict) else pyramids


def join(pyramids: Pyramids, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Resize all maps of a pyramid to its first one and concatenate them (Sec. 3.1).

    Returns:
        {task: (B, sum of C_i, h_0, w_0)}; one tensor for all tasks where they share the pyramid.
    """
    if isinstance(pyramids, dict):
        return {task: _join(pyramids[task]) for task in tasks}
    return dict.fromkeys(tasks, _join(pyramids))


def _join(pyramid: Pyramid) -> Tensor:
    return torch.cat([resize(x, pyramid[0].shape[-2:]) for x in pyramid], 1)


class NeckOutput(NamedTuple):
    """What a neck makes of the backbone's maps."""

    pyramids: Pyramids
    initial: dict[str, Pyramid]
    """First predictions (B, task.channels, h_i, w_i) by task at several scales; empty in evaluation."""


class Neck(nn.Module):
    """Turns the backbone's maps into those that the tasks' heads read."""

    channels: list[int]
    """Channels of each map of a task's pyramid."""
    own_maps: bool = False
    """Whether every task has a pyramid of its own."""
    initial_scales: int = 0
    """Number of scales at which every task is predicted first, in training; the final loss supervises them."""

    def forward(self, pyramids: Pyramids, image_size: tuple[int, int]) -> NeckOutput:
        """Give the pyramids that are joined in front of the heads, for an image of (H, W) pixels."""
        raise NotImplementedError
