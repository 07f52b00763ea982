"""Losses of values that are predicted as a classification over their label regions (App. D)."""

from torch import Tensor

from atrc_exp.losses.classes import cross_entropy
from atrc_exp.losses.loss import Loss, PositiveWeight, at_label_size, mask
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import TriangularCode
from atrc_exp.tasks.regions import region_labels


def triangular_cross_entropy(
    task: Task, logits: Tensor, label: Tensor, weight: PositiveWeight, code: TriangularCode | None
) -> Tensor:
    """Cross-entropy with the weights of each normal's three codewords as target (App. D), summed over valid pixels.

    Args:
        logits: (B, R, h, w), one channel a codeword.
        label: (B, 3, H, W), (0, 0, 0) invalid.
    """
    assert code is not None
    valid = task.kind.valid(label)
    words, weights = code.encode(mask(label, valid))
    log_probabilities = mask(at_label_size(logits, label), valid).log_softmax(1).gather(1, words)
    return -mask(weights * log_probabilities, valid).sum()


REGION_LOSSES = {
    "region_cross_entropy": Loss(
        lambda task, logits, label, weight, code: cross_entropy(logits, region_labels(task, label))
    ),
    "triangular_cross_entropy": Loss(triangular_cross_entropy),
}
