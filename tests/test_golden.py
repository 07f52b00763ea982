"""Loss curves of a short seeded search and retraining: a change that moves numbers is seen here.

`python tests/test_golden.py` writes the curves anew; do so only for a change that is meant to move them.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import small_rooms
import torch
from torch import Tensor, nn

from atrc_exp.config import (
    BackboneConfig,
    Config,
    DistillationConfig,
    EngineConfig,
    SearchConfig,
    StageConfig,
)
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.batch import Batch
from atrc_exp.genotype import load
from atrc_exp.losses import build_losses
from atrc_exp.models.distillation import build_distillation
from atrc_exp.models.network import Network
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.processes.ranks import Ranks
from atrc_exp.training.record import LossRecord
from atrc_exp.training.state import build_state
from atrc_exp.training.step import Objective, train_step

FILE = Path(__file__).parent / "golden" / "losses.json"
STEPS, SIZE = 8, (32, 64)


def configuration(kind: str) -> Config:
    return Config(
        name="golden",
        genotype="published/nyud_hrnet18" if kind == "retrain" else None,
        dataset=small_rooms.dataset(crop=list(SIZE)),
        backbone=BackboneConfig(name="hrnet_w18_small_v2", weights="random"),
        distillation=DistillationConfig(name="search" if kind == "search" else "atrc", dropout=0.0),
        stage=StageConfig(name=kind),
        search=SearchConfig(arch_lr=0.05),
        engine=EngineConfig(iterations=STEPS, batch_size=2),
    )


class Backbone(nn.Module):
    """One layer: a deep network with random weights and few pixels would amplify rounding a millionfold."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = [32]
        self.layers = nn.Sequential(nn.Conv2d(3, 32, 5, 4, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU())

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


def batches() -> list[Batch]:
    draw = np.random.default_rng(0)
    result = []
    for _ in range(STEPS):
        normals = draw.normal(size=(2, 3, *SIZE)).astype(np.float32)
        labels = {
            "semseg": torch.from_numpy(draw.integers(0, 40, (2, *SIZE))),
            "depth": torch.from_numpy(draw.uniform(0.7, 9, (2, 1, *SIZE)).astype(np.float32)),
            "normals": torch.from_numpy(normals / np.linalg.norm(normals, axis=1, keepdims=True)),
            "edge": torch.from_numpy((draw.random((2, *SIZE)) < 0.1).astype(np.int64)),
        }
        labels["semseg"][:, :3], labels["depth"][:, :, 5:9] = 255, 0.0
        image = torch.from_numpy(draw.normal(size=(2, 3, *SIZE)))
        result.append(Batch(image, labels, ["0", "1"], torch.tensor([SIZE] * 2)))
    return result


def losses(kind: str) -> list[dict[str, float]]:
    config, ranks = configuration(kind), Ranks()
    tasks = build_tasks_of(config)
    torch.manual_seed(0)
    genotype = load(config.genotype) if config.genotype else None
    distillation = build_distillation(config.distillation, tuple(task.name for task in tasks), 8, genotype)
    network = Network(Backbone(), tasks, 8, distillation)
    network.double().train()  # rounding differences between processors then stay far below the tolerance
    codebook = torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(1).normal(size=(40, 3))).float())
    loss = build_losses(tasks, tuple(network.aux_heads), codebook)
    objective = Objective(Predictor(network, config), loss)
    record, strategy = LossRecord([], ranks.device), build_strategy(config, network)
    state = build_state(config, network, strategy, record, "golden", codebook)
    steps = [train_step(config, state, objective, loss, [batch], ranks) for batch in batches()]
    return [{name: float(value) for name, value in step.terms.items()} for step in steps]


@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_losses_follow_the_recorded_curve(kind):
    recorded, measured = json.loads(FILE.read_text())[kind], losses(kind)
    assert len(recorded) == len(measured) == STEPS
    for step, (old, new) in enumerate(zip(recorded, measured, strict=True)):
        assert new == pytest.approx(old, rel=1e-3), step
    assert recorded[0]["depth"] != recorded[-1]["depth"]


if __name__ == "__main__":
    FILE.write_text(json.dumps({kind: losses(kind) for kind in ("search", "retrain")}, indent=1) + "\n")
