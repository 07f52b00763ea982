"""What a command does beyond training: its stage, scores, predictions and records."""

from dataclasses import dataclass, field

from atrc_exp.config.checks import free, path, require

STAGES = (
    "search", "retrain", "branch", "evaluate", "predict", "importance", "attention", "export", "profile", "benchmark",
    "generate", "prepare", "report",
)  # fmt: skip
TRAINING_STAGES = ("search", "retrain")
STORED_STAGES = ("evaluate", "predict", "importance", "attention", "export")
"""Stages that look at a run, whose own configuration then holds."""


@dataclass(kw_only=True)
class StageConfig:
    """What the command does."""

    name: str = "search"

    def __post_init__(self) -> None:
        require(self.name in STAGES, "stage", self.name, f"one of {', '.join(STAGES)}")


@dataclass(kw_only=True)
class BenchmarkConfig:
    """What `stage=benchmark` measures."""

    steps: int = 20
    """Measured training steps of each configuration, >= 1."""
    warmup: int = 3
    """Steps before them, >= 0."""
    data: str = "dataset"
    """dataset, or random: images and labels of the dataset's format that need no files."""
    against: list[str] = field(default_factory=list)
    """Other configurations: a preset, or overrides of this command separated by blanks."""
    overrides: list[str] = field(default_factory=list)
    """The overrides of this command, on which those of `against` build; filled in by the program."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "benchmark.steps", self.steps, ">= 1")
        require(self.warmup >= 0, "benchmark.warmup", self.warmup, ">= 0")
        require(self.data in ("dataset", "random"), "benchmark.data", self.data, "dataset or random")


@dataclass(kw_only=True)
class EvaluationConfig:
    """How predictions are scored, in training and by `stage=evaluate`. The defaults are the published rules."""

    absent: str = "zero"
    """A class in neither labels nor predictions counts as IoU 0 (zero) or not at all (skip)."""
    reference_invalid: bool = False
    """Score depth and normals by the published code's rule of validity: a depth of 0 counts as 255 m and a negative one
    as it is; of normals only exact zeros do not count, which 8-bit files cannot hold. NaN and padding never count."""
    boundary_protocol: str = "seism"
    """seism (non-maximum suppression, 101 thresholds) or mtl_pytorch (none, 99 thresholds)."""
    boundary_truth: str = "regions"
    """regions (borders of the annotated regions, as PASCAL-Context is scored; the labels where a dataset has none),
    labels (what is trained on), partition (as published on NYUD, too, where the tool took the edge image for a map of
    regions and thinned their two pixels wide borders) or both (regions, and partition in evaluation.json beside it)."""
    boundary_interpolate: bool = False
    """Look for odsF between the thresholds too, where one without any prediction has precision 0 (BSDS collectors)."""
    boundary_ids: str | None = path()
    """File with one image id a line; boundaries are scored on these validation images only. null is all of them."""
    boundary_every: int = free(5)
    """Training scores boundaries in every n-th validation, >= 0, 0 for none, and always in the last one."""

    def __post_init__(self) -> None:
        require(self.absent in ("zero", "skip"), "evaluation.absent", self.absent, "zero or skip")
        protocols = ("seism", "mtl_pytorch")
        key = "evaluation.boundary_protocol"
        require(self.boundary_protocol in protocols, key, self.boundary_protocol, " or ".join(protocols))
        truths = ("regions", "labels", "partition", "both")
        require(self.boundary_truth in truths, "evaluation.boundary_truth", self.boundary_truth, " or ".join(truths))
        require(self.boundary_every >= 0, "evaluation.boundary_every", self.boundary_every, ">= 0")


@dataclass(kw_only=True)
class PredictConfig:
    """How `stage=predict` runs the network on images of any size."""

    sizing: str = "tiled"
    """tiled (the image in one pass, as in the evaluation, or in overlapping tiles, blended) or resize (the whole image
    to the crop size and back)."""
    tile: list[int] | None = None
    """Height and width of the tiles, >= 32; null is the whole image, or the largest tiles for which memory is free."""
    overlap: float = 0.5
    """How much neighbouring tiles share, as a share of the crop size, in [0, 0.9]."""
    arrays: bool = False
    """Write the predictions themselves too, `<output>/<task>/<id>.png` or `.npy`."""

    def __post_init__(self) -> None:
        require(self.sizing in ("tiled", "resize"), "predict.sizing", self.sizing, "tiled or resize")
        tile = self.tile
        require(tile is None or (len(tile) == 2 and min(tile) >= 32), "predict.tile", tile, "[height, width], >= 32")
        require(0 <= self.overlap <= 0.9, "predict.overlap", self.overlap, "in [0, 0.9]")


@dataclass(kw_only=True)
class ImportanceConfig:
    """How `stage=importance` measures what a network owes to its blocks (Sec. 4.4)."""

    permutations: int = 5
    """Permutations of the validation images, >= 1 and fewer than there are images."""
    seed: int = 0
    """Seed of the permutations, >= 0; they are the same for all blocks."""
    boundaries: bool = True
    """Score boundaries, which takes most of the time; false leaves the blocks of such tasks without a number.
    `evaluation.boundary_ids` scores them on some of the images."""

    def __post_init__(self) -> None:
        require(self.permutations >= 1, "importance.permutations", self.permutations, ">= 1")
        require(self.seed >= 0, "importance.seed", self.seed, ">= 0")


@dataclass(kw_only=True)
class ExportConfig:
    """What `stage=export` writes."""

    size: list[int] | None = None
    """Height and width of the images, fixed in the files, >= 32; null is `dataset.crop`, the size of the evaluation."""

    def __post_init__(self) -> None:
        size = self.size
        require(size is None or (len(size) == 2 and min(size) >= 32), "export.size", size, "[height, width], >= 32")


@dataclass(kw_only=True)
class LoggerConfig:
    """Weights & Biases; `metrics.jsonl` is written in any case."""

    mode: str = "offline"
    """online, offline or disabled; online falls back to offline where no key or server is found."""
    project: str = "atrc_exp"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    images: int = 4
    """Validation images shown as prediction panels, >= 0."""

    def __post_init__(self) -> None:
        modes = ("online", "offline", "disabled")
        require(self.mode in modes, "logger.mode", self.mode, f"one of {', '.join(modes)}")
        require(self.images >= 0, "logger.images", self.images, ">= 0")
