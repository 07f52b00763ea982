"""Two steps of the search against the same steps in plain code: one block after the other, nothing shared, float64."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_engine as tiny
import torch
import torch.nn.functional as F
from test_step import Setting
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.genotype import CONTEXTS
from atrc_exp.models.search import gumbel_noise

PAIRS = [(target, source) for target in tiny.NAMES for source in tiny.NAMES]
ATTENTION = 2  # channels, half of the features'
STEPS = 2


@dataclass
class PlainSearch:
    """Weights and statistics of the tiny search network by name, and what its optimisers remember."""

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    frozen: list[int]
    known: list[int]
    """Blocks that were frozen before the present step; of these only the frozen context is computed."""
    momentum: dict[str, Tensor] = field(default_factory=dict)
    adam: list[Tensor] = field(default_factory=lambda: [torch.zeros(4, 5, dtype=torch.float64) for _ in range(2)])

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        count = x.numel() / x.shape[1]
        for key, new in (("running_mean", mean), ("running_var", variance * count / (count - 1))):
            old = self.statistics[f"{name}.{key}"]
            self.statistics[f"{name}.{key}"] = 0.9 * old + 0.1 * new.detach()
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
        if f"{name}.weight" in self.weights:
            x = x * self.weights[f"{name}.weight"].view(shape) + self.weights[f"{name}.bias"].view(shape)
        return x

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), **options)

    def layer(self, name: str, x: Tensor, number: int = 0, **options: int) -> Tensor:
        """Conv-BN from position `number` of a sequence on."""
        return self.norm(f"{name}.{number + 1}", self.conv(f"{name}.{number}", x, **options))

    def forward(self, image: Tensor, temperature: float, noise: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Final predictions and auxiliary logits at the size of the features."""
        joined = self.layer("backbone.layers", image, stride=4, padding=2).relu()
        features = {t: self.layer(f"heads.{t}", joined, padding=1).relu() for t in tiny.NAMES}
        logits = {
            t: self.conv(f"aux_heads.{t}.3", self.layer(f"aux_heads.{t}", joined.detach()).relu()) for t in tiny.NAMES
        }
        weights = self.candidate_weights(temperature, noise)
        final = {}
        for t in tiny.NAMES:
            outputs = []
            for index, (target, source) in enumerate(PAIRS):
                if target == t:
                    outputs.append(self.block(index, target, source, features, logits, weights[index]))
            fused = self.layer(f"distillation.fusions.{t}.context", torch.cat(outputs, 1))
            refined = self.layer(f"distillation.fusions.{t}.refine", torch.cat((features[t], fused), 1)).relu()
            final[t] = self.conv(f"predictors.{t}", refined)
        return final, logits

    def logits(self, index: int) -> Tensor:
        """Of the candidates of a block; S-label is none on the diagonal."""
        return self.weights["distillation.arch"][index, : 4 if index in (0, 3) else 5]

    def candidate_weights(self, temperature: float, noise: Tensor) -> list[Tensor]:
        result = []
        for index, frozen in enumerate(self.frozen):
            logits = self.logits(index)
            exponentials = ((logits + noise[index, : len(logits)]) / temperature).exp()
            one_hot = torch.tensor([float(frozen == i) for i in range(len(logits))], dtype=torch.float64)
            result.append(exponentials / exponentials.sum() if frozen < 0 else one_hot)
        return result

    def block(self, index, target, source, features, logits, weights) -> Tensor:
        total = torch.zeros_like(features[target][:, :ATTENTION])
        for name, weight in zip(CONTEXTS, weights, strict=False):
            if name == "none" or self.known[index] not in (-1, CONTEXTS.index(name)):
                continue
            regions = logits.get({"tlabel": target, "slabel": source}.get(name, ""))
            context = f"distillation.blocks.{target}.{source}.{name}"
            total = total + weight * self.context(context, name, features[target], features[source], regions)
        return total

    def context(self, path: str, name: str, target: Tensor, source: Tensor, logits: Tensor | None) -> Tensor:
        if logits is not None:  # one position per label region
            densities = logits.flatten(2).exp() / logits.flatten(2).exp().sum(2, keepdim=True)
            source = torch.einsum("bcn,brn->bcr", source.flatten(2), densities).unsqueeze(3)
        act = F.softplus if name == "global" else torch.relu
        q = act(self.layer(f"{path}.query", self.layer(f"{path}.query", target).relu(), 3))
        k = act(self.layer(f"{path}.key", self.layer(f"{path}.key", source).relu(), 3))
        v = self.layer(f"{path}.value", source).relu()
        if name == "local":
            return windowed(q, k, v)
        similarity = torch.einsum("bdn,bdm->bnm", q.flatten(2), k.flatten(2))
        if name != "global":
            similarity = (similarity / math.sqrt(ATTENTION)).exp()
        shares = similarity / similarity.sum(2, keepdim=True)
        return torch.einsum("bnm,bdm->bdn", shares, v.flatten(2)).view_as(q)

    def entropy(self) -> Tensor:
        probabilities = [self.logits(index).softmax(0) for index in range(4)]
        return sum(-(p * p.log()).sum() for p in probabilities) / 4

    def freeze(self, gap: float) -> None:
        self.known = list(self.frozen)
        for index in range(4):
            ranked = sorted(enumerate(self.logits(index).softmax(0).tolist()), key=lambda item: -item[1])
            if self.frozen[index] < 0 and ranked[0][1] - ranked[1][1] >= gap:
                self.frozen[index] = ranked[0][0]

    def step(self, config: Config, batch: Batch, t: int, held_out: Batch | None = None) -> dict[str, float]:
        """One step, numbered from 0; the values of the loss terms. The logits learn first where images are held out."""
        self.freeze(config.search.freeze_gap)
        if held_out is None:
            return self.learn(config, batch, t, set(self.weights))
        self.learn(config, held_out, t, {"distillation.arch"})
        return self.learn(config, batch, t, set(self.weights) - {"distillation.arch"})

    def learn(self, config: Config, batch: Batch, t: int, learning: set[str]) -> dict[str, float]:
        """Move the weights whose names are given by their gradients of the loss of a batch."""
        progress = t / config.engine.iterations
        temperature, entropy_weight = (
            first + (last - first) * progress for first, last in (config.search.temperature, config.search.entropy)
        )
        self.weights = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
        noise = gumbel_noise(4, config.seed, t).double()
        if config.search.strategy == "darts":
            temperature, noise, entropy_weight = 1.0, torch.zeros_like(noise), 0.0
        final, aux = self.forward(batch.image, temperature, noise)
        terms = loss_terms(final, aux, batch.labels) | {"entropy": self.entropy()}
        loss = sum(term for name, term in terms.items() if name != "entropy") + entropy_weight * terms["entropy"]
        found = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(self.weights, found, strict=True) if g is not None and name in learning}
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        clip = min(1.0, config.search.clip_norm / (norm + 1e-6))
        with torch.no_grad():
            for name, gradient in gradients.items():
                moved = self.by_adam if name == "distillation.arch" else self.by_sgd
                self.weights[name] = self.weights[name] + moved(config, name, gradient * clip, t)
        return {name: float(term.detach()) for name, term in terms.items()}

    def by_sgd(self, config: Config, name: str, gradient: Tensor, t: int) -> Tensor:
        rate = config.optim.lr * (1 - t / config.engine.iterations) ** config.optim.power
        rate *= 1 if name.startswith("backbone") else config.optim.head_lr_factor
        gradient = gradient + config.optim.weight_decay * self.weights[name]
        before = self.momentum.get(name)
        self.momentum[name] = gradient if before is None else config.optim.momentum * before + gradient
        return -rate * self.momentum[name]

    def by_adam(self, config: Config, name: str, gradient: Tensor, t: int) -> Tensor:
        first, second = self.adam
        self.adam = [0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()]
        first, second = self.adam[0] / (1 - 0.9 ** (t + 1)), self.adam[1] / (1 - 0.999 ** (t + 1))
        return -config.search.arch_lr * first / (second.sqrt() + 1e-8)


