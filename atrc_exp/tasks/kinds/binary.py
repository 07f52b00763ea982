"""Binary maps: class 1 is looked for, 0 is the rest, 255 has no label (saliency, boundaries, shadows)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from atrc_exp.tasks.kinds.classes import Classes
from atrc_exp.tasks.kinds.kind import IGNORE, Doubt, Look, Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task

_LOGIT_BOUND = 50.0  # its sigmoid is 1 in single precision


def probability(prediction: Tensor, dim: int = 0) -> Tensor:
    """Probability of class 1: the sigmoid of one logit, or the softmax of two, along `dim`, which is dropped."""
    if prediction.shape[dim] == 1:
        return prediction.squeeze(dim).sigmoid()
    return prediction.softmax(dim).select(dim, 1)


class Binary(Classes):
    """As class maps, but scored, stored and shown by the probability of class 1."""

    name = "binary"
    encodings = ("indices", "mask", "colours")
    losses: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cross_entropy": ("class_weights", "label_smoothing"),
        "balanced_cross_entropy": (),
        "weighted_binary": ("positive_weight",),
        "boundary_f": ("positive_weight", "max_distance"),
        "focal": (),
        "dice": (),
    }
    one_logit = ("weighted_binary", "boundary_f")
    """Losses of one channel; the others have two."""
    metrics: ClassVar[Mapping[str, Measure]] = {
        "f": Measure("binary_f", True, "%"),
        "iou": Measure("binary_f", True, "%"),
        "max_f": Measure("max_f", True, "%"),
        "ods_f": Measure("boundary", True, "%", reads=("max_distance",)),
    }
    stored_as = "grey"
    stored_form = "8-bit grey, 255 times the probability"

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """See `Kind`."""
        return (1 if loss in self.one_logit else 2), 2

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        found = list(super().doubts(task, label))
        yield from found
        if not found and (label == 1).sum() > 0.9 * (label != IGNORE).sum():
            yield Doubt("class 1 nearly everywhere", "are the files inverted? Class 1 is what is looked for", 0.5)

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """See `Kind`."""
        import numpy as np

        return Look(np.ma.masked_equal(label, IGNORE), "gray_r", (0, 1))

    def store(self, prediction: Tensor) -> Tensor:
        """See `Kind`."""
        return (255 * probability(prediction)).floor().byte()

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """See `Kind`."""
        import torch

        # A tenth of a step is added: floor drops it, and no probability falls below the threshold it is.
        stored = ((torch.tensor(array).double() + 0.1) / 255).clamp(max=1)
        logit = torch.logit(stored).clamp(max=_LOGIT_BOUND).float()
        return logit[None] if task.channels == 1 else torch.stack([torch.zeros_like(logit), logit])

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """See `Kind`."""
        return Look(stored / 255, "gray_r", (0, 1), unit="probability")

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `Kind`."""
        from atrc_exp.tasks.kinds.colours import coloured, grey_out

        positive = coloured((label == 1).float(), "gray")
        return grey_out(positive, self.valid(label)), coloured(probability(prediction.float()), "gray")
