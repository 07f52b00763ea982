"""One optimiser step against hand computation."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.evaluation.evaluate import evaluate
from atrc_exp.genotype import uniform
from atrc_exp.losses import build_losses
from atrc_exp.models.distillation.atrc import ATRC
from atrc_exp.models.network import Network
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import build_tasks
from atrc_exp.training.record import LossRecord
from atrc_exp.training.state import TrainState, build_state
from atrc_exp.training.step import Objective, StepResult, train_step


class Setting:
    """A network with its optimisers and one batch, ready for steps."""

    def __init__(self, config: Config, *, hold_bn: bool = True, dtype: torch.dtype = torch.float64) -> None:
        torch.set_num_threads(1)
        self.config = config
        self.network = tiny.network(config, hold_bn=hold_bn, dtype=dtype)
        self.losses = build_losses(
            tiny.tasks(), tuple(self.network.aux_heads), initial_scales=self.network.initial_scales
        )
        self.objective = Objective(Predictor(self.network, config), self.losses).train()
        strategy, record = build_strategy(config, self.network), LossRecord((), torch.device("cpu"))
        self.state: TrainState = build_state(config, self.network, strategy, record, "id", None)
        self.batch, self.held_out = tiny.images(5, 4, dtype), tiny.images(6, 4, dtype)

    def step(self, parts: int = 1) -> StepResult:
        micro, held_out = (
            [tiny.part(batch, index, parts) for index in range(parts)] for batch in (self.batch, self.held_out)
        )
        held_out = held_out if self.config.search.bilevel else []
        return train_step(self.config, self.state, self.objective, self.losses, micro, Ranks(), held_out)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.network.named_parameters()}


@pytest.mark.parametrize("kind", ["search", "bilevel", "atrc", "fpm"])
def test_micro_batches_add_up_to_the_whole_batch(tmp_path: Path, kind: str) -> None:
    config = tiny.config(tmp_path, kind=kind)
    config = replace(config, distillation=replace(config.distillation, dropout=0.0))
    whole, parts = Setting(config), Setting(config)
    for _ in range(3):
        expected, found = whole.step(1), parts.step(2)
        for name, term in expected.terms.items():
            torch.testing.assert_close(found.terms[name], term, rtol=1e-12, atol=0)
    for name, weight in whole.weights().items():
        torch.testing.assert_close(parts.weights()[name], weight, rtol=1e-9, atol=1e-12)


def test_search_step_is_sgd_and_adam_on_clipped_gradients_of_the_whole_loss(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    config = replace(
        config,
        search=replace(config.search, clip_norm=0.5, entropy=[0.3, 0.3]),
        optim=replace(config.optim, head_lr_factor=10.0),
    )
    setting = Setting(config)
    network, batch = setting.network, setting.batch
    before = setting.weights()

    output = network.train()(batch.image, ArchSample(1.0, gumbel_noise(4, config.seed, 0)))
    terms = setting.losses(output.final, output.aux, batch.labels)
    loss = sum(terms.values()) + 0.3 * network.search.entropy()
    gradients = dict(zip(before, torch.autograd.grad(loss, list(network.parameters()), allow_unused=True), strict=True))
    norm = sum(g.square().sum() for g in gradients.values() if g is not None).sqrt()
    assert norm > 0.5
    setting.step()
    after = setting.weights()
    for name, gradient in gradients.items():
        if gradient is None:
            assert torch.equal(after[name], before[name])
            continue
        clipped = gradient * 0.5 / (norm + 1e-6)
        if name.endswith(".arch"):
            moved = -config.search.arch_lr * clipped / (clipped.abs() + 1e-8)  # Adam's first step; no weight decay
        else:
            rate = config.optim.lr * (1 if name.startswith("backbone") else 10)
            moved = -rate * (clipped + config.optim.weight_decay * before[name])
        torch.testing.assert_close(after[name] - before[name], moved, rtol=1e-6, atol=1e-9)


def test_learning_rate_follows_poly_and_architecture_rate_stays(tmp_path: Path) -> None:
    setting = Setting(tiny.config(tmp_path, iterations=10))
    rates = [setting.step().schedule["lr"] for _ in range(3)]
    assert rates == pytest.approx([0.01, 0.01 * 0.9**0.9, 0.01 * 0.8**0.9])
    assert setting.state.arch_optimizer.param_groups[0]["lr"] == 0.3


def test_candidate_that_runs_late_begins_with_its_gradient_as_momentum(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, strategy="spos", iterations=10)
    config = replace(config, optim=replace(config.optim, weight_decay=0.0))
    setting = Setting(config, dtype=torch.float32)
    candidates = {name: p for name, p in setting.network.named_parameters() if ".blocks." in name}
    optimizer, gradients, late = setting.state.optimizer, {}, 0
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in candidates.items() if p.grad is not None})
    )
    for step in range(4):
        known = set(gradients)
        before, rate = setting.weights(), setting.step().schedule["lr"]
        for name in set(gradients) - known:
            late += step > 0
            torch.testing.assert_close(setting.weights()[name], before[name] - rate * gradients[name])
    assert late > 0


@pytest.mark.parametrize("bound", [None, 1e-9])
def test_retraining_clips_by_its_own_bound_alone(tmp_path: Path, bound: float | None) -> None:
    config = tiny.config(tmp_path, kind="atrc")
    config = replace(
        config,
        search=replace(config.search, clip_norm=1e-9),
        optim=replace(config.optim, clip_norm=bound, weight_decay=0.0),
    )
    setting = Setting(config)
    before = setting.weights()
    setting.step()
    moved = torch.stack([(setting.weights()[name] - before[name]).square().sum() for name in before]).sum().sqrt()
    assert moved > 1e-4 if bound is None else 0.9e-11 < moved <= 1.001e-11  # lr 0.01 times the bound


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path: Path, kind: str, precision: str) -> None:
    config = tiny.config(tmp_path, kind=kind, precision=precision, channels_last=True)
    setting = Setting(config, hold_bn=False, dtype=torch.float32)
    before = setting.weights()
    for _ in range(6):
        result = setting.step()
        assert all(term.isfinite() for term in result.terms.values())
    assert all(weight.isfinite().all() for weight in setting.weights().values())
    assert any(not torch.equal(setting.weights()[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", ["search", "atrc"])
def test_overflowing_fp16_step_is_skipped_as_a_whole_and_counted(tmp_path: Path, kind: str) -> None:
    setting = Setting(tiny.config(tmp_path, kind=kind, precision="fp16"), hold_bn=False, dtype=torch.float32)
    setting.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    before = setting.weights()
    result = setting.step()
    assert all(term.isfinite() for term in result.terms.values())
    assert setting.state.skipped == 1 and setting.state.scaler.get_scale() == 2.0**99
    assert all(torch.equal(setting.weights()[name], before[name]) for name in before)


def test_padding_mask_marks_pixels_that_are_zero_in_all_channels(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    config = replace(config, distillation=replace(config.distillation, mask_padding=True))
    predict, seen = Predictor(tiny.network(config), config), []
    predict.network.forward = lambda image, sample, valid, regions: seen.append(valid)  # type: ignore[method-assign]
    image = torch.randn(2, 3, 6, 8)
    image[1, :, :2] = 0
    image[0, 0] = 0  # one channel only
    predict(image)
    assert seen[0].shape == (2, 1, 6, 8) and seen[0][0].all()
    assert not seen[0][1, :, :2].any() and seen[0][1, :, 2:].all()


def labelled(config: Config) -> Network:
    """The fixed tiny network with label regions from labels."""
    module = ATRC(tiny.FIXED, 4, kernel_size=3, dropout=0.0)
    built = Network(tiny.TinyBackbone(), tiny.tasks(), 4, module, regions_from_labels=True)  # type: ignore[arg-type]
    for fusion in module.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    return built


def test_label_regions_come_from_the_batch_in_training_and_validation(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, kind="atrc")
    network, batch = labelled(config), tiny.images(5, 4)
    labels = batch.labels
    labels["depth"][0, 0, :2, :2] = 30.0
    regions = {"semseg": labels["semseg"].clone(), "depth": torch.full((4, *tiny.SIZE), 255)}
    for b, y, x in (labels["depth"][:, 0] > 0).nonzero().tolist():
        position = 40 * math.log(float(labels["depth"][b, 0, y, x]) / 0.7) / math.log(10 / 0.7)
        regions["depth"][b, y, x] = min(39, max(0, math.floor(position)))
    predict = Predictor(network, config)
    objective = Objective(predict, build_losses(tiny.tasks()))

    network.eval()
    expected = network(batch.image, regions=regions).final
    for task, prediction in predict(batch.image, labels=labels).final.items():
        torch.testing.assert_close(prediction, expected[task])
    terms = build_losses(tiny.tasks())(expected, {}, labels)
    terms = {task: term.item() for task, term in terms.items()}
    assert {task: term.item() for task, term in objective(batch.image, labels).items()} == pytest.approx(terms)
    scores = evaluate(predict, [batch], tiny.tasks(), Ranks())
    assert {task: scores[f"{task}/loss"] for task in terms} == pytest.approx(terms)
    with pytest.raises(UserError, match="labelled images only"):
        predict(batch.image)


def test_label_regions_of_normals_are_nearest_codewords_and_padding_is_in_none(tmp_path: Path) -> None:
    (normals,) = build_tasks(["normals"], num_classes={}, edge_positive_weight=0.8, edge_max_distance=0.011)
    module = ATRC(uniform(("normals",), "tlabel"), 4)
    network = Network(tiny.TinyBackbone(), (normals,), 4, module, regions_from_labels=True).eval()  # type: ignore[arg-type]
    torch.nn.init.ones_(module.fusions["normals"].context[1].weight)
    codebook = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    image, label = torch.randn(1, 3, *tiny.SIZE), torch.zeros(1, 3, *tiny.SIZE)
    words = torch.randint(0, 40, (16, 20))
    label[0, :, 8:24, 10:30] = 0.9 * codebook[words].movedim(-1, 0)
    regions = torch.full((1, *tiny.SIZE), 255)
    regions[0, 8:24, 10:30] = words
    found = Predictor(network, tiny.config(tmp_path, kind="atrc"), codebook)(image, labels={"normals": label})
    torch.testing.assert_close(found.final["normals"], network(image, regions={"normals": regions}).final["normals"])
    assert "codebook" not in Predictor(network, tiny.config(tmp_path, kind="atrc"), codebook).state_dict()
