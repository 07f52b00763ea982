"""What a run trains on: the dataset, and the rooms that can be made for it."""

from dataclasses import dataclass, field

from atrc_exp.config.checks import require
from atrc_exp.tasks import TASKS


@dataclass(kw_only=True)
class RoomsConfig:
    """Procedural rooms: how many, how large."""

    train: int = 160
    """Training rooms, >= 1."""
    val: int = 40
    """Validation rooms, >= 1; no room is in both splits."""
    image_size: list[int] = field(default_factory=lambda: [64, 96])
    """Height and width in pixels, >= 32; with packaging pascal of the largest landscape image, W x H in portrait."""
    seed: int = 0
    """Seed of all rooms, >= 0; not the seed of the run."""
    packaging: str = "A"
    """File formats: A (png) or B (jpg, npy), as the two published NYUD archives; pascal, rooms with people."""

    def __post_init__(self) -> None:
        require(self.train >= 1, "dataset.rooms.train", self.train, ">= 1")
        require(self.val >= 1, "dataset.rooms.val", self.val, ">= 1")
        require(self.seed >= 0, "dataset.rooms.seed", self.seed, ">= 0")
        size = self.image_size
        require(len(size) == 2 and min(size) >= 32, "dataset.rooms.image_size", size, "[height, width], each >= 32")
        require(self.packaging in ("A", "B", "pascal"), "dataset.rooms.packaging", self.packaging, "A, B or pascal")


@dataclass(kw_only=True)
class DatasetConfig:
    """Where the data is and what it means."""

    name: str = "rooms"
    """Short name used in records and in the choice of single-task baselines."""
    reader: str = "nyud"
    """Reader of the on-disk layout."""
    root: str = "data/rooms"
    """Folder that holds images/, gt_sets/ and the label folders."""
    tasks: list[str] = field(default_factory=lambda: ["semseg", "depth", "normals", "edge"])
    """Tasks the dataset has labels for, in the order used everywhere."""
    num_classes: dict[str, int] = field(default_factory=lambda: {"semseg": 40})
    """Number of classes of tasks for which the dataset decides it."""
    crop: list[int] = field(default_factory=lambda: [64, 96])
    """Height and width of training crops and of the canvas at test time, in pixels."""
    counts: list[int] = field(default_factory=list)
    """Published numbers of training and validation images; others are recorded as a deviation."""
    strict: bool = False
    """Make such a deviation an error."""
    edge_positive_weight: float = 0.8
    """Weight of boundary pixels in the loss, in (0, 1)."""
    edge_max_distance: float = 0.011
    """Matching tolerance of the boundary score, share of the image diagonal, in (0, 0.1]."""
    codebook: str | None = None
    """File (.npy, 40 x 3) of unit normals; null fits one on the training labels."""
    cache_dir: str | None = None
    """Folder for derived files; null uses the user's cache folder."""
    procedural: bool = False
    """The data is made under `root` as `rooms` says, where it is missing."""
    rooms: RoomsConfig = field(default_factory=RoomsConfig)

    def __post_init__(self) -> None:
        require(len(self.crop) == 2 and min(self.crop) >= 32, "dataset.crop", self.crop, "[height, width], each >= 32")
        weight = self.edge_positive_weight
        require(0 < weight < 1, "dataset.edge_positive_weight", weight, "in (0, 1)")
        require(0 < self.edge_max_distance <= 0.1, "dataset.edge_max_distance", self.edge_max_distance, "in (0, 0.1]")
        for task in self.tasks:
            require(task in TASKS, "dataset.tasks", task, f"one of {', '.join(TASKS)}")
