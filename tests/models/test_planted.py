"""The search finds what was planted: targets that one context alone explains, on features, without a backbone.

Two tasks: `target`, which is predicted, and `source`, which holds what explains it. The one open block is
target <- source. Source features are one signal x per pixel, with either sign by channel, plus a little noise; label
maps are small random regions of either task. Every context can see x, and they differ in where they take its mean:

- global: the target is the image-wide mean of x; a window sees a sixth of the image, the regions a twelfth.
- local: the mean of x in the window around the pixel.
- tlabel, slabel: the mean of x in the regions of the target or of the source.
- none: the target follows from its own features, which the frozen global block target <- target collects; the source
  carries an unrelated signal, the same for all contexts.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.genotype import CONTEXTS
from atrc_exp.models import SearchATRC
from atrc_exp.models.search import ArchSample, gumbel_noise

BATCH, CHANNELS, SIDE, WINDOW = 16, 8, 12, 5
REGIONS, REGION_PIXELS = 4, 3
STEPS, LEARNING_RATE, ARCH_LEARNING_RATE = 120, 0.05, 0.03


def spread(x: Tensor, generator: torch.Generator) -> Tensor:
    """Signal (B, 1, h, w) to features (B, C, h, w)."""
    signs = torch.tensor([1.0, -1.0]).repeat(CHANNELS // 2).view(1, -1, 1, 1)
    return x * signs + 0.1 * torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=generator)


def random_regions(generator: torch.Generator) -> Tensor:
    """Disjoint sets of random pixels, one-hot (B, R, h, w); most pixels belong to none."""
    order = torch.rand(BATCH, SIDE * SIDE, generator=generator).argsort(1)
    chosen = order[:, : REGIONS * REGION_PIXELS].view(BATCH, REGIONS, REGION_PIXELS)
    regions = torch.zeros(BATCH, REGIONS, SIDE * SIDE).scatter_(2, chosen, 1.0)
    return regions.view(BATCH, REGIONS, SIDE, SIDE)


def problem(planted: str, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Features and label logits by task, and the target (B, 1, h, w) of about unit variance."""
    shape = (BATCH, 1, SIDE, SIDE)
    x, own = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    regions = {task: random_regions(generator) for task in ("target", "source")}
    if planted == "global":
        y = x.mean((2, 3), keepdim=True).expand(shape) * SIDE
    elif planted == "local":
        y = F.avg_pool2d(x, WINDOW, stride=1, padding=WINDOW // 2) * WINDOW
    elif planted in ("tlabel", "slabel"):
        inside = regions["target" if planted == "tlabel" else "source"].sum(1, keepdim=True)
        y = (x * inside).sum((2, 3), keepdim=True).expand(shape) / (REGIONS * REGION_PIXELS) ** 0.5
    else:
        level, unrelated = torch.randn(2, BATCH, 1, 1, 1, generator=generator)
        x, own, y = 0.5 * x + unrelated, 0.5 * own + level, level.expand(shape)
    features = {"target": spread(own, generator), "source": spread(x, generator)}
    return features, {task: 20 * mask for task, mask in regions.items()}, y


def search(planted: str, seed: int) -> str:
    """Run the search of Sec. 3.3 on fresh problems and return the type of the open block."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    network = SearchATRC(("target", "source"), CHANNELS, kernel_size=WINDOW)
    own_block = CONTEXTS.index("global" if planted == "none" else "none")
    network.frozen.copy_(torch.tensor([own_block, -1, 0, 0]))  # the second pair is target <- source
    predict = nn.Conv2d(CHANNELS, 1, 1)
    weights = [p for p in (*network.parameters(), *predict.parameters()) if p is not network.arch]
    sgd = torch.optim.SGD(weights, LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    adam = torch.optim.Adam([network.arch], ARCH_LEARNING_RATE)
    for step in range(STEPS):
        if network.freeze_converged(0.3).any():
            break
        share = step / (STEPS - 1)
        features, logits, y = problem(planted, generator)
        sample = ArchSample(1 - 0.95 * share, gumbel_noise(len(network.pairs), seed, step))
        error = (predict(network(features, logits, sample)["target"]) - y).square().mean()
        loss = error + (-0.02 + 0.08 * share) * network.entropy()
        sgd.zero_grad()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*weights, network.arch], 10)
        sgd.step()
        adam.step()
    return network.genotype().blocks["target"]["source"]


@pytest.mark.parametrize("planted", CONTEXTS)
def test_search_finds_the_planted_context(planted):
    assert search(planted, seed=0) == planted


@pytest.mark.exhaustive
@pytest.mark.parametrize("planted", CONTEXTS)
def test_search_finds_the_planted_context_in_four_of_five_runs(planted):
    found = [search(planted, seed) for seed in range(5)]
    assert found.count(planted) >= 4, found
