import pytest
import torch

from atrc_exp.genotype import Genotype, uniform
from atrc_exp.models import ATRC
from atrc_exp.models.distillation.atrc import Fusion

TASKS = ("a", "b")
C = 6


def inputs(batch: int = 2, height: int = 5, width: int = 7):
    features = {task: torch.randn(batch, C, height, width) for task in TASKS}
    return features, {task: torch.randn(batch, 3, height, width) for task in TASKS}


def mixed_genotype() -> Genotype:
    return Genotype(TASKS, {"a": {"a": "local", "b": "slabel"}, "b": {"a": "none", "b": "none"}})


def test_label_tasks_and_modules_follow_the_genotype():
    module = ATRC(mixed_genotype(), C, kernel_size=3)
    assert module.label_tasks == ("b",)
    names = set(module.state_dict())
    assert "blocks.a.b.slabel.query.0.weight" in names and "blocks.a.a.local.value.1.running_mean" in names
    assert not any(name.startswith("blocks.b") for name in names)
    assert module.fusions["a"].context[0].weight.shape == (C, 2 * (C // 2), 1, 1)
    assert module.fusions["b"].context is None
    assert module.fusions["b"].refine[0].weight.shape == (C, C, 1, 1)


def test_training_starts_without_contexts():
    """The context branch is exactly zero at first, so the sources cannot matter."""
    module = ATRC(uniform(TASKS, "global"), C).eval()
    features, logits = inputs()
    before = module(features, logits)
    after = module({**features, "b": torch.randn_like(features["b"])}, logits)
    torch.testing.assert_close(before["a"], after["a"], rtol=0, atol=0)
    assert not torch.equal(before["b"], after["b"])
    norm = module.fusions["a"].context[1]
    assert not norm.weight.any() and not norm.bias.any()


def test_refined_features_by_hand():
    module = ATRC(mixed_genotype(), C, kernel_size=3, border="mask").eval()
    torch.nn.init.uniform_(module.fusions["a"].context[1].weight)
    features, logits = inputs()
    refined = module(features, logits)
    density = logits["b"].flatten(2).softmax(2).view_as(logits["b"])
    contexts = torch.cat(
        (
            module.blocks["a"]["a"]["local"](features["a"], features["a"]),
            module.blocks["a"]["b"]["slabel"](features["a"], features["b"], density),
        ),
        1,
    )
    fusion = module.fusions["a"]
    expected = fusion.refine(torch.cat((features["a"], fusion.context(contexts)), 1))
    torch.testing.assert_close(refined["a"], expected)
    torch.testing.assert_close(refined["b"], module.fusions["b"].refine(features["b"]))


@pytest.mark.parametrize(("context", "regions"), [("tlabel", "a"), ("slabel", "b")])
def test_label_regions_are_those_of_target_or_source(context, regions):
    genotype = uniform(TASKS, "none").changed({"a": {"b": context}})
    module = ATRC(genotype, C).eval()
    torch.nn.init.ones_(module.fusions["a"].context[1].weight)
    features, logits = inputs()
    before = module(features, logits)["a"]
    for task in TASKS:
        after = module(features, {**logits, task: torch.randn_like(logits[task]) * 5})["a"]
        assert torch.equal(before, after) == (task != regions)


def test_dropout_drops_whole_channels():
    fusion = Fusion(64, 0, dropout=0.5)
    out = fusion(torch.rand(4, 64, 6, 6), [])
    dropped = (out == 0).all((2, 3))
    without = fusion.refine(torch.rand(4, 64, 6, 6))
    assert 0.3 < dropped.float().mean() < 0.7
    assert not (without == 0).all((2, 3)).any()


@pytest.mark.parametrize("context", ["global", "tlabel", "slabel", "axial"])
def test_mask_padding_makes_padding_invisible(context):
    """With the mask, what padded source pixels contain changes nothing at the unpadded pixels; without, it does."""
    genotype = uniform(TASKS, "none").changed({"a": {"b": context}})
    features, logits = inputs()
    valid = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    valid[..., 4:, :] = valid[..., 5:] = False
    noise = {task: torch.where(valid, x, torch.randn_like(x)) for task, x in features.items()}
    noisy_logits = {task: torch.where(valid, x, 9 * torch.randn_like(x)) for task, x in logits.items()}
    for masked in (True, False):
        torch.manual_seed(0)
        module = ATRC(genotype, C, mask_padding=masked).eval()
        torch.nn.init.ones_(module.fusions["a"].context[1].weight)
        clean, dirty = module(features, logits, valid)["a"], module(noise, noisy_logits, valid)["a"]
        same = torch.allclose(clean[..., :4, :5], dirty[..., :4, :5], atol=1e-6)
        assert same == masked
