"""Losses of values: absolute errors of depth and of unit normals (App. A), and what others use for depth.

Losses that depend on more than one pixel (berHu, scale-invariant) are those of each image times its valid pixels.
"""

import math

import torch
from torch import Tensor

from atrc_exp.losses.loss import Loss, at_label_size, mask
from atrc_exp.tasks import Task


def absolute_error(prediction: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Absolute error of a prediction (B, C, h, w) from values (B, C, H, W), summed over channels and valid pixels."""
    return mask(at_label_size(prediction, label) - label, valid).abs().sum()


def unit_absolute_error(prediction: Tensor, normals: Tensor, valid: Tensor) -> Tensor:
    """Absolute error of the prediction (B, 3, h, w) at unit length, summed over channels and valid pixels."""
    predicted = mask(at_label_size(prediction, normals), valid)
    # The bound on the length, 1e-6, keeps the gradient usable where a prediction is 0 and has no direction. The
    # published code divides by any length but 0, so that a prediction of length 1e-9 has a gradient of 1e9.
    unit = predicted * predicted.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt()
    return mask(unit - normals, valid).abs().sum()


def squared_error(prediction: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Squared error of a prediction (B, C, h, w) from values (B, C, H, W), summed over channels and valid pixels."""
    return mask(at_label_size(prediction, label) - label, valid).square().sum()


def berhu(prediction: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Reverse Huber loss (Laina et al., 3DV 2016), summed over channels and valid pixels.

    An error e counts |e| up to c, and (e² + c²) / 2c beyond; c is a fifth of the largest error in the image.
    """
    error = mask(at_label_size(prediction, label) - label, valid).abs()
    c = (error.detach().flatten(1).amax(1) / 5).clamp(min=torch.finfo(error.dtype).tiny).view(-1, 1, 1, 1)
    return torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)).sum()


def scale_invariant_error(task: Task, prediction: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Mean of d² less half of the squared mean of d = log prediction - log label (Eigen et al., NIPS 2014, eq. 4).

    Below the range of the task the logarithm is continued as a line, so that predictions that are not positive, too,
    have a gradient.
    """
    near = task.kind.span(task)[0]
    predicted = mask(at_label_size(prediction, label), valid)
    line = (predicted - near) / near + math.log(near)
    log = torch.where(predicted > near, predicted.clamp(min=near).log(), line)
    difference = mask(log - label.clamp(min=torch.finfo(label.dtype).tiny).log(), valid).flatten(1)
    pixels = valid.flatten(1).sum(1)
    return (difference.square().sum(1) - difference.sum(1).square() / (2 * pixels.clamp(min=1))).sum()


VALUE_LOSSES = {
    "l1": Loss(lambda task, prediction, label, weight, code: absolute_error(prediction, label, task.kind.valid(label))),
    "unit_l1": Loss(
        lambda task, prediction, label, weight, code: unit_absolute_error(prediction, label, task.kind.valid(label))
    ),
    "l2": Loss(lambda task, prediction, label, weight, code: squared_error(prediction, label, task.kind.valid(label))),
    "berhu": Loss(lambda task, prediction, label, weight, code: berhu(prediction, label, task.kind.valid(label))),
    "silog": Loss(
        lambda task, prediction, label, weight, code: scale_invariant_error(
            task, prediction, label, task.kind.valid(label)
        )
    ),
}
