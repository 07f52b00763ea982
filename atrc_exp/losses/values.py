"""Losses of values: absolute errors of depth and of unit normals (App. A)."""

from torch import Tensor

from atrc_exp.losses.loss import Loss, at_label_size, mask


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


VALUE_LOSSES = {
    "l1": Loss(lambda task, prediction, label, weight, code: absolute_error(prediction, label, task.kind.valid(label))),
    "unit_l1": Loss(
        lambda task, prediction, label, weight, code: unit_absolute_error(prediction, label, task.kind.valid(label))
    ),
}