def windowed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention to 3 x 3 neighbours, those outside with zero key and value."""
    height, width = q.shape[-2:]
    k, v = F.pad(k, (1, 1, 1, 1)), F.pad(v, (1, 1, 1, 1))
    total, weighted = 0.0, 0.0
    for dy in range(3):
        for dx in range(3):
            window = (..., slice(dy, dy + height), slice(dx, dx + width))
            weight = ((q * k[window]).sum(1, keepdim=True) / math.sqrt(ATTENTION)).exp()
            total, weighted = total + weight, weighted + weight * v[window]
    return weighted / total


def loss_terms(final: dict[str, Tensor], aux: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of classes, mean absolute error of depth, cross-entropy of its 40 logarithmic bins."""

    def resized(x: Tensor) -> Tensor:
        return F.interpolate(x, labels["semseg"].shape[-2:], mode="bilinear", align_corners=False)

    depth = labels["depth"]
    bins = (40 * (depth / 0.7).log() / math.log(10 / 0.7)).floor().clamp(0, 39).where(depth > 0, 255).long()[:, 0]
    error = (resized(final["depth"]) - depth).abs()[depth > 0].mean()
    return {
        "semseg": F.cross_entropy(resized(final["semseg"]), labels["semseg"], ignore_index=255),
        "semseg_aux": F.cross_entropy(resized(aux["semseg"]), labels["semseg"], ignore_index=255),
        "depth": error,
        "depth_aux": F.cross_entropy(resized(aux["depth"]), bins, ignore_index=255),
    }


