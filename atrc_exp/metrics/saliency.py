"""Maximal F-measure of saliency (Achanta et al., CVPR 2009)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.metrics.boundary import Curve
from atrc_exp.tasks import IGNORE
from atrc_exp.tasks.kinds.binary import probability
from atrc_exp.tasks.regions import require_classes

BETA_SQUARED = 0.3
THRESHOLDS = tuple(step / 20 for step in range(1, 20))


class MaxF(Metric):
    """F = (1 + beta²) P R / (beta² P + R) at its best over 19 thresholds 0.05, 0.10, ... 0.95, in [0, 1].

    A pixel is salient where its score reaches the threshold. What is undefined (no salient pixel predicted or
    labelled) counts as 0. `compute()` gives `max_f`, with pixels pooled over the dataset (the published metric);
    `max_f_mean_pr`, the F of precision and recall averaged over images; and `max_f_mean_f`, F averaged over images.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    true_positives: Tensor
    predicted: Tensor
    positives: Tensor
    precision: Tensor
    recall: Tensor
    f_measure: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("true_positives", "predicted"):
            self.add_state(state, torch.zeros(len(THRESHOLDS), dtype=torch.int64), dist_reduce_fx="sum")
        for state in ("precision", "recall", "f_measure"):  # sums over images
            self.add_state(state, torch.zeros(len(THRESHOLDS), dtype=torch.float64), dist_reduce_fx="sum")
        for state in ("positives", "images"):
            self.add_state(state, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: logits (B, 2, H, W) or (B, 1, H, W) and labels (B, H, W); images without a label are skipped.

        Raises:
            ValueError: a label that is not 0, 1 or 255.
        """
        require_classes(label, 2)
        valid = label != IGNORE
        counts = _count_passing(probability(prediction.double(), 1).contiguous(), label.long(), valid)
        true_positives, predicted = counts[:, 1, 1:], counts[:, :, 1:].sum(dim=1)
        positives = counts[:, 1, :1]
        precision, recall = _ratio(true_positives, predicted), _ratio(true_positives, positives)
        self.true_positives += true_positives.sum(dim=0)
        self.predicted += predicted.sum(dim=0)
        self.positives += positives.sum()
        self.precision += precision.sum(dim=0)
        self.recall += recall.sum(dim=0)
        self.f_measure += f_measure(precision, recall).sum(dim=0)
        self.images += valid.flatten(1).any(dim=1).sum()

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        if not self.images:
            return dict.fromkeys(("max_f", "max_f_mean_pr", "max_f_mean_f"), float("nan"))
        pooled = f_measure(*self._pooled())
        mean_pr = f_measure(self.precision / self.images, self.recall / self.images)
        mean_f = self.f_measure / self.images
        return {
            "max_f": pooled.max().item(),
            "max_f_mean_pr": mean_pr.max().item(),
            "max_f_mean_f": mean_f.max().item(),
        }

    def curve(self) -> Curve | None:
        """Pooled over all images of all ranks (every rank must call it); None where no pixel was valid."""
        with self.sync_context():
            precision, recall = self._pooled()
            scored = bool(self.images)
        f = f_measure(precision, recall)
        return Curve(list(THRESHOLDS), precision.tolist(), recall.tolist(), f.tolist()) if scored else None

    def _pooled(self) -> tuple[Tensor, Tensor]:
        return _ratio(self.true_positives, self.predicted), _ratio(self.true_positives, self.positives)


def f_measure(precision: Tensor, recall: Tensor) -> Tensor:
    """F-measure with beta² = 0.3; 0 where both are 0."""
    return _ratio((1 + BETA_SQUARED) * precision * recall, BETA_SQUARED * precision + recall)


def _count_passing(scores: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Pixels by image, label and number of thresholds that their score at least reaches, (B, 2, 20)."""
    passed = torch.bucketize(scores, scores.new_tensor(THRESHOLDS), right=True)
    images = torch.arange(len(label), device=label.device).view(-1, 1, 1)
    bins = len(THRESHOLDS) + 1
    cells = ((images * 2 + label) * bins + passed)[valid]
    histogram = torch.bincount(cells, minlength=len(label) * 2 * bins).view(len(label), 2, bins)
    return histogram.flip(-1).cumsum(dim=-1).flip(-1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float64, 0 for 0 / 0."""
    return part.double() / torch.where(whole == 0, 1, whole)
