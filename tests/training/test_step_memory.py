"""What a training step is thought to take, and the refusal of one that does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch
from torch import Tensor, nn

from atrc_exp.data.batch import Batch
from atrc_exp.errors import UserError
from atrc_exp.losses import build_losses
from atrc_exp.models.backbones.backbone import Backbone
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.recompute import recompute_activations
from atrc_exp.processes.memory import inference_bytes
from atrc_exp.training import memory
from atrc_exp.training.step import Objective


def objective(config: tiny.Config) -> Objective:
    network = tiny.network(config)
    losses = build_losses(tiny.tasks(), tuple(network.aux_heads), initial_scales=network.initial_scales)
    return Objective(Predictor(network, config), losses).train()


def batch(number: int, height: int, width: int) -> Batch:
    labels = {
        "semseg": torch.zeros(number, height, width, dtype=torch.long),
        "depth": torch.ones(number, 1, height, width),
    }
    return replace(tiny.images(0, number), image=torch.randn(number, 3, height, width), labels=labels)


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
def test_estimate_grows_with_pixels_and_precision(tmp_path: Path, kind: str) -> None:
    config = tiny.config(tmp_path, kind=kind)
    made = objective(config)
    small = memory.training_bytes(made, batch(2, 64, 96))
    assert memory.training_bytes(made, batch(8, 128, 192)) == pytest.approx(16 * small, rel=0.1)
    half = objective(replace(config, engine=replace(config.engine, precision="bf16")))
    assert memory.training_bytes(half, batch(2, 64, 96)) < small


class Stacked(Backbone):
    """A stride-4 convolution to 8 channels and a stage of blocks, each of which keeps three maps without parameters."""

    def __init__(self, blocks: int) -> None:
        nn.Module.__init__(self)
        stage = nn.Sequential(*(nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh()) for _ in range(blocks)))
        self.model = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2, bias=False), stage)
        self.channels, self.fixed_size = [8], False

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.model(image)]


def test_activations_that_are_computed_again_count_one_block_at_a_time(tmp_path: Path) -> None:
    one_map = 2 * 8 * 16 * 24 * 4 * memory._BACKWARD

    def estimate(blocks: int, recompute: bool) -> int:
        made = objective(tiny.config(tmp_path, kind="atrc"))
        made.predict.network.backbone = Stacked(blocks)
        if recompute:
            recompute_activations(made)
        return memory.training_bytes(made, batch(2, 64, 96))

    assert estimate(5, False) - estimate(1, False) == pytest.approx(4 * 3 * one_map, abs=2)
    assert estimate(5, True) - estimate(1, True) == pytest.approx(4 * one_map, abs=2)  # the inputs
    assert estimate(1, True) - estimate(1, False) == pytest.approx(one_map, abs=2)  # of a single block the input


def test_a_backbone_of_one_size_is_run_at_that_size(tmp_path: Path) -> None:
    class OneSize(tiny.TinyBackbone):
        def forward(self, image: Tensor) -> list[Tensor]:
            assert image.shape[2:] == (136, 160)
            return super().forward(image)

    made = objective(tiny.config(tmp_path, kind="atrc"))
    images = batch(3, 136, 160)
    crops = memory.training_bytes(made, images)
    made.predict.network.backbone = OneSize()
    made.predict.network.backbone.fixed_size = True
    assert memory.training_bytes(made, images) == pytest.approx(crops, rel=0.02)


def test_adam_keeps_one_number_more_of_every_parameter(tmp_path: Path) -> None:
    made = objective(tiny.config(tmp_path))
    parameters = sum(parameter.numel() * 4 for parameter in made.parameters())
    images = batch(2, 64, 96)
    assert memory.training_bytes(made, images, "adamw") - memory.training_bytes(made, images) == parameters


def test_estimate_leaves_no_trace(tmp_path: Path) -> None:
    made = objective(tiny.config(tmp_path, kind="atrc"))
    before = {name: value.clone() for name, value in made.state_dict().items()}
    images = batch(2, 64, 96)
    generator = torch.get_rng_state()
    memory.training_bytes(made, images)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in made.parameters())


def test_step_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(tmp_path, kind="atrc", memory_check=True)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"batch_size=4.*precision=fp32.*memory_check=false"):
        tiny.run_training(config)
    assert not (tiny.folder(config) / "checkpoints").exists()
    monkeypatch.setattr(memory, "available_bytes", lambda: None)  # unknown: nothing to refuse by
    memory.require(2**60, config)


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
def test_memory_of_a_prediction_grows_with_its_pixels(tmp_path: Path, kind: str) -> None:
    predict = objective(tiny.config(tmp_path, kind=kind)).predict.eval()

    def needed(height: int, width: int) -> int:
        image = torch.randn(1, 3, height, width)
        return inference_bytes(lambda: predict(image))

    with torch.inference_mode():
        assert needed(256, 384) == pytest.approx(4 * needed(128, 192), rel=0.1)
