"""The schema: every key of the configuration with its meaning, unit and range, and the rules between keys.

YAML in `conf/` gives the values, Hydra composes them, `__main__` turns them into these objects; from there on
nothing handles an untyped configuration. Ranges and rules raise `UserError` with the value, the rule and a remedy.
"""

from dataclasses import dataclass, field
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS
from atrc_exp.tasks import FORMS, TASKS

STAGES = ("search", "retrain", "evaluate", "predict", "profile", "generate")
TRAINING_STAGES = ("search", "retrain")


def require(condition: bool, key: str, value: Any, allowed: str, remedy: str = "") -> None:
    """Raise a UserError in the one form of all configuration errors."""
    if not condition:
        raise UserError(f"{key}={value}: must be {allowed}" + (f"; {remedy}" if remedy else ""))


def _positive(key: str, value: float) -> None:
    require(value > 0, key, value, "> 0")


@dataclass(kw_only=True)
class RoomsConfig:
    """Procedural rooms: how many, how large."""

    train: int = 160
    """Training rooms, >= 1."""
    val: int = 40
    """Validation rooms, >= 1; no room is in both splits."""
    image_size: list[int] = field(default_factory=lambda: [64, 96])
    """Height and width in pixels, >= 32."""
    seed: int = 0
    """Seed of all rooms, >= 0; not the seed of the run."""
    packaging: str = "A"
    """File formats: A (png) or B (jpg, npy), as the two published NYUD archives."""

    def __post_init__(self) -> None:
        require(self.train >= 1, "dataset.rooms.train", self.train, ">= 1")
        require(self.val >= 1, "dataset.rooms.val", self.val, ">= 1")
        require(self.seed >= 0, "dataset.rooms.seed", self.seed, ">= 0")
        size = self.image_size
        require(len(size) == 2 and min(size) >= 32, "dataset.rooms.image_size", size, "[height, width], each >= 32")
        require(self.packaging in ("A", "B"), "dataset.rooms.packaging", self.packaging, "A or B")


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


@dataclass(kw_only=True)
class BackboneConfig:
    """A timm feature extractor; its maps are resized to the first one and concatenated."""

    name: str = "???"
    """Any timm model that supports `features_only`; HRNets take their dense-prediction form."""
    weights: str = "imagenet"
    """imagenet (from the hub or its cache), random, or a local .pth or .safetensors file."""
    tag: str | None = None
    """timm's tag of the pretrained weights, e.g. ms_in1k; null is timm's default."""
    out_indices: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    """Which feature maps are used, finest first."""

    def __post_init__(self) -> None:
        require(len(self.out_indices) >= 1, "backbone.out_indices", self.out_indices, "at least one index")


@dataclass(kw_only=True)
class DistillationConfig:
    """What refines the features of a task by those of the others."""

    name: str = "search"
    """none, atrc (needs a genotype), search, or one context for every block: global, local, tlabel, slabel."""
    channels: int | None = None
    """Head channels C, >= 2; null is a quarter of the concatenated backbone channels."""
    kernel_size: int = 9
    """Window of the local context in pixels, odd, 3 to 15."""
    border: str = "zero"
    """Local context outside the image: zero (padding takes part, as published) or mask (Eq. 4 literally)."""
    regions: str = "predicted"
    """Label regions of atrc, tlabel and slabel: predicted by auxiliary heads, or from the labels themselves, an upper
    bound that exists on labelled images only (App. E)."""
    mask_padding: bool = False
    """Leave padded pixels out of label regions and global keys (the published results include them)."""
    dropout: float = 0.05
    """Channel dropout before the prediction of a fixed network, in [0, 1)."""

    def __post_init__(self) -> None:
        require(self.channels is None or self.channels >= 2, "distillation.channels", self.channels, ">= 2 or null")
        odd = self.kernel_size % 2 == 1 and 3 <= self.kernel_size <= 15
        require(odd, "distillation.kernel_size", self.kernel_size, "odd and between 3 and 15")
        require(self.border in ("zero", "mask"), "distillation.border", self.border, "zero or mask")
        require(0 <= self.dropout < 1, "distillation.dropout", self.dropout, "in [0, 1)")
        require(self.regions in ("predicted", "labels"), "distillation.regions", self.regions, "predicted or labels")
        fixed = ("atrc", "tlabel", "slabel")
        require(self.regions == "predicted" or self.name in fixed, "distillation.regions", self.regions,
                f"predicted for distillation={self.name}", f"only {', '.join(fixed)} take labels")  # fmt: skip


