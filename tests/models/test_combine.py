"""Blocks with several contexts: their outputs combined, against a plain loop, and what the network makes of it."""

import math

import pytest
import torch

from atrc_exp.config import DistillationConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype
from atrc_exp.models import ATRC
from atrc_exp.models.distillation import build_distillation

TASKS, C, D = ("a", "b"), 6, 3
SETS = Genotype(TASKS, {"a": {"a": "local+tlabel", "b": "global+local+slabel"}, "b": {"a": "none", "b": "local"}})


def make(combine: str, genotype: Genotype = SETS, **options: object) -> ATRC:
    """A network in evaluation mode whose contexts reach the output, with weights of the combination that differ."""
    module = ATRC(genotype, C, kernel_size=3, combine=combine, **options).eval()
    for parameter in module.combination.parameters():
        torch.nn.init.normal_(parameter)
    for fusion in module.fusions.values():
        if fusion.context is not None:
            torch.nn.init.ones_(fusion.context[1].weight)
    return module


def inputs(batch: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    features = {task: torch.randn(batch, C, 5, 7) for task in TASKS}
    return features, {task: torch.randn(batch, 4, 5, 7) for task in TASKS}


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def shares(module: ATRC, source: str, features: torch.Tensor, temperature: float) -> list[float]:
    """Weights of the contexts of a block of "a", for the features (C, h, w) of one image, number by number."""
    weights = module.combination["a"][source]
    if hasattr(weights, "logits"):
        return softmax(weights.logits.tolist())
    means = [sum(channel.flatten().tolist()) / channel.numel() for channel in features]
    rows = zip(weights.linear.weight.tolist(), weights.linear.bias.tolist(), strict=True)
    return softmax([(sum(map(math.prod, zip(row, means, strict=True))) + bias) / temperature for row, bias in rows])


@pytest.mark.parametrize("combine", ["static", "gate"])
def test_outputs_are_combined_as_by_a_plain_loop(combine):
    module = make(combine, temperature=0.5)
    features, logits = inputs()
    densities = {task: x.flatten(2).softmax(2).view_as(x) for task, x in logits.items()}
    outputs = []
    for source, regions in (("a", "a"), ("b", "b")):
        contexts = module.blocks["a"][source]
        each = [
            context(features["a"], features[source], *([densities[regions]] if "label" in name else []))
            for name, context in contexts.items()
        ]
        combined = torch.zeros_like(each[0])
        for image in range(2):
            weights = shares(module, source, features["a"][image], 0.5)
            assert len(set(weights)) == len(each)
            for weight, output in zip(weights, each, strict=True):
                combined[image] += weight * output[image]
        outputs.append(combined)
    fusion = module.fusions["a"]
    assert fusion.context[0].in_channels == 2 * D
    expected = fusion.refine(torch.cat((features["a"], fusion.context(torch.cat(outputs, 1))), 1))
    torch.testing.assert_close(module(features, logits)["a"], expected)


@pytest.mark.parametrize("combine", ["static", "gate"])
def test_weights_start_as_the_mean_and_learn(combine):
    module = ATRC(SETS, C, kernel_size=3, combine=combine)
    features, logits = inputs()
    for row in module.combination.values():
        for weights in row.values():
            found = weights(features["a"], None)
            torch.testing.assert_close(found, torch.full_like(found, 1 / found.shape[1]))
    torch.nn.init.ones_(module.fusions["a"].context[1].weight)
    module(features, logits)["a"].square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.combination.parameters())


def test_single_contexts_have_neither_weights_nor_other_keys():
    single = SETS.changed({"a": {"a": "local", "b": "slabel"}})
    torch.manual_seed(1)
    one, other = (ATRC(single, C, combine=combine).state_dict() for combine in ("static", "gate"))
    assert one.keys() == other.keys() and not any(name.startswith("combination") for name in one)
    assert {name for name in make("static").state_dict() if name.startswith("combination")} == {
        "combination.a.a.logits", "combination.a.b.logits"}  # fmt: skip


def test_a_gate_that_nothing_would_read_is_refused():
    single = SETS.changed({"a": {"a": "local", "b": "slabel"}})
    with pytest.raises(UserError, match=r"distillation\.combine=gate: .*static") as error:
        build_distillation(DistillationConfig(name="atrc", combine="gate"), TASKS, C, single)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"distillation\.combine=gate: .*static .*search"):
        DistillationConfig(name="search", combine="gate")
    assert build_distillation(DistillationConfig(name="atrc", combine="gate"), TASKS, C, SETS) is not None


def test_a_small_temperature_lets_one_context_through():
    features, _ = inputs()
    found = make("gate", temperature=1e-4).combination["a"]["b"](features["a"], None)
    torch.testing.assert_close(found.amax(1), torch.ones(2))


def test_what_a_gate_reads_leaves_padding_out():
    features, _ = inputs()
    gate = make("gate").combination["a"]["b"]
    valid = torch.zeros(2, 1, 5, 7, dtype=torch.bool)
    valid[..., :3, :4] = True
    torch.testing.assert_close(gate(features["a"], valid), gate(features["a"][..., :3, :4], None))
    assert gate(features["a"], torch.zeros_like(valid)).isfinite().all()
