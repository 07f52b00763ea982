"""What a run trains on: the dataset, and the rooms that can be made for it."""

from collections import Counter
from dataclasses import dataclass, field

from atrc_exp.config.checks import free, free_path, path, require
from atrc_exp.config.folders import FoldersConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.tasks import PUBLISHED, Task, class_count


@dataclass(kw_only=True)
class RoomsConfig:
    """Procedural rooms: how many, how large."""

    train: int = 160
    """Training rooms, >= 1."""
    val: int = 40
    """Validation rooms, >= 1; no room is in both splits."""
    image_size: list[int] = field(default_factory=lambda: [64, 96])
    """Height and width in pixels, >= 32; with packaging pascal those of the largest landscape image."""
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
        landscape = self.packaging != "pascal" or size[0] <= size[1]
        require(landscape, "dataset.rooms.image_size", size, "height <= width with packaging pascal")


@dataclass(kw_only=True)
class PrepareConfig:
    """`stage=prepare`: where a dataset comes from, and how far it is checked."""

    source: str | None = path()
    """A folder, checked where it is, or an archive (.tar, .tar.gz, .tgz, .zip) or the http(s) address of one, which is
    unpacked to `dataset.root`; null checks what is at `dataset.root`."""
    sha256: str | None = None
    """Checksum that the archive must have, 64 hexadecimal digits; null takes it as it is."""
    values: bool = False
    """Make it an error where the values of a file look wrong, instead of a warning: depths that cannot be metres,
    vectors far from length 1, images and labels that are all one."""
    crop: bool = False
    """Make a copy of a dataset in the NYUD layout with 480 x 640 images, `<root>-425x560`, without the white border."""

    def __post_init__(self) -> None:
        if self.sha256 is not None:
            digits = set(self.sha256.lower()) <= set("0123456789abcdef")
            require(digits and len(self.sha256) == 64, "prepare.sha256", self.sha256, "64 hexadecimal digits")
            require(self.source is not None, "prepare.sha256", self.sha256, "given with prepare.source=ARCHIVE")


@dataclass(kw_only=True)
class DatasetConfig:
    """Where the data is and what it means."""

    name: str = "???"
    """Short name used in records and in the choice of single-task baselines."""
    reader: str = "???"
    """Reader of the on-disk layout: nyud, pascal, or folders for one's own dataset."""
    root: str = free_path("???")
    """Folder that holds images/, gt_sets/ and the label folders."""
    tasks: list[str] = field(default_factory=list)
    """Tasks the dataset has labels for, in the order used everywhere; at least one."""
    task_table: dict[str, TaskConfig] = field(default_factory=dict)
    """Tasks of one's own, by name, beside the published ones."""
    num_classes: dict[str, int] = field(default_factory=dict)
    """Number of classes, 2 to 255, of each task for which the dataset decides it."""
    crop: list[int] = field(default_factory=list)
    """Height and width of training crops and of the canvas at test time, in pixels, each >= 32."""
    counts: list[int] = field(default_factory=list)
    """Published numbers of training and validation images; others are recorded as a deviation."""
    strict: bool = False
    """Make such a deviation an error."""
    edge_positive_weight: float | None = None
    """Weight of boundary pixels in the loss, in (0, 1): about 1 - their share; needed where edge is a task."""
    edge_max_distance: float | None = None
    """Matching tolerance of the boundary score, share of the image diagonal, in (0, 0.1]; needed as the weight is."""
    codebook: str | None = path()
    """File (.npy, 40 x 3) of unit normals; null fits one on the training labels."""
    cache_dir: str | None = free_path()
    """Folder for derived files; null uses the user's cache folder."""
    packed: bool = free(False)
    """Keep decoded images and labels in `cache_dir`, which costs some gigabytes and makes loading much faster."""
    crop_labels: str | None = None
    """Task whose classes training crops should mix; null is semseg, or none where the dataset has no semseg."""
    procedural: bool = False
    """The data is made under `root` as `rooms` says, where it is missing."""
    rooms: RoomsConfig = field(default_factory=RoomsConfig)
    folders: FoldersConfig = field(default_factory=FoldersConfig)

    def __post_init__(self) -> None:
        given = not self.crop or (len(self.crop) == 2 and min(self.crop) >= 32)
        require(given, "dataset.crop", self.crop, "[height, width], each >= 32")
        weight, distance = self.edge_positive_weight, self.edge_max_distance
        require(weight is None or 0 < weight < 1, "dataset.edge_positive_weight", weight, "in (0, 1)")
        require(distance is None or 0 < distance <= 0.1, "dataset.edge_max_distance", distance, "in (0, 0.1]")
        rows = self.rows
        for task in self.tasks:
            require(task in rows, "dataset.tasks", task, f"one of {', '.join(rows)}")
            if rows[task].kind.class_map:
                class_count(task, self.num_classes, rows)
        open_tasks = [name for name, task in rows.items() if not task.regions]
        for task in self.num_classes:
            require(task in open_tasks, "dataset.num_classes", task, f"a task without a fixed number of classes "
                    f"({', '.join(open_tasks)})")  # fmt: skip
        titles = Counter(rows[task].title for task in set(self.tasks))
        namesakes = [task for task in self.tasks if titles[rows[task].title] > 1]
        require(not namesakes, "dataset.task_table", namesakes, "tasks of different titles, since tables show these")
        guides = [task for task in self.tasks if rows[task].kind.class_map]
        allowed = f"null or a task with classes that the dataset has ({', '.join(guides) or 'none'})"
        require(self.crop_labels in (None, *guides), "dataset.crop_labels", self.crop_labels, allowed)
        for key, maps in (("labels", self.folders.labels), ("class_names", self.folders.class_names)):
            for task in maps:
                require(task in rows, f"dataset.folders.{key}", task, f"one of {', '.join(rows)}")

    @property
    def rows(self) -> dict[str, Task]:
        """The rows of all tasks that the dataset can have, by name: the published ones, then those of `task_table`."""
        own = {name: row.row(name, self.num_classes.get(name)) for name, row in self.task_table.items()}
        return {**PUBLISHED, **own}