@dataclass(kw_only=True)
class StageConfig:
    """What the command does."""

    name: str = "search"

    def __post_init__(self) -> None:
        require(self.name in STAGES, "stage", self.name, f"one of {', '.join(STAGES)}")


@dataclass(kw_only=True)
class SearchConfig:
    """Differentiable search of the context types (Sec. 3.3, App. A)."""

    arch_lr: float = 5e-4
    """Adam's rate for the architecture logits; belongs to 40 000 iterations, shorter searches need more."""
    temperature: list[float] = field(default_factory=lambda: [1.0, 0.05])
    """Gumbel-softmax temperature at the first and last iteration, linear in between, > 0."""
    entropy: list[float] = field(default_factory=lambda: [-0.02, 0.06])
    """Weight of the mean block entropy at the first and last iteration, linear in between."""
    freeze_gap: float = 0.3
    """A block is fixed once its two largest probabilities differ by this much, in (0, 1]."""
    clip_norm: float = 10.0
    """Bound of the joint gradient norm of network and architecture, > 0."""

    def __post_init__(self) -> None:
        _positive("search.arch_lr", self.arch_lr)
        _positive("search.clip_norm", self.clip_norm)
        pair = self.temperature
        require(len(pair) == 2 and min(pair) > 0, "search.temperature", pair, "[first, last], both > 0")
        require(len(self.entropy) == 2, "search.entropy", self.entropy, "[first, last]")
        require(0 < self.freeze_gap <= 1, "search.freeze_gap", self.freeze_gap, "in (0, 1]")


@dataclass(kw_only=True)
class OptimConfig:
    """SGD with a polynomial schedule per iteration (App. A)."""

    lr: float = 0.01
    """Initial learning rate, > 0."""
    head_lr_factor: float = 1.0
    """Multiplies the rate of everything but the backbone, > 0."""
    momentum: float = 0.9
    """In [0, 1)."""
    weight_decay: float = 5e-4
    """On all network parameters, >= 0."""
    power: float = 0.9
    """Rate at iteration i is lr * (1 - i / iterations) ** power, >= 0."""

    def __post_init__(self) -> None:
        _positive("optim.lr", self.lr)
        _positive("optim.head_lr_factor", self.head_lr_factor)
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, ">= 0")
        require(self.power >= 0, "optim.power", self.power, ">= 0")


