"""The label region of each pixel (Sec. 3.2.3, App. D), and a check of the labels."""

from torch import Tensor

from atrc_exp.tasks import IGNORE, Task


def require_classes(label: Tensor, classes: int) -> None:
    """Raise a ValueError that names the first label which is neither in 0..classes-1 nor 255."""
    wrong = ((label < 0) | (label >= classes)) & (label != IGNORE)
    if wrong.any():
        raise ValueError(f"label {label[wrong][0].item()}: must be 0 to {classes - 1}, or {IGNORE} for unlabelled")


def region_labels(task: Task, label: Tensor, codebook: Tensor | None = None) -> Tensor:
    """Label region of every pixel: the target of the task's auxiliary head.

    Args:
        label: of the task's kind, as in batches.
        codebook: (R, 3) unit vectors; needed by coded kinds only.

    Returns:
        (B, H, W) int64 in 0..`task.regions` - 1, 255 where the pixel has no label.
    """
    regions = task.kind.regions(task, label, codebook)
    return regions if task.kind.class_map else regions.masked_fill_(~task.kind.valid(label), IGNORE)
