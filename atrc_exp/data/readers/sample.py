"""What a dataset reader delivers: samples with their labels, and the facts that every result records."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from atrc_exp.normalisation import IMAGENET, Normalisation


@dataclass
class Sample:
    """One image with the labels asked for, all of one height and width."""

    id: str
    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    labels: dict[str, np.ndarray]
    """By task, in the form of its kind: class maps (H, W) uint8, 255 unlabelled; depth (H, W) float32 metres, 0
    invalid; normals (H, W, 3) float32, x to the side, y vertical, z towards the camera, (0, 0, 0) invalid."""


@dataclass(frozen=True)
class DatasetInfo:
    """Which data a result was made with."""

    name: str
    packaging: str
    """Variant of the file formats."""
    counts: dict[str, int]
    """Images by split, `{"train": n, "val": m}`."""
    fingerprint: str
    """SHA-256 of the sorted relative paths and sizes of all files of both splits."""
    notes: list[str] = field(default_factory=list)
    """Deviations from the published dataset, a sentence each."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Names by task, for tasks whose classes have names."""

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


class Source(Protocol):
    """One split of a dataset; readers implement it."""

    ids: list[str]
    info: DatasetInfo

    def __len__(self) -> int: ...

    def load(self, index: int, tasks: Sequence[str]) -> Sample:
        """Decode image `index` and the labels of `tasks` only.

        Raises:
            UserError: a file that is damaged or breaks the conventions; the message names it.
        """
        ...


@dataclass(frozen=True)
class Truth:
    """What an image, by its id, can be scored against instead of the labels that are trained on."""

    borders: Callable[[str], np.ndarray] | None = None
    """Borders (H, W) uint8 of the annotated regions, for datasets whose boundaries are scored against those."""
    stored: Callable[[str, str], np.ndarray | None] | None = None
    """The label of a depth or normals task, its name given first, in the conventions of `Sample.labels` but with the
    published code's rule of validity: depth is invalid where it is 0, normals where they are (0, 0, 0), which 8-bit
    files cannot hold. None for an image without a label."""


@dataclass(frozen=True)
class Data:
    """Both splits of a dataset."""

    train: Source
    val: Source
    info: DatasetInfo
    truth: Truth = Truth()
    normalisation: Normalisation = IMAGENET
    """How images in batches are normalised; the network decides it."""
