"""Blocks that share their work against blocks that run by themselves: outputs, gradients, running statistics."""

import itertools

import pytest
import torch
from block_oracle import training_step, with_shared_work
from torch import nn

from atrc_exp.genotype import CONTEXT_TYPES, PUBLISHED_GENOTYPES, Genotype, uniform
from atrc_exp.genotype.contexts import on_block
from atrc_exp.models import ATRC, SearchATRC
from atrc_exp.models.search import ArchSample, gumbel_noise

TASKS = ("semseg", "depth", "normals", "edge")
REGIONS = dict(zip(TASKS, (5, 4, 3, 2), strict=True))
C = 6
MIXED = [1, -1, -1, -1, 2, 3, 4, 0, -1, -1, -1, -1, 0, 0, 2, 0]
ALL_NONE = [0] * 16
TOLERANCE = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}


def inputs(batch: int, dtype: torch.dtype):
    features = {task: torch.randn(batch, C, 5, 7, dtype=dtype) for task in TASKS}
    return features, {task: 3 * torch.randn(batch, r, 5, 7, dtype=dtype) for task, r in REGIONS.items()}


def prepared(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Every batch norm gets weights and statistics of its own: contexts count, and none can be mistaken for another."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.5)
    return module.to(dtype)


def search(frozen: list[int] | None, dtype: torch.dtype = torch.float64) -> SearchATRC:
    module = SearchATRC(TASKS, C, kernel_size=3)
    if frozen is not None:
        module.frozen.copy_(torch.tensor(frozen))
    return prepared(module, dtype)


def sample() -> ArchSample:
    return ArchSample(0.7, gumbel_noise(16, seed=3, step=0))


def assert_same(shared, plain, dtype: torch.dtype) -> None:
    """Compare what `training_step` gives; gradients in double precision only, since those through a norm cancel."""
    if dtype == torch.float32:
        shared, plain = ((outputs, state) for outputs, _, state in (shared, plain))
    for ours, theirs in zip(shared, plain, strict=True):
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            assert (ours[name] is None) == (expected is None), name
            if expected is not None:
                torch.testing.assert_close(ours[name], expected, **TOLERANCE[dtype], msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frozen", [None, MIXED, ALL_NONE])
def test_search_step(batch, frozen):
    module, (features, logits) = search(frozen), inputs(batch, torch.float64)
    shared, plain = (training_step(with_shared_work(module, how), features, logits, sample()) for how in (True, False))
    assert_same(shared, plain, torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("genotype", ["nyud_hrnet18", "nyud_hrnet48", *CONTEXT_TYPES])
def test_fixed_network_step(genotype, dtype):
    blocks = PUBLISHED_GENOTYPES.get(genotype) or uniform(TASKS, genotype)
    module = prepared(ATRC(blocks, C, kernel_size=3, dropout=0.0), dtype)
    features, logits = inputs(2, dtype)
    shared, plain = (training_step(with_shared_work(module, how), features, logits) for how in (True, False))
    assert_same(shared, plain, dtype)


@pytest.mark.parametrize("cut", ["mask", "labels"])
def test_padding_mask_and_regions_from_labels(cut):
    types = itertools.cycle(CONTEXT_TYPES)  # every one of them, in blocks with and without shared regions
    blocks = {t: {s: on_block(next(types), t, s) for s in TASKS} for t in TASKS}
    module = prepared(ATRC(Genotype(TASKS, blocks), C, kernel_size=3, dropout=0.0, mask_padding=cut == "mask"),
                      torch.float64)  # fmt: skip
    features, logits = inputs(2, torch.float64)
    valid = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    valid[0, :, 3:] = valid[1, ..., 4:] = False
    densities = None
    if cut == "labels":  # region 0 has no pixel anywhere
        densities = {t: x.softmax(1) * (torch.arange(x.shape[1]) > 0).view(1, -1, 1, 1) for t, x in logits.items()}
    rest = (valid, densities)
    shared, plain = (training_step(with_shared_work(module, how), features, logits, *rest) for how in (True, False))
    assert_same(shared, plain, torch.float64)


def test_evaluation_reads_the_statistics_of_each_norm_and_changes_none():
    module, (features, logits) = search(MIXED).eval(), inputs(2, torch.float64)
    shared, plain = (with_shared_work(module, how) for how in (True, False))
    with torch.no_grad():
        assert_same([shared(features, logits)], [plain(features, logits)], torch.float64)
    before = module.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())


@pytest.mark.slow
def test_norms_keep_their_class():
    """Norms are called, not imitated: one that holds its statistics in training does so for all."""

    class Held(nn.BatchNorm2d):
        def forward(self, x):
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False)

    module, (features, logits) = search(None), inputs(2, torch.float64)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.__class__ = Held
    shared, plain = (training_step(with_shared_work(module, how), features, logits, sample()) for how in (True, False))
    assert_same(shared, plain, torch.float64)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in shared[2].items())


def test_mixed_precision_stays_close_to_single():
    module, (features, logits) = search(None, torch.float32), inputs(2, torch.float32)
    expected = with_shared_work(module, True)(features, logits, sample())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refined = with_shared_work(module, True)(features, logits, sample())
    for task in TASKS:
        assert refined[task].isfinite().all()
        assert (refined[task] - expected[task]).norm() <= 0.05 * expected[task].norm()


def test_local_attention_is_called_once(monkeypatch):
    calls = []

    def counted(q, *rest):
        calls.append(q.shape)
        return original(q, *rest)

    from atrc_exp.models.contexts import local

    original = local.local_attention
    monkeypatch.setattr(local, "local_attention", counted)
    search(None, torch.float32)(*inputs(2, torch.float32), sample())
    assert calls == [(16 * 2, C // 2, 5, 7)]
