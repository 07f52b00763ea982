"""The interface of the kinds of labels: all that the package asks about a label map or a prediction of it.

Label maps have three forms. Readers give arrays (H, W) or, with channels, (H, W, C). Batches hold tensors: class maps
(B, H, W), all others (B, C, H, W). A prediction is a tensor (C, H, W) of one image.

This package costs neither PyTorch nor matplotlib at import: methods that need them import them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task
    from atrc_exp.tasks.classification import TriangularCode

IGNORE = 255
"""Value of unlabelled pixels in class maps."""


@dataclass(frozen=True)
class Measure:
    """A headline metric of a kind."""

    scorer: str
    """What computes it: a key of `metrics.METRICS`, or boundary, which is matched image by image."""
    higher_is_better: bool
    unit: str | None = None
    """Unit in tables: % for fractions, "" for plain numbers; None is the unit of the task's values."""
    reads: tuple[str, ...] = ()
    """Keys of `dataset.task_table` that it needs."""


@dataclass(frozen=True)
class Bins:
    """Label regions that are bins of a range."""

    default: tuple[float, float] | None
    """The range where a task gives none; None: it must give one."""
    logarithmic: bool


@dataclass(frozen=True)
class Doubt:
    """One way in which a label map looks wrong."""

    what: str
    """What the map holds; the same for all maps that look so."""
    cure: str
    """The likely mistake, and what to do about it."""
    share: float = 0.0
    """Share of the maps that must look so: single maps may do so by right."""
    detail: str = ""
    """Numbers of this map."""


EMPTY = Doubt("no labelled pixel", "is the value of every pixel among those without a label?")


@dataclass(frozen=True)
class Look:
    """How a map is shown: as it is, by a colour map, or with a colour for each class."""

    pixels: np.ndarray
    """(h, w, 3) colours, or (h, w) values, masked where they are invalid."""
    colours: str | None = None
    """Colour map of values."""
    span: tuple[float, float] | None = None
    """Values at its ends; None takes them from the map. Predictions go up to their largest value."""
    logarithmic: bool = False
    unit: str = ""
    """Text beside the colour bar."""
    classes: bool = False
    """The values are classes."""


class Kind:
    """One kind of label map. A new kind is a subclass in a file of its own, and an instance in `KINDS`."""

    name: ClassVar[str]
    class_map: ClassVar[bool] = False
    """The label map holds classes, which can guide training crops; 255 is unlabelled."""
    coded: ClassVar[bool] = False
    """The label regions are the codewords of a codebook."""
    bins: ClassVar[Bins | None] = None
    """The label regions are bins of `Task.range`."""
    any_channels: ClassVar[bool] = False
    """The task says how many values a pixel has."""
    reference_rule: ClassVar[bool] = False
    """The published code counts other pixels as valid than those that are trained on (`Reader.stored`)."""
    fill: ClassVar[float] = 0
    """Value of unlabelled pixels and of padding."""
    dtype: ClassVar[str] = "float32"
    """Type of label maps as readers give them."""
    unit: ClassVar[str] = ""
    """Unit of values, unless the task says another."""
    any_unit: ClassVar[bool] = False
    """The task may say another."""
    encodings: ClassVar[tuple[str, ...]]
    """What the files of one's own dataset may hold (`dataset.folders`); the first is the default."""
    losses: ClassVar[Mapping[str, tuple[str, ...]]]
    """Keys of `losses.LOSSES` that fit, the first is the default; with the keys of `dataset.task_table` that each
    reads."""
    classification_loss: ClassVar[str] = ""
    """The loss over label regions, where predictions may take the form of a classification (App. D)."""
    metrics: ClassVar[Mapping[str, Measure]]
    """Headline metrics that fit; the first is the default."""
    stored_as: ClassVar[str]
    """Form of a prediction file, a key of `predictions.FORMATS`."""
    stored_form: ClassVar[str]
    """The same in words."""

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """`Task.channels` and `Task.regions` of a task with this loss, of those that its row gives."""
        raise NotImplementedError

    def span(self, task: Task) -> tuple[float, float]:
        """The range of kinds with `bins`: the task's, or the kind's own."""
        span = task.range or (self.bins.default if self.bins is not None else None)
        assert span is not None
        return span

    # Label maps as arrays

    def shape(self, task: Task, size: Sequence[int]) -> tuple[int, ...]:
        """Shape of a label map of an image of `size` (H, W)."""
        return (size[0], size[1])

    def unlabelled(self, task: Task, size: Sequence[int]) -> np.ndarray:
        """The label map of an image without a label: no pixel of it is valid."""
        import numpy as np

        return np.full(self.shape(task, size), self.fill, self.dtype)

    def magnify(self, label: np.ndarray, scale: float) -> None:
        """Change the values in place, as they change where the image is magnified by `scale`."""

    def mirror(self, label: np.ndarray) -> None:
        """Change the values in place, as they change where the image is mirrored horizontally."""

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """Ways in which the values of this map are implausible."""
        raise NotImplementedError

    def statistics(self, task: Task, label: np.ndarray) -> dict[str, Any]:
        """Values of the fields of `check.Labels` but for `pixels`."""
        raise NotImplementedError

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """How a label map is shown; depths over `span`, or over the range of their label regions."""
        raise NotImplementedError

    # Label maps and predictions as tensors

    def finish(self, task: Task, label: Tensor) -> Tensor:
        """Turn a label map (..., H, W) or (..., C, H, W), as loaders give it, into the form that losses take."""
        return label

    def valid(self, label: Tensor) -> Tensor:
        """Mask (B, H, W) of labelled pixels."""
        raise NotImplementedError

    def regions(self, task: Task, label: Tensor, codebook: Tensor | None) -> Tensor:
        """Label region (B, H, W) int64 of every pixel; of unlabelled ones any value (see `regions.region_labels`)."""
        raise NotImplementedError

    def region_names(self, task: Task, class_names: Sequence[str] | None) -> list[str]:
        """What to call the label regions."""
        raise NotImplementedError

    def from_regions(self, task: Task, logits: Tensor, code: TriangularCode | None) -> Tensor:
        """Values (B, C, H, W) of logits (B, R, H, W) over the label regions, where there is a `classification_loss`."""
        raise NotImplementedError

    def random(self, task: Task, images: int, height: int, width: int) -> Tensor:
        """Random labels of a batch, for measurements of time."""
        raise NotImplementedError

    def blended(self, prediction: Tensor) -> Tensor:
        """The form (C, H, W) in which overlapping predictions are averaged."""
        return prediction

    def store(self, prediction: Tensor) -> Tensor:
        """What is stored of a prediction (C, h, w): (h, w) or (h, w, C), uint8 or float32."""
        raise NotImplementedError

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """The reverse of `store`: a prediction that is stored so and scores like it.

        Raises:
            UserError: a class that the task does not have, or values that are not finite.
        """
        raise NotImplementedError

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """How a stored prediction is shown."""
        raise NotImplementedError

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Colours (h, w, 3) in [0, 1] of a label and its prediction on one scale; unlabelled pixels are grey."""
        raise NotImplementedError
