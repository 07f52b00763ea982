from collections.abc import Callable

import pytest
import small_rooms
import torch

from atrc_exp.config import BackboneConfig, Config, DistillationConfig, NeckConfig, StageConfig
from atrc_exp.genotype import load
from atrc_exp.models import build_network
from atrc_exp.models.network import Network
from atrc_exp.tasks import build_tasks

NYUD = ("semseg", "depth", "normals", "edge")


@pytest.fixture(autouse=True)
def _repeatable():
    """Few threads, the same random numbers in every test."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_network() -> Callable[..., Network]:
    """Build a network with random weights, by default on a backbone that takes milliseconds."""

    def make(
        distillation: str,
        *,
        tasks: tuple[str, ...] = NYUD,
        semseg: int = 40,
        backbone: str = "mobilenetv3_small_050",
        neck: str | None = None,
        softmax: str = "authors",
        genotype: str | None = None,
        **options: object,
    ) -> Network:
        if distillation == "atrc" and genotype is None:
            genotype = "published/nyud_hrnet18"
        neck = neck or ("fpm" if distillation == "mti_net" else "shared")
        config = Config(
            dataset=small_rooms.dataset(),
            backbone=BackboneConfig(name=backbone, weights="random"),
            neck=NeckConfig(name=neck, softmax=softmax),
            distillation=DistillationConfig(name=distillation, **options),
            stage=StageConfig(name="profile"),
            genotype=genotype,
        )
        rows = build_tasks(tasks, num_classes={"semseg": semseg}, edge_positive_weight=0.8, edge_max_distance=0.011)
        return build_network(config, rows, load(genotype) if genotype else None)

    return make
