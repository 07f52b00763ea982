"""Class maps: one of several classes in every pixel, 255 where there is no label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from atrc_exp.errors import UserError
from atrc_exp.tasks.kinds.kind import EMPTY, IGNORE, Doubt, Kind, Look, Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task


class Classes(Kind):
    """Semantic segmentation and its like: predictions are logits (C, H, W), classes are their own label regions."""

    name = "classes"
    class_map = True
    fill = IGNORE
    dtype = "uint8"
    encodings = ("indices", "mask", "colours")
    losses: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cross_entropy": ("class_weights", "label_smoothing"),
        "focal": (),
        "dice": (),
    }
    metrics: ClassVar[Mapping[str, Measure]] = {
        "miou": Measure("miou", True, "%"),
        "pixel_accuracy": Measure("miou", True, "%"),
    }
    stored_as = "indices"
    stored_form = "8-bit grey, the index of the class"

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """See `Kind`: the number of classes, which the dataset says."""
        return 0, 0

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        import numpy as np

        if task.background_is_unlabelled:  # images without people are many
            return
        counts = np.bincount(label.reshape(-1), minlength=IGNORE + 1)
        labelled = counts[:IGNORE].sum()
        if not labelled:
            yield EMPTY
        elif counts.max() == counts.sum():
            yield Doubt(f"the value {counts.argmax()} in every pixel", "are these the right files?")
        elif counts[0] == labelled:
            cure = f"files of 0 and {IGNORE} are masks: encoding: mask in folders.labels of one's own dataset"
            yield Doubt("nothing but class 0 and unlabelled pixels", cure, 1.0)

    def statistics(self, task: Task, label: np.ndarray) -> dict[str, Any]:
        """See `Kind`."""
        import numpy as np

        if task.background_is_unlabelled and not label.any():
            return {}  # an image without people
        counts = np.bincount(label.reshape(-1), minlength=IGNORE + 1)
        return {"valid": label.size - int(counts[IGNORE]), "counts": counts}

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """See `Kind`."""
        return Look(label, classes=True)

    def finish(self, task: Task, label: Tensor) -> Tensor:
        """See `Kind`; a map of nothing but background is unlabelled where the task says so."""
        if task.background_is_unlabelled:
            # In 8 bits 0 - 1 is 255: less one, background and unlabelled are the two largest values.
            empty = (label - 1).flatten(-2).amin(-1) >= IGNORE - 1
            label = label | (IGNORE * empty).byte()[..., None, None]
        return label.long()

    def valid(self, label: Tensor) -> Tensor:
        """See `Kind`."""
        return label != IGNORE

    def regions(self, task: Task, label: Tensor, codebook: Tensor | None) -> Tensor:
        """See `Kind`."""
        return label.long()

    def region_names(self, task: Task, class_names: Sequence[str] | None) -> list[str]:
        """See `Kind`."""
        return list(class_names or (f"class {index}" for index in range(task.regions)))

    def random(self, task: Task, images: int, height: int, width: int) -> Tensor:
        """See `Kind`."""
        import torch

        return torch.randint(0, task.regions, (images, height, width))

    def store(self, prediction: Tensor) -> Tensor:
        """See `Kind`."""
        return prediction.argmax(0).byte()

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """See `Kind`."""
        import torch

        if array.max() >= task.channels:
            raise UserError(f"holds class {array.max()}; allowed are 0 to {task.channels - 1}")
        one_hot = torch.nn.functional.one_hot(torch.tensor(array).long(), task.channels)
        return one_hot.permute(2, 0, 1).float()

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """See `Kind`."""
        return Look(stored, classes=True)

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `Kind`."""
        from atrc_exp.tasks.kinds.colours import grey_out, palette

        return grey_out(palette(label.numpy()), self.valid(label)), palette(prediction.argmax(0).numpy())
