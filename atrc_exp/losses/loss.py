"""What every loss consists of, and what they share: precision, size and masks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atrc_exp.resizing import resize
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import TriangularCode

PositiveWeight = Tensor | float | None
"""Weight of the pixels of class 1, others get 1 - this; None where classes are not weighted."""


@dataclass(frozen=True)
class Loss:
    """A loss of one task, summed over valid pixels, so that micro-batches and ranks add up."""

    total: Callable[[Task, Tensor, Tensor, PositiveWeight, TriangularCode | None], Tensor]
    """Sum of a task for a prediction (B, `task.channels`, h, w), which is resized to the label, and the label in
    the form of batches. Pixels without a label take no part in value or gradient."""
    positive_weight: Callable[[Task, Tensor, Tensor], PositiveWeight] | None = None
    """Weight of class 1 from a task, its valid pixels and those of class 1; the auxiliary loss has it, too."""
    counts_positives: bool = False
    """`positive_weight` reads the number of pixels of class 1 in the whole batch."""


def mask(values: Tensor, valid: Tensor) -> Tensor:
    """Values (B, C, H, W) with 0 where `valid` (B, H, W) is not, so that nothing there reaches the gradient."""
    return values.masked_fill(~valid.unsqueeze(1), 0)


def at_label_size(prediction: Tensor, label: Tensor) -> Tensor:
    """The prediction in at least single precision and at the size of the label."""
    return resize(single(prediction), label.shape[-2:])


def single(values: Tensor) -> Tensor:
    """At least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
