"""Every module against its formula, written with loops over tasks and pixels in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.models.distillation.cross_stitch import CrossStitch
from atrc_exp.models.distillation.nddr import NDDR
from atrc_exp.models.distillation.padnet_b import PADNetB
from atrc_exp.models.distillation.padnet_c import PADNetC
from atrc_exp.models.distillation.pap import PAP, STEPS, AffinityDiffusion
from atrc_exp.models.distillation.psd import PSD, StructureDiffusion

TASKS = ("a", "b", "c")
C, H, W = 4, 7, 6


def features(tasks: tuple[str, ...] = TASKS, batch: int = 2) -> dict[str, Tensor]:
    return {task: torch.randn(batch, C, H, W, dtype=torch.float64) for task in tasks}


def prepared(module: nn.Module) -> nn.Module:
    """Evaluation mode, float64, nothing left at a value that hides a mistake."""
    module = module.double().eval()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.bias, child.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(child.running_var, 0.5, 2.0)
    return module


def conv(x: Tensor, weight: Tensor) -> Tensor:
    """Zero-padded correlation of (c, h, w) with (o, c, k, k), pixel by pixel."""
    radius = weight.shape[-1] // 2
    height, width = x.shape[-2:]
    out = x.new_zeros(weight.shape[0], height, width)
    for y in range(height):
        for z in range(width):
            for dy in range(-radius, radius + 1):
                for dz in range(-radius, radius + 1):
                    if 0 <= y + dy < height and 0 <= z + dz < width:
                        out[:, y, z] += weight[:, :, radius + dy, radius + dz] @ x[:, y + dy, z + dz]
    return out


def norm(x: Tensor, layer: nn.BatchNorm2d, channels: slice = slice(None)) -> Tensor:
    scale = layer.weight[channels] / (layer.running_var[channels] + layer.eps).sqrt()
    return (x - layer.running_mean[channels][:, None, None]) * scale[:, None, None] + layer.bias[channels][
        :, None, None
    ]


def conv_bn_relu(x: Tensor, layers: nn.Sequential) -> Tensor:
    return norm(conv(x, layers[0].weight), layers[1]).clamp(min=0)


def check(module: nn.Module, maps: dict[str, Tensor], expected: dict[str, list[Tensor]]) -> None:
    with torch.no_grad():
        refined = module(maps, {})
    assert list(refined) == list(maps)
    for task in maps:
        torch.testing.assert_close(refined[task], torch.stack(expected[task]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("weights", ["channel", "scalar"])
def test_cross_stitch(weights):
    module = prepared(CrossStitch(TASKS, C, weights=weights))
    own = module.stitch.flatten(2)
    assert own.shape == (3, 3, C if weights == "channel" else 1)
    torch.testing.assert_close(own.sum(1), torch.ones_like(own[0]))  # convex at the start
    assert torch.equal(own[0, 0], torch.full_like(own[0, 0], 0.9, dtype=torch.float32).double())
    nn.init.normal_(module.stitch)
    maps = features()
    expected = {}
    for t, target in enumerate(TASKS):
        out = torch.zeros_like(maps[target])
        for s, source in enumerate(TASKS):
            for c in range(C):
                out[:, c] += module.stitch.detach()[t, s, c if weights == "channel" else 0] * maps[source][:, c]
        expected[target] = list(out)
    check(module, maps, expected)


def test_nddr():
    module = NDDR(TASKS, C)
    for t, target in enumerate(TASKS):
        start = module.layers[target][0].weight[..., 0, 0]
        for s in range(3):
            torch.testing.assert_close(start[:, s * C : (s + 1) * C], torch.eye(C) * (0.9 if s == t else 0.05))
    module = prepared(module)
    for layer in module.layers.values():
        nn.init.normal_(layer[0].weight)
    maps = features()
    together = [torch.cat([maps[task][b] for task in TASKS]) for b in range(2)]
    check(module, maps, {t: [conv_bn_relu(x, module.layers[t]) for x in together] for t in TASKS})


@pytest.mark.parametrize("plain", [False, True])
def test_padnet_b(plain):
    module = prepared(PADNetB(TASKS, C, plain=plain, dropout=0.5))
    maps = features()
    expected = {}
    for target in TASKS:
        sums = [x.clone() for x in maps[target]]
        for source in TASKS:
            if source == target:
                continue
            layers = module.messages[source]
            place = [task for task in TASKS if task != source].index(target)
            channels = slice(place * C, (place + 1) * C)
            for b in range(2):
                message = conv(maps[source][b], layers[0].weight[channels])
                sums[b] += message if plain else norm(message, layers[1], channels).clamp(min=0)
        expected[target] = [conv_bn_relu(x, module.tails[target]) for x in sums]
    check(module, maps, expected)


def test_padnet_c():
    module = prepared(PADNetC(TASKS, C, dropout=0.5))
    maps = features()
    expected = {}
    for target in TASKS:
        sums = [x.clone() for x in maps[target]]
        for source in TASKS:
            if source == target:
                continue
            weight = module.messages.convs[source].weight
            place = [task for task in TASKS if task != source].index(target)
            gate, value = weight[place * C : (place + 1) * C], weight[(2 + place) * C : (3 + place) * C]
            for b in range(2):
                sums[b] += 1 / (1 + (-conv(maps[source][b], gate)).exp()) * conv(maps[source][b], value)
        expected[target] = [conv_bn_relu(x, module.tails[target]) for x in sums]
    check(module, maps, expected)


def affinity(embedding: Tensor) -> Tensor:
    """M (n, n) of one task: cosines of the columns of (c, n), divided by their row sums."""
    n = embedding.shape[1]
    cosines = embedding.new_zeros(n, n)
    for i in range(n):
        for j in range(n):
            lengths = embedding[:, i].norm() * embedding[:, j].norm()
            cosines[i, j] = embedding[:, i] @ embedding[:, j] / lengths
    return cosines / (cosines.sum(1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("restart", [False, True])
def test_pap_in_the_dense_form(restart):
    module = prepared(PAP(TASKS, C, restart=restart, dropout=0.5))
    nn.init.normal_(module.diffusion.mixing)
    nn.init.uniform_(module.beta, 0.2, 0.8)
    for layer in module.embeddings.values():
        nn.init.constant_(layer[1].bias, 4.0)  # no pixel without an embedding
    maps = features()
    half = (H // 2, W // 2)
    expected: dict[str, list[Tensor]] = {task: [] for task in TASKS}
    with torch.no_grad():
        for b in range(2):
            small = {}
            for task in TASKS:
                embedding = conv_bn_relu(maps[task][b], module.embeddings[task])
                small[task] = F.interpolate(embedding[None], half, mode="bilinear", align_corners=False)[0]
            affinities = torch.stack([affinity(small[task].flatten(1)) for task in TASKS])
            for t, task in enumerate(TASKS):
                weights = module.diffusion.mixing[t].exp() / module.diffusion.mixing[t].exp().sum()
                mixed = sum(w * m for w, m in zip(weights, affinities, strict=True))
                start = F.interpolate(maps[task][b][None], half, mode="bilinear", align_corners=False)[0].flatten(1).t()
                x, beta = start, module.beta[t]
                for step in range(9):
                    x = mixed @ x
                    if restart and step < 8:
                        x = beta * x + (1 - beta) * start
                up = F.interpolate(x.t().reshape(1, C, *half), (H, W), mode="bilinear", align_corners=False)[0]
                blended = beta * up + (1 - beta) * maps[task][b]
                expected[task].append(conv_bn_relu(blended, module.tails[task]))
    check(module, maps, expected)


def test_affinity_diffusion_keeps_constants_and_never_makes_the_affinity():
    """Row-stochastic: a constant stays; the largest tensor has fewer elements than the n x n matrix."""
    module = AffinityDiffusion(2).double()
    embeddings = torch.rand(1, 2, 3, 400, dtype=torch.float64) + 0.1
    largest = 0

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Sizes():
        out = module(embeddings, torch.full((1, 2, 5, 400), 2.5, dtype=torch.float64))
    torch.testing.assert_close(out, torch.full_like(out, 2.5), rtol=1e-5, atol=0)
    assert 0 < largest < 400**2 / 4


def test_dense_count_of_affinity_diffusion():
    maps = torch.empty(2, 3, 5, 10), torch.empty(2, 3, 8, 10)
    per_entry = 5 + STEPS * 8
    assert AffinityDiffusion.published_multiply_adds(*maps) == 2 * 3 * 10 * 10 * per_entry


def structures(embedding: Tensor, border: str) -> Tensor:
    """A (h, w, 5, 5) of one task and image: softmax over the 5x5 window."""
    c, height, width = embedding.shape
    out = embedding.new_zeros(height, width, 5, 5)
    for y in range(height):
        for x in range(width):
            scores = {}
            for dy in range(5):
                for dx in range(5):
                    v, u = y + dy - 2, x + dx - 2
                    if 0 <= v < height and 0 <= u < width:
                        scores[dy, dx] = float(embedding[:, y, x] @ embedding[:, v, u]) / math.sqrt(c)
                    elif border == "zero":
                        scores[dy, dx] = 0.0
            total = sum(math.exp(s) for s in scores.values())
            for place, s in scores.items():
                out[(y, x, *place)] = math.exp(s) / total
    return out


def aggregate(weights: Tensor, x: Tensor) -> Tensor:
    """Sum over the window of weights (h, w, 5, 5) times x (c, h, w)."""
    height, width = x.shape[-2:]
    out = torch.zeros_like(x)
    for y in range(height):
        for z in range(width):
            for dy in range(5):
                for dx in range(5):
                    v, u = y + dy - 2, z + dx - 2
                    if 0 <= v < height and 0 <= u < width:
                        out[:, y, z] += weights[y, z, dy, dx] * x[:, v, u]
    return out


@pytest.mark.parametrize("border", ["zero", "mask"])
def test_psd(border):
    module = prepared(PSD(TASKS, C, border=border, dropout=0.5))
    maps = features()
    expected: dict[str, list[Tensor]] = {task: [] for task in TASKS}
    with torch.no_grad():
        for b in range(2):
            own = {t: structures(conv_bn_relu(maps[t][b], module.embeddings[t]), border) for t in TASKS}
            for target in TASKS:
                intra = maps[target][b]
                for _ in range(3):
                    intra = aggregate(own[target], intra)
                inter = torch.zeros_like(intra)
                for source in TASKS:
                    if source != target:
                        first, second = own[target].flatten(2), own[source].flatten(2)
                        cosine = (first * second).sum(2) / (first.norm(dim=2) * second.norm(dim=2))
                        inter += cosine * aggregate(own[source], intra) / 2
                added = conv_bn_relu(intra + inter, module.combine[target])
                expected[target].append(conv_bn_relu(maps[target][b] + added, module.tails[target]))
    check(module, maps, expected)


def test_count_of_structure_diffusion():
    """Per pixel and task: similarities, three passes within and three between tasks, matching degrees."""
    maps = torch.empty(4, 1, 33, 6, 5), torch.empty(4, 1, 67, 6, 5)
    per_pixel = 25 * 33 + (3 + 3) * 25 * 67 + 6 * 25
    assert per_pixel == 11_025
    assert StructureDiffusion.published_multiply_adds(*maps) == 4 * 30 * per_pixel
