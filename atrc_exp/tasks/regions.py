"""What label maps mean: which pixels count, and to which label region each belongs (Sec. 3.2.3, App. D)."""

import math

import torch
from torch import Tensor

from atrc_exp.tasks import DEPTH_BINS, DEPTH_RANGE, IGNORE, Task


def valid_pixels(kind: str, label: Tensor) -> Tensor:
    """Mask (B, H, W) of labelled pixels.

    Args:
        kind: `Task.label`: classes (B, H, W), depth (B, 1, H, W) in metres, or normals (B, 3, H, W).
    """
    if kind == "classes":
        return label != IGNORE
    if kind == "depth":
        return ((label > 0) & label.isfinite()).squeeze(1)
    if kind == "normals":
        return (label != 0).any(dim=1) & label.isfinite().all(dim=1)
    raise ValueError(f"unknown kind of label '{kind}'")


def require_classes(label: Tensor, classes: int) -> None:
    """Raise a ValueError that names the first label which is neither in 0..classes-1 nor 255."""
    wrong = ((label < 0) | (label >= classes)) & (label != IGNORE)
    if wrong.any():
        raise ValueError(f"label {label[wrong][0].item()}: must be 0 to {classes - 1}, or {IGNORE} for unlabelled")


def region_labels(task: Task, label: Tensor, codebook: Tensor | None = None) -> Tensor:
    """Label region of every pixel: the target of the task's auxiliary head.

    Args:
        label: of the task's kind, as in `valid_pixels`.
        codebook: (R, 3) unit vectors; needed by normals only.

    Returns:
        (B, H, W) int64 in 0..`task.regions` - 1, 255 where the pixel has no label.
    """
    if task.label == "classes":
        return label.long()
    if task.label == "depth":
        regions = depth_bins(label.squeeze(1))
    elif codebook is None:
        raise ValueError(f"the label regions of {task.name} need a codebook")
    else:
        regions = nearest_codeword(label, codebook)
    return regions.masked_fill_(~valid_pixels(task.label, label), IGNORE)


def depth_bins(depth: Tensor) -> Tensor:
    """Logarithmic bin (int64) of depths in metres; those outside 0.7 to 10 m fall into the first or last."""
    near, far = DEPTH_RANGE
    position = torch.log(depth / near) * (DEPTH_BINS / math.log(far / near))
    return position.floor_().clamp_(0, DEPTH_BINS - 1).long()


def nearest_codeword(normals: Tensor, codebook: Tensor) -> Tensor:
    """Index (B, H, W) of the codeword at the smallest angle to each normal (B, 3, H, W) of any length."""
    codebook = codebook.to(normals)
    # One image at a time: the similarities of a whole batch would outweigh all its predictions.
    nearest = [(image.flatten(1).T @ codebook.T).argmax(dim=1) for image in normals]
    return torch.stack(nearest).view(normals.shape[0], *normals.shape[2:])
