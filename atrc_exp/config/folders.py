"""How the folders of one's own dataset are read (`dataset.reader=folders`); `conf/dataset/folders.yaml` shows it."""

from dataclasses import dataclass, field

from atrc_exp.config.checks import positive, require
from atrc_exp.tasks import KINDS


@dataclass(kw_only=True)
class LabelFilesConfig:
    """The label maps of one task: where they lie, and what their values mean."""

    folder: str = "???"
    """Folder under the root; an id's file lies there as the image lies in the folder of the images. What stands for a *
    in it is where ids begin, as in `images`."""
    suffix: str | None = None
    """What follows the id in a file's name, e.g. _labels.png; null is any suffix of an image or array."""
    encoding: str | None = None
    """indices (a class a value), mask (a class above a threshold), colours (a class an RGB colour), metres (8- or
    16-bit grey, or floats, times `scale`), vectors (floats, or 8-bit RGB with v = 2 u / 255 - 1) or values (floats, 8-
    or 16-bit grey, or 8-bit RGB for three channels, times `scale`, plus `offset`); null is the first that the kind of
    task allows."""
    first: int = 0
    """indices: the value of the first class."""
    mapping: dict[int, int] = field(default_factory=dict)
    """indices: the class of each value, in place of `first`; several values may be one class."""
    threshold: float = 127
    """mask: values above it are class 1, others class 0."""
    colours: list[list[int]] = field(default_factory=list)
    """colours: the colour [red, green, blue] of each class, in the order of the classes."""
    invalid_colours: list[list[int]] | None = field(default_factory=list)
    """colours: those of pixels without a label; null takes every colour that no class has."""
    scale: float = 1.0
    """metres, values: what one unit of the file stands for, > 0; 0.001 for millimetres."""
    offset: float = 0.0
    """values: what the file's 0 stands for."""
    invalid: list[float] | None = None
    """Values in the file of pixels without a label; null is [255] for indices, [0] for metres and none for mask and
    values. Of several channels, all must have one of them."""

    def __post_init__(self) -> None:
        known = list(dict.fromkeys(encoding for kind in KINDS.values() for encoding in kind.encodings))
        require(self.encoding is None or self.encoding in known, "dataset.folders.labels.*.encoding", self.encoding,
                f"one of {', '.join(known)}")  # fmt: skip
        positive("dataset.folders.labels.*.scale", self.scale)
        counted = self.encoding in (None, "indices") and not self.first
        require(counted or not self.mapping, "dataset.folders.labels.*.mapping", self.mapping,
                "given with encoding=indices only, and without first")  # fmt: skip
        seen: list[list[int]] = []
        for colour in [*self.colours, *(self.invalid_colours or [])]:
            whole = len(colour) == 3 and min(colour) >= 0 and max(colour) <= 255
            require(whole, "dataset.folders.labels.*.colours", colour, "[red, green, blue], each 0 to 255")
            require(colour not in seen, "dataset.folders.labels.*.colours", colour, "given once")
            seen.append(colour)
        given = self.encoding == "colours"
        require(given or not seen, "dataset.folders.labels.*.colours", self.colours, "given with encoding=colours only")


@dataclass(kw_only=True)
class FoldersConfig:
    """Images, splits and label maps of one's own dataset."""

    images: str = "images"
    """Folder of the images under the root. An id is a path in it, with "/" and without suffix. With *, it is every
    folder that matches, and ids begin with what stands for each *: file val/image/7.npy of */image is val/7."""
    image_suffix: str | None = None
    """What follows the id in an image's name; null is any suffix of an image or array."""
    train: str = "train.txt"
    """A .txt file under the root with an id a line, or a pattern for the images' paths, e.g. train_*.jpg."""
    val: str = "val.txt"
    """The same for validation."""
    labels: dict[str, LabelFilesConfig] = field(default_factory=dict)
    """By task. An image whose file is not there has no label for the task."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """By task, for tables and figures."""
