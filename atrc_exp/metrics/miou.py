"""Mean intersection over union of semantic segmentation and human parts."""

import torch
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.tasks import IGNORE
from atrc_exp.tasks.regions import require_classes


class MeanIoU(Metric):
    """Mean over classes of TP / (TP + FP + FN), pooled over all valid pixels of the dataset.

    `compute()` gives `miou` and `pixel_accuracy`, the share of valid pixels of the right class, in [0, 1].

    Args:
        classes: number of classes C.
        absent: a class in neither labels nor predictions counts as 0 (`zero`, as published) or not at all (`skip`).
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    """(C, C) int64 pixels by [label, prediction], of this rank outside `sync_context()`."""

    def __init__(self, classes: int, *, absent: str = "zero") -> None:
        super().__init__()
        if absent not in ("zero", "skip"):
            raise ValueError(f"absent={absent}: must be zero or skip")
        self.classes = classes
        self.absent = absent
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: scores (B, C, H, W) and labels (B, H, W).

        Raises:
            ValueError: a label that is neither in 0..C-1 nor 255.
        """
        require_classes(label, self.classes)
        pairs = label.long() * self.classes + prediction.argmax(dim=1)
        pairs = pairs[label != IGNORE]
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def compute(self) -> dict[str, float]:
        """See the class; the accuracy is NaN where no pixel was valid, `miou` under `skip` where no class occurs."""
        intersection, union = self._overlap()
        iou = intersection / union.clamp(min=1)
        if self.absent == "skip":
            iou = iou[union > 0]
        right = self.confusion.diag().sum() / self.confusion.sum()
        return {"miou": iou.mean().item(), "pixel_accuracy": right.item()}

    def total(self) -> Tensor:
        """`confusion` over all ranks; every rank must call it."""
        with self.sync_context():
            return self.confusion.clone()

    def per_class(self) -> list[float | None]:
        """IoU of each class over all ranks (every rank must call it), None for classes that never occur."""
        with self.sync_context():
            intersection, union = self._overlap()
        return [i / u if u else None for i, u in zip(intersection.tolist(), union.tolist(), strict=True)]

    def _overlap(self) -> tuple[Tensor, Tensor]:
        intersection = self.confusion.diag().double()
        return intersection, self.confusion.sum(dim=0) + self.confusion.sum(dim=1) - intersection
