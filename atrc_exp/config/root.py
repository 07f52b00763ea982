"""The whole configuration, and the rules between its keys."""

import re
from dataclasses import dataclass, field

from atrc_exp.config.branching import BranchingConfig
from atrc_exp.config.checks import FREE, free_path, path, positive, require
from atrc_exp.config.data import DatasetConfig, PrepareConfig
from atrc_exp.config.network import SEPARATE, BackboneConfig, DistillationConfig, NeckConfig
from atrc_exp.config.stages import (
    TRAINING_STAGES,
    BenchmarkConfig,
    EvaluationConfig,
    ExportConfig,
    ImportanceConfig,
    LoggerConfig,
    PredictConfig,
    StageConfig,
)
from atrc_exp.config.training import BalanceConfig, DebugConfig, EngineConfig, OptimConfig, SearchConfig
from atrc_exp.genotype import CONTEXT_TYPES, NONE, parted
from atrc_exp.tasks import FORMS, PUBLISHED


@dataclass(kw_only=True)
class Config:
    """The whole configuration of one command."""

    name: str = "???"
    """Name of the run, below `runs_dir`: `<runs_dir>/<name>/seed<seed>`, with "/" for sub-folders; presets set it."""
    runs_dir: str = free_path("runs")
    """Folder of all runs."""
    seed: int = 0
    """Seed of initial weights, data order, augmentation and architecture samples, >= 0."""
    run: str | None = free_path()
    """Run folder for stages that look at a finished or running one; its own configuration then holds."""
    checkpoint: str | None = free_path()
    """A checkpoint file of a run, instead of `run`."""
    init: str | None = path()
    """stage=search and stage=retrain: a run folder, a checkpoint or a .safetensors file whose weights, by name, a new
    run starts from, instead of `backbone.weights`. Layers that depend on the number of classes may have another one."""
    predictions: str | None = free_path()
    """stage=evaluate: score the files `<predictions>/<task>/<id>.png` or `.npy` instead of a network."""
    input: str | None = free_path()
    """stage=predict: an image, or a folder of images."""
    image: str | None = path()
    """stage=attention: an image."""
    pixel: list[int] | None = None
    """stage=attention: row and column of a pixel of that image, from 0 at the top left; `pixel=Y,X`."""
    target: str | None = None
    """stage=attention: the task whose blocks are looked at, or with `distillation.scales` the task at a scale, semseg@0
    at the finest; null is all of them."""
    output: str | None = free_path()
    """Folder of what evaluate, predict, importance, attention, export and prepare write; null is the run folder, for
    predictions= that folder, for prepare `<runs_dir>/datasets/<dataset.name>`."""
    tasks: list[str] | None = None
    """Subset of the dataset's tasks; null is all of them."""
    loss_weights: dict[str, float] = field(default_factory=dict)
    """Loss weights by task that replace the published ones, > 0."""
    task_forms: dict[str, str] = field(default_factory=dict)
    """regression or classification by task; as a classification, depth is 40 bins and normals 40 codewords (App. D)."""
    task_losses: dict[str, str] = field(default_factory=dict)
    """Final losses by task that replace the published ones; docs/add_a_task.md has the table of those that fit."""
    genotype: str | None = path()
    """A file, the folder of a run or sweep, or published/<name>."""
    genotype_blocks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Single blocks, `<target>.<source>: <context>`, on top of `genotype` or of all none; a block with several contexts
    is `tlabel+local`."""
    allow: list[str] = field(default_factory=list, metadata=FREE)
    """Python modules or packages from which a `_target_` may come; for a stored run, give them again."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    neck: NeckConfig = field(default_factory=NeckConfig)
    branching: BranchingConfig = field(default_factory=BranchingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig, metadata=FREE)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig, metadata=FREE)
    predict: PredictConfig = field(default_factory=PredictConfig, metadata=FREE)
    export: ExportConfig = field(default_factory=ExportConfig, metadata=FREE)
    importance: ImportanceConfig = field(default_factory=ImportanceConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig, metadata=FREE)
    debug: DebugConfig = field(default_factory=DebugConfig)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        parts = self.name.split("/")
        proper = all(part.strip() and not part.startswith(".") and not re.fullmatch(r"seed\d+", part) for part in parts)
        require(proper, "name", f"'{self.name}'", "a folder below runs_dir, such as a or a/b",
                "no part of it may be empty, begin with a dot, or be that of a seed, seed0")  # fmt: skip
        self._check_stage()
        self._check_tasks()
        self._check_network()
        self._check_branching()
        self._check_balance()

    def _check_stage(self) -> None:
        sources = [key for key in ("run", "checkpoint", "predictions") if getattr(self, key) is not None]
        if self.stage.name == "evaluate":
            allowed = "given one of run=RUN_DIR, checkpoint=FILE, predictions=DIR"
            require(len(sources) == 1, "stage", "evaluate", allowed, f"not {' and '.join(sources) or 'none of them'}")
        if self.stage.name == "export":
            require(sources == ["run"], "stage", "export", "given run=RUN_DIR, and nothing else to take weights from")
        if self.stage.name == "predict":
            require(sources in (["run"], ["checkpoint"]), "stage", "predict", "given run=RUN_DIR or checkpoint=FILE")
            require(self.input is not None, "stage", "predict", "given input=IMAGE or input=FOLDER")
        if self.stage.name == "importance":
            require(sources == ["run"], "stage", "importance", "given run=RUN_DIR")
        if self.stage.name == "attention":
            require(sources in (["run"], ["checkpoint"]), "stage", "attention", "given run=RUN_DIR or checkpoint=FILE")
            require(self.image is not None, "stage", "attention", "given image=FILE")
            require(self.pixel is not None, "stage", "attention", "given pixel=Y,X")
        if self.pixel is not None:
            require(len(self.pixel) == 2 and min(self.pixel) >= 0, "pixel", self.pixel, "row and column, pixel=Y,X")

    def _check_tasks(self) -> None:
        facts = {"tasks": "the tasks that it has labels for", "crop": "[height, width] of training crops"}
        options = {"positive_weight": "about 1 - the share of boundary pixels",
                   "max_distance": "the boundary score's tolerance as a share of the diagonal"}  # fmt: skip
        read = {option for task in self.task_names if task in PUBLISHED for option in PUBLISHED[task].reads}
        facts |= {f"edge_{option}": meaning for option, meaning in options.items() if option in read}
        for key, meaning in facts.items():
            value = getattr(self.dataset, key)
            require(value not in (None, []), f"dataset.{key}", value, f"given, {meaning}")
        known = ", ".join(self.dataset.tasks)
        for task in self.task_names:
            require(task in self.dataset.tasks, "tasks", task, f"a task that {self.dataset.name} has ({known})")
        key = "tasks" if self.tasks is not None else "dataset.tasks"
        require(len(set(self.task_names)) == len(self.task_names) > 0, key, self.task_names, "distinct and not empty")
        for task, weight in self.loss_weights.items():
            require(task in self.task_names, "loss_weights", task, f"one of {', '.join(self.task_names)}")
            positive(f"loss_weights.{task}", weight)
        for task, form in self.task_forms.items():
            require(task in self.task_names, "task_forms", task, f"one of {', '.join(self.task_names)}")
            require(form in FORMS, f"task_forms.{task}", form, f"one of {', '.join(FORMS)}")
        for task, loss in self.task_losses.items():
            key = f"task_losses.{task}"
            require(task in self.task_names, "task_losses", task, f"one of {', '.join(self.task_names)}")
            require(task in PUBLISHED, key, loss, f"left out; dataset.task_table.{task}.loss says it")
            fitting = ", ".join(PUBLISHED[task].kind.losses)
            require(loss in PUBLISHED[task].kind.losses, key, loss, f"one that fits the task: {fitting}")
            require(task not in self.task_forms, key, loss, f"left out beside task_forms.{task}", "a form has its loss")

    def _check_network(self) -> None:
        pyramids = self.distillation.name != "mti_net" or self.neck.name == "fpm"
        require(pyramids, "neck", self.neck.name, "fpm for distillation=mti_net",
                "it refines the maps that neck=fpm makes of every task")  # fmt: skip
        searching = self.distillation.name == "search"
        types = self.search.candidates
        left = self.distillation.self_attention or types is None or NONE in types
        require(not searching or left, "search.candidates", types, f"with {NONE} for distillation.self_attention=false",
                f"blocks from a task to itself are then {NONE}")  # fmt: skip
        if self.stage.name in TRAINING_STAGES:
            wanted = "search" if searching else "retrain"
            require(self.stage.name == wanted, "stage", self.stage.name, f"{wanted} for this network",
                    f"distillation={self.distillation.name} is trained by stage={wanted}")  # fmt: skip
        if self.neck.name == "aspp" and self.stage.name in ("branch", *TRAINING_STAGES):
            images = self.engine.batch_size // self.engine.accumulate
            require(images > 1, "neck", "aspp", "trained on more than one image at a time",
                    "its pooling has a batch norm: raise engine.batch_size or lower engine.accumulate")  # fmt: skip
        target = self.distillation._target_
        allowed = target is None or any(target.startswith(f"{module}.") for module in self.allow)
        require(allowed, "distillation._target_", target, f"below a module of allow={self.allow}",
                f"to run that code, give allow=[{(target or '').partition('.')[0]}]")  # fmt: skip
        given = self.genotype is not None or bool(self.genotype_blocks)
        if self.distillation.name == "atrc":
            require(given, "genotype", self.genotype, "given for distillation=atrc",
                    "give a genotype.json, the folder of a search, or published/nyud_hrnet18")  # fmt: skip
            whole = self.genotype is not None or self.distillation.scales != SEPARATE
            require(whole, "genotype", self.genotype, "given for distillation.scales=separate",
                    "genotype_blocks changes blocks of it; give that of a search with the same scales")  # fmt: skip
        else:
            key = "genotype" if self.genotype is not None else "genotype_blocks"
            require(not given, key, getattr(self, key), "left out for this network",
                    f"only distillation=atrc uses a genotype, not {self.distillation.name}")  # fmt: skip
        for target, row in self.genotype_blocks.items():
            for source, context in row.items():
                key = f"genotype_blocks.{target}.{source}"
                known = all(name in CONTEXT_TYPES for name in parted(context))
                require(known, key, context, f"one of {', '.join(CONTEXT_TYPES)}, or several joined by +")

    def _check_branching(self) -> None:
        if self.stage.name != "branch":
            return
        require(self.distillation.name == "none", "distillation", self.distillation.name, "none for stage=branch",
                "the contexts are searched on the branched network afterwards")  # fmt: skip
        require(self.neck.name != "fpm", "neck", self.neck.name, "shared, skip or aspp for stage=branch",
                "every task passes the encoder alone")  # fmt: skip
        require(self.branching.file is None, "branching.file", self.branching.file, "null for stage=branch")
        precision = self.engine.precision
        require(precision != "fp16", "engine.precision", precision, "fp32 or bf16 for stage=branch")
        require(len(self.task_names) > 1, "tasks", self.task_names, "more than one for stage=branch")

    def _check_balance(self) -> None:
        if self.balance.name != "torchjd" or self.stage.name not in (*TRAINING_STAGES, "benchmark"):
            return
        require(self.branching.file is None, "branching.file", self.branching.file, "null for balance=torchjd",
                "the tasks of a branched encoder share no maps")  # fmt: skip
        require(not self.engine.compile, "engine.compile", True, "false for balance=torchjd",
                "it reaches into the graph of the network")  # fmt: skip
        precision = self.engine.precision
        require(precision != "fp16", "engine.precision", precision, "fp32 or bf16 for balance=torchjd")

    @property
    def task_names(self) -> list[str]:
        """Tasks of this run, in the dataset's order unless `tasks` gives another."""
        return list(self.tasks if self.tasks is not None else self.dataset.tasks)
