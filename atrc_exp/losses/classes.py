"""Losses of class maps: cross-entropy, plain or weighted by class 1 (App. A)."""

import torch.nn.functional as F
from torch import Tensor

from atrc_exp.losses import resized
from atrc_exp.losses.loss import Loss, PositiveWeight, at_label_size, mask, single
from atrc_exp.tasks import IGNORE, Task


def cross_entropy(logits: Tensor, label: Tensor, positive_weight: PositiveWeight = None) -> Tensor:
    """Cross-entropy summed over valid pixels, optionally weighted by whether class 1 is the label.

    Args:
        logits: (B, C, h, w), resized to the label.
        label: (B, H, W) integers, 255 unlabelled.
    """
    logits = single(logits)
    weights = None if positive_weight is None else _class_weights(label, positive_weight, logits)
    return resized.cross_entropy(logits, label, weights)


def binary_cross_entropy(logits: Tensor, label: Tensor, positive_weight: Tensor | float) -> Tensor:
    """Class-weighted binary cross-entropy of logits (B, 1, h, w) and labels (B, H, W), summed over valid pixels."""
    valid = label != IGNORE
    logits = mask(at_label_size(logits, label), valid).squeeze(1)
    weights = _class_weights(label, positive_weight, logits) * valid
    return F.binary_cross_entropy_with_logits(logits, (label == 1).to(logits), weights, reduction="sum")


def _class_weights(label: Tensor, positive_weight: Tensor | float, like: Tensor) -> Tensor:
    positive = (label == 1).to(like)
    return positive * positive_weight + (1 - positive) * (1 - positive_weight)


def _share_of_others(task: Task, valid: Tensor, positives: Tensor) -> Tensor:
    """What balances the classes: the share of the batch's pixels that are not of class 1."""
    return 1 - positives.double() / valid.clamp(min=1)


CLASS_LOSSES = {
    "cross_entropy": Loss(lambda task, logits, label, weight, code: cross_entropy(logits, label)),
    "balanced_cross_entropy": Loss(
        lambda task, logits, label, weight, code: cross_entropy(logits, label, weight),
        positive_weight=_share_of_others,
        counts_positives=True,
    ),
    "weighted_binary": Loss(
        lambda task, logits, label, weight, code: binary_cross_entropy(logits, label, task.positive_weight),
        positive_weight=lambda task, valid, positives: task.positive_weight,
    ),
}
