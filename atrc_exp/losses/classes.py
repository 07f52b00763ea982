"""Losses of class maps: cross-entropy, plain or weighted by class 1 (App. A), focal loss, Dice and boundary F."""

import math

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


def weighted_cross_entropy(task: Task, logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy with the class weights and label smoothing of the task, summed over valid pixels.

    Both are as in `torch.nn.functional.cross_entropy`. The sum is not divided by the weights: each pixel is one term.
    """
    if not task.class_weights and not task.label_smoothing:
        return cross_entropy(logits, label)
    valid = label != IGNORE
    logits = mask(at_label_size(logits, label), valid)
    weights = logits.new_tensor(task.class_weights) if task.class_weights else None
    return F.cross_entropy(
        logits, label.long(), weights, ignore_index=IGNORE, reduction="sum", label_smoothing=task.label_smoothing
    )


def focal(logits: Tensor, label: Tensor) -> Tensor:
    """-(1 - p)^2 log p of the label's class, summed over valid pixels (Lin et al., ICCV 2017, with gamma = 2)."""
    valid = label != IGNORE
    log_p = mask(at_label_size(logits, label), valid).log_softmax(1)
    picked = log_p.gather(1, label.long().masked_fill(~valid, 0).unsqueeze(1))
    return -mask((1 - picked.exp()).square() * picked, valid).sum()


def dice(logits: Tensor, label: Tensor) -> Tensor:
    """1 - Dice coefficient, its mean over classes, of each image (Milletari et al., 3DV 2016), times its valid pixels.

    One pixel is added to overlap and sizes, so that a class that is neither there nor predicted has the coefficient 1.
    """
    valid = label != IGNORE
    p = mask(mask(at_label_size(logits, label), valid).softmax(1), valid).flatten(2)
    classes = F.one_hot(label.long().masked_fill(~valid, 0), p.shape[1]).movedim(-1, 1)
    truth = mask(classes.to(p), valid).flatten(2)
    coefficients = (2 * (p * truth).sum(2) + 1) / (p.sum(2) + truth.sum(2) + 1)
    return ((1 - coefficients.mean(1)) * valid.flatten(1).sum(1)).sum()


def binary_cross_entropy(logits: Tensor, label: Tensor, positive_weight: Tensor | float) -> Tensor:
    """Class-weighted binary cross-entropy of logits (B, 1, h, w) and labels (B, H, W), summed over valid pixels."""
    valid = label != IGNORE
    logits = mask(at_label_size(logits, label), valid).squeeze(1)
    weights = _class_weights(label, positive_weight, logits) * valid
    return F.binary_cross_entropy_with_logits(logits, (label == 1).to(logits), weights, reduction="sum")


def boundary_f(logits: Tensor, label: Tensor, radius: int) -> Tensor:
    """1 - F of boundaries within a tolerance, of each image, times its valid pixels.

    F is the harmonic mean of precision, the share of the predicted probabilities at most `radius` rows and columns from
    a labelled boundary, and recall, the share of the labelled pixels that a prediction is so near to, counted by the
    largest probability there (Bokhovkin & Burnaev, "Boundary Loss for Remote Sensing Imagery Semantic Segmentation",
    ISNN 2019, Sec. 3). Their maps are boundaries of regions, these are boundaries already. As in `dice`, one pixel is
    added to numerators and denominators, so that an image without boundaries costs nothing where none is predicted.

    Args:
        logits: (B, 1, h, w), resized to the label.
        label: (B, H, W), 1 at boundaries, 255 unlabelled.
    """
    valid = label != IGNORE
    p = mask(mask(at_label_size(logits, label), valid).sigmoid(), valid)
    truth = (label == 1).unsqueeze(1).to(p)

    def share_near(values: Tensor, others: Tensor) -> Tensor:
        near = F.max_pool2d(others, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
        near = F.max_pool2d(near, (1, 2 * radius + 1), stride=1, padding=(0, radius))
        return ((values * near).flatten(1).sum(1) + 1) / (values.flatten(1).sum(1) + 1)

    precision, recall = share_near(p, truth), share_near(truth, p)
    f = 2 * precision * recall / (precision + recall)
    return ((1 - f) * valid.flatten(1).sum(1)).sum()


def boundary_cross_entropy(task: Task, logits: Tensor, label: Tensor) -> Tensor:
    """Class-weighted binary cross-entropy plus `boundary_f` with the tolerance of the task's boundary score.

    The sum keeps what the score asks for and F does not see: every boundary pixel has a match of its own. It also has a
    gradient where nothing is right yet, for which the authors add the loss to another, and Deng et al. ("Learning to
    Predict Crisp Boundaries", ECCV 2018, Sec. 3.3) Dice to cross-entropy. The score's disc is a square here.
    """
    radius = int(task.max_distance * math.hypot(*label.shape[-2:]))
    return binary_cross_entropy(logits, label, task.positive_weight) + boundary_f(logits, label, radius)


def _class_weights(label: Tensor, positive_weight: Tensor | float, like: Tensor) -> Tensor:
    positive = (label == 1).to(like)
    return positive * positive_weight + (1 - positive) * (1 - positive_weight)


def _share_of_others(task: Task, valid: Tensor, positives: Tensor) -> Tensor:
    """What balances the classes: the share of the batch's pixels that are not of class 1."""
    return 1 - positives.double() / valid.clamp(min=1)


CLASS_LOSSES = {
    "cross_entropy": Loss(lambda task, logits, label, weight, code: weighted_cross_entropy(task, logits, label)),
    "balanced_cross_entropy": Loss(
        lambda task, logits, label, weight, code: cross_entropy(logits, label, weight),
        positive_weight=_share_of_others,
        counts_positives=True,
    ),
    "weighted_binary": Loss(
        lambda task, logits, label, weight, code: binary_cross_entropy(logits, label, task.positive_weight),
        positive_weight=lambda task, valid, positives: task.positive_weight,
    ),
    "boundary_f": Loss(
        lambda task, logits, label, weight, code: boundary_cross_entropy(task, logits, label),
        positive_weight=lambda task, valid, positives: task.positive_weight,
    ),
    "focal": Loss(lambda task, logits, label, weight, code: focal(logits, label)),
    "dice": Loss(lambda task, logits, label, weight, code: dice(logits, label)),
}