@dataclass(kw_only=True)
class EngineConfig:
    """How training runs. Keys marked (free) may differ between the starts of one run."""

    iterations: int = 40_000
    """Optimiser steps, >= 1."""
    batch_size: int = 8
    """Images of one optimiser step over all ranks and accumulation steps."""
    accumulate: int = 1
    """Micro-batches of one optimiser step, >= 1; may change on resume (not bit-exact)."""
    val_batch_size: int = 8
    """Images of one validation batch and rank, >= 1 (free)."""
    precision: str = "fp32"
    """fp32, bf16 or fp16 autocast; losses and sums over positions stay in fp32."""
    channels_last: bool = False
    """Memory layout of images and network."""
    compile: bool = False
    """torch.compile of the network (free)."""
    sync_bn: bool = True
    """Batch statistics over all ranks, where more than one CUDA rank runs."""
    deterministic: bool = False
    """Deterministic kernels where torch has them."""
    device: str = "auto"
    """auto, cpu or cuda (free)."""
    workers: int = 4
    """Loader processes a rank, >= 0 (free)."""
    validate_every: int = 2_000
    """Iterations between validations, >= 1; the last iteration always validates."""
    checkpoint_every: int = 500
    """Iterations between checkpoints, >= 1 (free)."""
    log_every: int = 20
    """Iterations between records, >= 1 (free)."""
    progress: bool = True
    """Progress bar on a terminal (free)."""
    memory_check: bool = True
    """Refuse a CPU run whose estimated memory exceeds what is free (free)."""
    save_predictions: bool = False
    """Write predictions of the last validation, boundaries as 8-bit PNG (free)."""

    def __post_init__(self) -> None:
        for key in ("iterations", "batch_size", "accumulate", "val_batch_size", "validate_every", "checkpoint_every",
                    "log_every"):  # fmt: skip
            require(getattr(self, key) >= 1, f"engine.{key}", getattr(self, key), ">= 1")
        require(self.workers >= 0, "engine.workers", self.workers, ">= 0")
        precisions = ("fp32", "bf16", "fp16")
        require(self.precision in precisions, "engine.precision", self.precision, f"one of {', '.join(precisions)}")
        require(self.device in ("auto", "cpu", "cuda"), "engine.device", self.device, "auto, cpu or cuda")
        require(
            self.batch_size % self.accumulate == 0,
            "engine.accumulate",
            self.accumulate,
            f"a divisor of engine.batch_size={self.batch_size}",
        )


@dataclass(kw_only=True)
class EvaluationConfig:
    """How predictions are scored, in training and by `stage=evaluate`. The defaults are the published rules."""

    absent: str = "zero"
    """A class in neither labels nor predictions counts as IoU 0 (zero) or not at all (skip)."""
    reference_invalid: bool = False
    """Count unlabelled depth and normals as the published code does."""
    boundary_protocol: str = "seism"
    """seism (non-maximum suppression, 101 thresholds) or mtl_pytorch (none, 99 thresholds)."""
    boundary_interpolate: bool = False
    """Look for odsF between the thresholds too."""
    boundary_ids: str | None = None
    """File with one image id a line; boundaries are scored on these validation images only. null is all of them."""
    boundary_every: int = 5
    """Training scores boundaries in every n-th validation, >= 0, 0 for none, and always in the last one (free)."""

    def __post_init__(self) -> None:
        require(self.absent in ("zero", "skip"), "evaluation.absent", self.absent, "zero or skip")
        protocols = ("seism", "mtl_pytorch")
        key = "evaluation.boundary_protocol"
        require(self.boundary_protocol in protocols, key, self.boundary_protocol, " or ".join(protocols))
        require(self.boundary_every >= 0, "evaluation.boundary_every", self.boundary_every, ">= 0")


@dataclass(kw_only=True)
class PredictConfig:
    """How `stage=predict` runs the network on images of any size."""

    sizing: str = "tiled"
    """tiled (overlapping tiles of the crop size, blended) or resize (the whole image to the crop size and back)."""
    overlap: float = 0.5
    """Share of a tile that its neighbour covers too, in [0, 0.9]."""
    arrays: bool = False
    """Write the predictions themselves too, `<output>/<task>/<id>.png` or `.npy`."""

    def __post_init__(self) -> None:
        require(self.sizing in ("tiled", "resize"), "predict.sizing", self.sizing, "tiled or resize")
        require(0 <= self.overlap <= 0.9, "predict.overlap", self.overlap, "in [0, 0.9]")


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


@dataclass(kw_only=True)
class DebugConfig:
    """Switches for finding faults; all off by default."""

    overfit: bool = False
    """Train on the first batch only, without augmentation."""
    limit_val: int | None = None
    """Validate on the first n images only."""
    anomaly: bool = False
    """Autograd's anomaly detection: slow, names the operation that made a NaN."""

    def __post_init__(self) -> None:
        require(self.limit_val is None or self.limit_val >= 1, "debug.limit_val", self.limit_val, ">= 1 or null")


