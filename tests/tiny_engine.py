"""A network of real parts that trains in seconds, and random batches whose images have unequal numbers of labels."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import small_rooms
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.config import (
    BackboneConfig,
    BalanceConfig,
    Config,
    DistillationConfig,
    EngineConfig,
    LoggerConfig,
    NeckConfig,
    SearchConfig,
    StageConfig,
)
from atrc_exp.data.batch import Batch
from atrc_exp.genotype import Genotype
from atrc_exp.models.distillation.atrc import ATRC
from atrc_exp.models.necks import build_neck
from atrc_exp.models.network import Network
from atrc_exp.models.search import SearchATRC
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.checkpoint import seed_all
from atrc_exp.runs.folder import Run
from atrc_exp.tasks import Task, build_tasks
from atrc_exp.training.loop import Loaders, train

SIZE = (32, 40)
CLASSES = 5
NAMES = ("semseg", "depth")
FIXED = Genotype(NAMES, {"semseg": {"semseg": "tlabel", "depth": "global"},
                         "depth": {"semseg": "slabel", "depth": "local"}})  # fmt: skip


class TinyBackbone(nn.Module):
    """One stride-4 convolution to 8 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.reductions, self.fixed_size = [8], [4], False
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


class TwoScales(TinyBackbone):
    """A second map at stride 8, for necks."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.reductions = [8, 8], [4, 8]

    def forward(self, image: Tensor) -> list[Tensor]:
        (x,) = super().forward(image)
        return [x, F.avg_pool2d(x, 2)]


class HeldBatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics in training too, so that images do not see one another."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def tasks() -> tuple[Task, ...]:
    return build_tasks(NAMES, num_classes={"semseg": CLASSES}, edge_positive_weight=0.8, edge_max_distance=0.011)


def network(config: Config, *, hold_bn: bool = False, dtype: torch.dtype = torch.float32) -> Network:
    seed_all(config.seed)
    dropout = config.distillation.dropout
    module: nn.Module = SearchATRC(NAMES, 4, kernel_size=3)
    if config.distillation.name == "atrc":
        module = ATRC(FIXED, 4, kernel_size=3, dropout=dropout)
    backbone = TinyBackbone() if config.neck.name == "shared" else TwoScales()
    neck = build_neck(config.neck, backbone.channels, backbone.reductions, tasks())
    built = Network(backbone, tasks(), 4, module, neck=neck)  # type: ignore[arg-type]
    for child in built.modules():
        if hold_bn and type(child) is nn.BatchNorm2d:
            child.__class__ = HeldBatchNorm
    # The fusion's batch norm starts at zero, where contexts have no effect and a broken one would not show.
    for name, parameter in built.named_parameters():
        if name.endswith("context.1.weight"):
            nn.init.ones_(parameter)
    return built.to(dtype)


def config(
    runs_dir: Path, *, kind: str = "search", strategy: str = "gumbel", seed_of_run: int = 0, **engine: Any
) -> Config:
    """kind: search, bilevel (the same, logits apart), atrc (retrain), or fpm (retrain of ATRC on the FPM)."""
    searching = kind in ("search", "bilevel")
    settings = {"iterations": 12, "batch_size": 4, "validate_every": 6, "checkpoint_every": 4, "log_every": 2,
                "device": "cpu", "workers": 0, **engine}  # fmt: skip
    return Config(
        name=f"tiny_{kind}",
        runs_dir=str(runs_dir),
        seed=seed_of_run,
        genotype=None if searching else "given",
        dataset=small_rooms.dataset(tasks=list(NAMES), num_classes={"semseg": CLASSES}, crop=list(SIZE)),
        backbone=BackboneConfig(weights="random"),
        neck=NeckConfig(name="fpm" if kind == "fpm" else "shared"),
        distillation=DistillationConfig(name="search" if searching else "atrc", kernel_size=3, dropout=0.3),
        stage=StageConfig(name="search" if searching else "retrain"),
        search=SearchConfig(arch_lr=0.3, strategy=strategy, bilevel=kind == "bilevel", population=4, generations=2),
        engine=EngineConfig(**settings),
        logger=LoggerConfig(mode="disabled"),
    )


def exact_config(runs_dir: Path, kind: str, strategy: str = "gumbel") -> Config:
    """Five steps in which ranks could differ in nothing: no dropout; a search in which a block freezes."""
    exact = config(runs_dir, kind=kind, strategy=strategy, iterations=5, log_every=1, validate_every=5)
    exact = replace(exact, distillation=replace(exact.distillation, dropout=0.0))
    return replace(exact, search=replace(exact.search, arch_lr=1.0))


def weighing_config(runs_dir: Path) -> Config:
    """An exact search whose tasks' gradients are weighted."""
    return replace(exact_config(runs_dir, "search"), balance=BalanceConfig(name="torchjd", aggregator="mgda"))


