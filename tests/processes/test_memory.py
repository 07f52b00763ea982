import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.losses import build_losses
from atrc_exp.models.backbones.backbone import Backbone
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.recompute import recompute_activations
from atrc_exp.processes import memory
from atrc_exp.training.step import Objective


def objective(config: tiny.Config) -> Objective:
    network = tiny.network(config)
    losses = build_losses(tiny.tasks(), tuple(network.aux_heads), initial_scales=network.initial_scales)
    return Objective(Predictor(network, config), losses).train()


def batch(number: int, height: int, width: int) -> dict:
    small = tiny.images(0, 1)
    labels = {
        "semseg": torch.zeros(number, height, width, dtype=torch.long),
        "depth": torch.ones(number, 1, height, width),
    }
    return {**small, "image": torch.randn(number, 3, height, width), "labels": labels}


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


def write_group(folder: Path, limit: str, usage: int, names: tuple[str, str], cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_limits_of_control_groups(tmp_path: Path) -> None:
    two, one = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write_group(tmp_path / "fs" / "slurm" / "job", "1000", 300, two, cached=50)
    write_group(tmp_path / "fs" / "slurm", "max", 300, two)
    write_group(tmp_path / "fs" / "memory" / "job", "5000", 1000, one)
    (tmp_path / "cgroup").write_text("0::/slurm/job\n4:memory:/job\n2:cpu:/job\n")
    assert sorted(memory._cgroup_free(tmp_path / "cgroup", tmp_path / "fs")) == [750, 4000]


@pytest.mark.slow
def test_peak_is_not_that_of_the_process_that_started_this_one():
    held = torch.ones(2**28)  # 1 GiB
    code = "import torch; from atrc_exp.processes.memory import peak_mib; print(peak_mib(torch.device('cpu')))"
    peak = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert memory.peak_mib(torch.device("cpu")) > held.nbytes / 2**20 > peak


def test_memory_of_a_pass_is_that_of_the_tensors_that_live_together() -> None:
    maps, weight = torch.rand(4, 1000), torch.rand(2000, 1000)

    def forward() -> Tensor:
        hidden = maps.exp() + 1  # the two exist for a moment, beside nothing else
        hidden = hidden.relu_()
        return (hidden @ weight.t()).sum()  # a view of the weights is no new memory; 4 x 2000 beside 4 x 1000

    with torch.inference_mode():
        assert memory.inference_bytes(forward) == pytest.approx(memory._SCRATCH * 4 * (4 * 2000 + 4 * 1000), rel=0.01)
        assert memory.inference_bytes(lambda: weight.view(-1)[:5]) == 0


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
def test_memory_of_a_prediction_grows_with_its_pixels(tmp_path: Path, kind: str) -> None:
    predict = objective(tiny.config(tmp_path, kind=kind)).predict.eval()

    def needed(height: int, width: int) -> int:
        image = torch.randn(1, 3, height, width)
        return memory.inference_bytes(lambda: predict(image))

    with torch.inference_mode():
        assert needed(256, 384) == pytest.approx(4 * needed(128, 192), rel=0.1)


def test_free_memory_of_the_cpu_is_known_where_the_system_tells_it() -> None:
    assert memory.free_bytes(torch.device("cpu")) is None or memory.free_bytes(torch.device("cpu")) > 2**20
    assert memory.free_bytes(torch.device("meta")) is None