HALF = [CONTEXTS.index("global"), -1, -1, CONTEXTS.index("none")]
"""A block that was frozen on a context, and one on none."""


def settled(config: Config, frozen: list[int]) -> tuple[Setting, PlainSearch]:
    """The search network with frozen blocks, and the same in plain code."""
    setting = Setting(config, hold_bn=False)
    search = setting.network.distillation
    with torch.no_grad():
        search.arch.copy_(0.1 * torch.randn(4, 5, generator=torch.Generator().manual_seed(3)))
        search.arch[1, CONTEXTS.index("slabel")] = 1.5
        search.frozen.copy_(torch.tensor(frozen))
    statistics = {k: v.clone() for k, v in setting.network.state_dict().items() if "running" in k}
    return setting, PlainSearch(setting.weights(), statistics, list(frozen), list(frozen))


def compare(setting: Setting, plain: PlainSearch) -> None:
    """Weights and statistics."""
    state = setting.network.state_dict()
    for name, value in {**plain.weights, **plain.statistics}.items():
        torch.testing.assert_close(state[name], value.detach(), rtol=1e-10, atol=1e-10, msg=name)


def tuned(config: Config, **search: Any) -> Config:
    search = {"arch_lr": 0.05, **search}
    optim = replace(config.optim, head_lr_factor=10.0)
    return replace(config, search=replace(config.search, **search), optim=optim)


@pytest.mark.parametrize("clip_norm", [0.5, 1e3])
def test_two_steps_are_those_of_plain_code(tmp_path: Path, clip_norm: float) -> None:
    """One block freezes in the first step, and one stays open."""
    config = tuned(tiny.config(tmp_path, iterations=4), clip_norm=clip_norm)
    setting, plain = settled(config, HALF)
    for t, temperature, entropy_weight in ((0, 1.0, -0.02), (1, 0.7625, 0.0)):
        expected, found = plain.step(config, setting.batch, t), setting.step()
        assert {name: float(term) for name, term in found.terms.items()} == pytest.approx(expected, rel=1e-10)
        assert found.schedule["temperature"] == pytest.approx(temperature)
        assert found.schedule["entropy_weight"] == pytest.approx(entropy_weight)
        assert setting.network.distillation.frozen.tolist() == plain.frozen == [1, 4, -1, 0]
    compare(setting, plain)
    untouched = "distillation.blocks.semseg.semseg.local.query.0.weight"
    assert untouched not in plain.momentum and "distillation.blocks.semseg.depth.local.query.0.weight" in plain.momentum


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
@pytest.mark.parametrize("strategy", ["darts", "gumbel"])
def test_two_bilevel_steps_are_those_of_plain_code(tmp_path: Path, strategy: str, clip_norm: float) -> None:
    """Each is a step of the logits by other images and then one of the weights; the bound holds for each alone."""
    config = tuned(tiny.config(tmp_path, kind="bilevel", strategy=strategy, iterations=4), clip_norm=clip_norm)
    if strategy == "darts":  # it freezes nothing
        config = replace(config, search=replace(config.search, freeze_gap=1.0))
    setting, plain = settled(config, HALF if strategy == "gumbel" else [-1] * 4)
    for t in range(STEPS):
        expected, found = plain.step(config, setting.batch, t, setting.held_out), setting.step()
        if strategy == "darts":
            del expected["entropy"]
        assert {name: float(term) for name, term in found.terms.items()} == pytest.approx(expected, rel=1e-10)
    compare(setting, plain)