def images(seed: int, number: int, dtype: torch.dtype = torch.float32) -> Batch:
    """A batch whose k-th image has about k times as many unlabelled pixels as the first."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(number, 3, *SIZE, generator=draw)
    semseg = (image.mean(1) * 4).long().abs().clamp(max=CLASSES - 1)
    depth = image[:, :1].abs() + 1
    for k in range(number):
        semseg[k, : 4 * k] = 255
        depth[k, :, :, : 6 * k] = 0
    labels, ids = {"semseg": semseg, "depth": depth.to(dtype)}, [f"{seed}_{k}" for k in range(number)]
    return Batch(image.to(dtype), labels, ids, torch.tensor([SIZE] * number))


def part(batch: Batch, index: int, parts: int) -> Batch:
    """The index-th of equal parts of a batch."""
    own = len(batch.ids) // parts
    cut = slice(index * own, (index + 1) * own)
    return replace(batch.map(lambda x: x[cut]), ids=batch.ids[cut], sizes=batch.sizes[cut])


EXACT_RUNS = (
    ("search", "gumbel"), ("search", "gumbel_st"), ("search", "spos"), ("bilevel", "darts"), ("atrc", "gumbel")
)  # fmt: skip
"""Kinds and strategies that two ranks must train as one process does."""


class Killed(BaseException):
    """Stands for the end of a process: nothing catches it."""


def loaders(
    config: Config, ranks: Ranks, *, stop_at: int | None = None, spoil_at: int | None = None, spoil_rank: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Loaders:  # fmt: skip
    """Batches as a function of the iteration; the process ends at `stop_at`, images of a rank are NaN at `spoil_at`."""
    accumulate = config.engine.accumulate

    def training(start: int, first: int = 0) -> Any:
        for iteration in range(start, config.engine.iterations):
            if iteration == stop_at:
                raise Killed
            own = part(images(first + iteration, config.engine.batch_size, dtype), ranks.rank, ranks.world)
            if iteration == spoil_at and ranks.rank == spoil_rank:
                own = replace(own, image=own.image * float("nan"))
            for micro in range(accumulate):
                yield part(own, micro, accumulate)

    validation, held_out = (
        [part(images(first + index, 4, dtype), ranks.rank, ranks.world) for index in range(2)] for first in (1000, 2000)
    )
    return Loaders(training, validation, held_out, partial(training, first=3000) if config.search.bilevel else None)


class Record:
    """What a run asks of its dataset."""

    fingerprint = "0123"

    def as_dict(self) -> dict[str, Any]:
        return {"name": "tiny", "fingerprint": self.fingerprint}


def run_training(
    config: Config,
    ranks: Ranks | None = None,
    *,
    hold_bn: bool = False,
    dtype: torch.dtype = torch.float32,
    **loading: Any,
) -> dict[str, Any]:
    """Build everything and train, as a stage does."""
    ranks = ranks or Ranks()
    with Run.open(config, ranks, Record()) as run:
        built = network(config, hold_bn=hold_bn, dtype=dtype)
        strategy = build_strategy(config, built)
        return train(config, run, ranks, built, strategy, tasks(), loaders(config, ranks, dtype=dtype, **loading))


def folder(config: Config) -> Path:
    return Path(config.runs_dir) / config.name / f"seed{config.seed}"


def with_engine(config: Config, **engine: Any) -> Config:
    """The configuration with other engine settings."""
    return replace(config, engine=replace(config.engine, **engine))