@dataclass(kw_only=True)
class Config:
    """The whole configuration of one command."""

    name: str = "???"
    """Name of the run: `<runs_dir>/<name>/seed<seed>`; presets set it."""
    runs_dir: str = "runs"
    """Folder of all runs."""
    seed: int = 0
    """Seed of initial weights, data order, augmentation and architecture samples, >= 0."""
    run: str | None = None
    """Run folder for stages that look at a finished or running one; its own configuration then holds."""
    checkpoint: str | None = None
    """A checkpoint file of a run, instead of `run`."""
    predictions: str | None = None
    """stage=evaluate: score the files `<predictions>/<task>/<id>.png` or `.npy` instead of a network."""
    input: str | None = None
    """stage=predict: an image, or a folder of images."""
    output: str | None = None
    """Folder of what evaluate and predict write; null is the run folder, for predictions= that folder."""
    tasks: list[str] | None = None
    """Subset of the dataset's tasks; null is all of them."""
    loss_weights: dict[str, float] = field(default_factory=dict)
    """Loss weights by task that replace the published ones, > 0."""
    task_forms: dict[str, str] = field(default_factory=dict)
    """regression or classification by task; as a classification, depth is 40 bins and normals 40 codewords (App. D)."""
    genotype: str | None = None
    """A file, the folder of a run or sweep, or published/<name>."""
    genotype_blocks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Single blocks, `<target>.<source>: <context>`, on top of `genotype` or of all none."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        self._check_stage()
        self._check_tasks()
        self._check_network()

    def _check_stage(self) -> None:
        sources = [key for key in ("run", "checkpoint", "predictions") if getattr(self, key) is not None]
        if self.stage.name == "evaluate":
            allowed = "given one of run=RUN_DIR, checkpoint=FILE, predictions=DIR"
            require(len(sources) == 1, "stage", "evaluate", allowed, f"not {' and '.join(sources) or 'none of them'}")
        if self.stage.name == "predict":
            require(sources in (["run"], ["checkpoint"]), "stage", "predict", "given run=RUN_DIR or checkpoint=FILE")
            require(self.input is not None, "stage", "predict", "given input=IMAGE or input=FOLDER")

    def _check_tasks(self) -> None:
        known = ", ".join(self.dataset.tasks)
        for task in self.task_names:
            require(task in self.dataset.tasks, "tasks", task, f"a task that {self.dataset.name} has ({known})")
        require(len(set(self.task_names)) == len(self.task_names) > 0, "tasks", self.tasks, "distinct and not empty")
        for task, weight in self.loss_weights.items():
            require(task in self.task_names, "loss_weights", task, f"one of {', '.join(self.task_names)}")
            _positive(f"loss_weights.{task}", weight)
        for task, form in self.task_forms.items():
            require(task in self.task_names, "task_forms", task, f"one of {', '.join(self.task_names)}")
            require(form in FORMS, f"task_forms.{task}", form, f"one of {', '.join(FORMS)}")

    def _check_network(self) -> None:
        searching = self.distillation.name == "search"
        if self.stage.name in TRAINING_STAGES:
            wanted = "search" if searching else "retrain"
            require(self.stage.name == wanted, "stage", self.stage.name, f"{wanted} for this network",
                    f"distillation={self.distillation.name} is trained by stage={wanted}")  # fmt: skip
        given = self.genotype is not None or bool(self.genotype_blocks)
        if self.distillation.name == "atrc":
            require(given, "genotype", self.genotype, "given for distillation=atrc",
                    "give a genotype.json, the folder of a search, or published/nyud_hrnet18")  # fmt: skip
        else:
            require(not given, "genotype", self.genotype or self.genotype_blocks, "null for this network",
                    f"only distillation=atrc uses a genotype, not {self.distillation.name}")  # fmt: skip
        for target, row in self.genotype_blocks.items():
            for source, context in row.items():
                key = f"genotype_blocks.{target}.{source}"
                require(context in CONTEXTS, key, context, f"one of {', '.join(CONTEXTS)}")

    @property
    def task_names(self) -> list[str]:
        """Tasks of this run, in the dataset's order unless `tasks` gives another."""
        return list(self.tasks if self.tasks is not None else self.dataset.tasks)
