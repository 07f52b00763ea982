"""Scores of binary maps at the threshold of one half."""

import torch
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.tasks import IGNORE
from atrc_exp.tasks.kinds.binary import probability
from atrc_exp.tasks.regions import require_classes


class BinaryF(Metric):
    """F-measure and intersection over union of class 1, where its probability is above 1/2, pooled over the dataset.

    `compute()` gives `f` (F1), `iou`, `precision` and `recall`, each in [0, 1]; 0 for 0 / 0.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    true_positives: Tensor
    predicted: Tensor
    positives: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("true_positives", "predicted", "positives", "pixels"):
            self.add_state(state, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: logits (B, 2, H, W) or (B, 1, H, W) and labels (B, H, W).

        Raises:
            ValueError: a label that is not 0, 1 or 255.
        """
        require_classes(label, 2)
        valid = label != IGNORE
        found, wanted = (probability(prediction, 1) > 0.5) & valid, label == 1
        self.true_positives += (found & wanted).sum()
        self.predicted += found.sum()
        self.positives += wanted.sum()
        self.pixels += valid.sum()

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        if not self.pixels:
            return dict.fromkeys(("f", "iou", "precision", "recall"), float("nan"))
        right, found, wanted = (float(count) for count in (self.true_positives, self.predicted, self.positives))
        return {
            "f": 2 * right / max(found + wanted, 1),
            "iou": right / max(found + wanted - right, 1),
            "precision": right / max(found, 1),
            "recall": right / max(wanted, 1),
        }
