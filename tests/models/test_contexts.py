"""The paper's contexts against loops over pixels in float64, and their behaviour in 16 bit."""

import math

import numpy as np
import pytest
import torch
from context_oracle import C, D, H, W, as_map, dot, mix, pixels, project, random_norms, relu, softmax, softplus
from torch import nn

from atrc_exp.genotype.contexts import CONTEXT_TYPES
from atrc_exp.models.contexts import GlobalContext, LabelContext, LocalContext, build_context
from atrc_exp.models.contexts.axial import AxialContext
from atrc_exp.models.contexts.regions import region_densities, spatial_softmax

PUBLISHED_SIZE = (107, 140)
MODULES = [name for name, each in CONTEXT_TYPES.items() if each.module]


@pytest.fixture
def maps():
    return torch.randn(2, C, H, W, dtype=torch.float64), torch.randn(2, C, H, W, dtype=torch.float64)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_global_context_is_normalised_attention_to_all_pixels(maps, masked, affine):
    target, source = maps
    context = random_norms(GlobalContext(C, D, affine_value_norm=affine))
    mask = torch.rand(2, 1, H, W) > 0.4 if masked else None
    result = context(target, source, mask)
    for b in range(2):
        keep = mask[b].flatten().tolist() if masked else [True] * (H * W)
        q = [project(context.query, p, softplus) for p in pixels(target[b])]
        k = [project(context.key, p, softplus) for p in pixels(source[b])]
        v = [project(context.value, p, relu) for p in pixels(source[b])]
        rows = []
        for qi in q:
            similarity = [dot(qi, kj) if inside else 0.0 for kj, inside in zip(k, keep, strict=True)]
            rows.append(mix([s / sum(similarity) for s in similarity], v))
        torch.testing.assert_close(result[b], as_map(rows), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("border", ["zero", "mask"])
def test_local_context_is_softmax_over_the_window(maps, border):
    target, source = maps
    context = random_norms(LocalContext(C, D, kernel_size=3, border=border))
    result = context(target, source)
    for b in range(2):
        q = [project(context.query, p, relu) for p in pixels(target[b])]
        k = [project(context.key, p, relu) for p in pixels(source[b])]
        v = [project(context.value, p, relu) for p in pixels(source[b])]
        rows = []
        for i in range(H):
            for j in range(W):
                scores, values = [], []
                for y in range(i - 1, i + 2):
                    for x in range(j - 1, j + 2):
                        if 0 <= y < H and 0 <= x < W:
                            scores.append(dot(q[i * W + j], k[y * W + x]) / math.sqrt(D))
                            values.append(v[y * W + x])
                        elif border == "zero":
                            scores.append(0.0)
                            values.append([0.0] * D)
                rows.append(mix(softmax(scores), values))
        torch.testing.assert_close(result[b], as_map(rows), rtol=1e-10, atol=1e-12)


def test_label_context_is_softmax_over_region_means(maps):
    target, source = maps
    logits = 3 * torch.randn(2, 4, H, W, dtype=torch.float64)
    context = random_norms(LabelContext(C, D))
    result = context(target, source, spatial_softmax(logits))
    for b in range(2):
        densities = [softmax(logits[b, r].flatten().tolist()) for r in range(4)]
        means = [[dot(density, source[b, c].flatten().tolist()) for c in range(C)] for density in densities]  # (R, C)
        k = [project(context.key, p, relu) for p in means]
        v = [project(context.value, p, relu) for p in means]
        rows = []
        for pixel in pixels(target[b]):
            q = project(context.query, pixel, relu)
            rows.append(mix(softmax([dot(q, kr) / math.sqrt(D) for kr in k]), v))
        torch.testing.assert_close(result[b], as_map(rows), rtol=1e-10, atol=1e-12)


def test_spatial_softmax_leaves_padding_out():
    logits, valid = torch.randn(3, 4, H, W), torch.rand(3, 1, H, W) > 0.5
    valid[1], valid[2] = True, False
    density = spatial_softmax(logits, valid)
    torch.testing.assert_close(density.sum((2, 3)), torch.ones(3, 4))
    assert not density[0][~valid[0].expand(4, H, W)].any()
    inside = logits[0, 1][valid[0, 0]]
    torch.testing.assert_close(density[0, 1][valid[0, 0]], inside.exp() / inside.exp().sum())
    torch.testing.assert_close(density[2], torch.full((4, H, W), 1 / (H * W)))  # nothing valid: even, not NaN


def test_global_context_with_vanishing_similarity_is_finite():
    context = GlobalContext(C, D).eval()
    for layers in (context.query, context.key):
        nn.init.constant_(layers[4].bias, -60.0)  # softplus gives about 1e-26, whose products underflow
    source = torch.randn(1, C, H, W, requires_grad=True)
    out = context(source, source)
    out.sum().backward()
    assert out.isfinite().all() and source.grad.isfinite().all()


def test_value_norm_is_affine_outside_the_search_only():
    for name in MODULES:
        assert build_context(name, C, D).value[1].affine
        context = build_context(name, C, D, affine_value_norm=False)
        assert not context.value[1].affine
        assert all(layers[i].affine for layers in (context.query, context.key) for i in (1, 4))


def test_projections_start_xavier_uniform():
    context = GlobalContext(200, 100)
    for conv in (context.query[0], context.key[0], context.value[0]):
        bound = math.sqrt(6 / 300)
        assert conv.weight.abs().max() <= bound
        assert float(conv.weight.detach().var()) == pytest.approx(bound**2 / 3, rel=0.05)
        assert conv.bias is None


@pytest.mark.parametrize("name", ["global", "local", "label", "axial"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_at_the_published_size(name, dtype):
    channels = 67
    types = {"global": GlobalContext, "local": LocalContext, "label": LabelContext, "axial": AxialContext}
    context = types[name](channels, channels // 2)
    target = (2 * torch.randn(1, channels, *PUBLISHED_SIZE)).relu()
    source = (2 * torch.randn(1, channels, *PUBLISHED_SIZE)).relu().requires_grad_()
    logits = 5 * torch.randn(1, 40, *PUBLISHED_SIZE)

    def run() -> torch.Tensor:
        if name == "label":
            return context(target, source, spatial_softmax(logits.to(dtype)))
        return context(target, source)

    expected = run().detach()
    with torch.autocast("cpu", dtype=dtype):
        result = run()
    result.float().square().mean().backward()
    assert result.isfinite().all()
    assert source.grad.isfinite().all() and source.grad.any()
    assert all(p.grad.isfinite().all() for p in context.parameters())
    if dtype == torch.float16:
        assert (result - expected).abs().max() <= 1e-2 * expected.abs().max()


def test_global_denominator_exceeds_the_range_of_fp16():
    """What the mixed-precision test guards against does happen at that size."""
    context = GlobalContext(67, 33)
    target = (2 * torch.randn(1, 67, *PUBLISHED_SIZE)).relu()
    q, k = context.query(target).flatten(2), context.key(target).flatten(2)
    assert (k.sum(2).unsqueeze(1) @ q).max() > torch.finfo(torch.float16).max


@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_a_single_image_are_those_of_a_batch_of_its_copies(name):
    # PyTorch's CPU batch norm returns wrong gradients for one image whose incoming gradient is transposed.
    torch.manual_seed(0)
    target, source, logits = torch.randn(1, 6, 5, 7), torch.randn(1, 6, 5, 7), torch.randn(1, 4, 5, 7)
    stem = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU()).double()
    context = build_context(name, 6, 3, kernel_size=3).double()
    weight = torch.randn(1, 3, 5, 7, dtype=torch.float64)

    def gradients(copies: int) -> list[torch.Tensor]:
        repeated = [x.double().repeat(copies, 1, 1, 1) for x in (target, source, logits)]
        features = [stem(x) for x in repeated[:2]]
        regions = [spatial_softmax(repeated[2])] if CONTEXT_TYPES[name].regions else []
        total = (context(*features, *regions) * weight).sum() / copies
        return list(torch.autograd.grad(total, [*context.parameters(), *stem.parameters()], allow_unused=True))

    for one, many in zip(gradients(1), gradients(2), strict=True):
        torch.testing.assert_close(one, many, rtol=1e-9, atol=1e-12)


def test_region_densities_are_even_over_the_pixels_nearest_to_each_position():
    labels = torch.randint(0, 5, (2, 9, 11), generator=torch.Generator().manual_seed(0))
    labels[labels == 4] = 255
    labels[1] = 255
    labels[1, 0, 0] = 2
    densities = region_densities(labels, 6, (3, 4))
    assert densities.shape == (2, 6, 3, 4)
    for b, r in np.ndindex(2, 6):
        members = [[int(labels[b, i * 9 // 3, j * 11 // 4] == r) for j in range(4)] for i in range(3)]
        count = sum(map(sum, members))
        expected = [[m / max(count, 1) for m in row] for row in members]
        torch.testing.assert_close(densities[b, r], torch.tensor(expected))
    assert densities[1, 2, 0, 0] == 1 and densities[1].sum() == 1 and not densities[0, 4:].any()


def present_in(densities: torch.Tensor) -> torch.Tensor:
    return (densities > 0).flatten(2).any(2)[:, :, None, None]


def test_label_context_leaves_empty_regions_out_of_the_softmax(maps):
    target, source = maps
    labels = torch.randint(0, 3, (2, H, W)) * 2  # regions 0, 2 and 4 of six
    labels[1] = 255
    densities = region_densities(labels, 6, (H, W))
    context = random_norms(LabelContext(C, D))
    result = context(target, source, densities, present_in(densities))
    means = [[float(source[0, c][labels[0] == r].mean()) for c in range(C)] for r in (0, 2, 4)]
    k = [project(context.key, p, relu) for p in means]
    v = [project(context.value, p, relu) for p in means]
    rows = []
    for pixel in pixels(target[0]):
        q = project(context.query, pixel, relu)
        rows.append(mix(softmax([dot(q, kr) / math.sqrt(D) for kr in k]), v))
    torch.testing.assert_close(result[0], as_map(rows), rtol=1e-6, atol=1e-8)  # densities are in single precision
    assert not result[1].any()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_label_context_with_empty_regions_has_finite_gradients(dtype):
    labels = torch.full((3, H, W), 255)
    labels[0, :2], labels[0, 2:], labels[1, 0, 0] = 0, 3, 1
    densities = region_densities(labels, 5, (H, W))
    context = LabelContext(C, D)
    features = (10 * torch.randn(3, C, H, W)).requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        result = context(features, features, densities, present_in(densities))
    assert not result[2].any() and result[0].any()
    result.float().square().sum().backward()
    assert features.grad.isfinite().all() and features.grad.any()
    assert all(p.grad.isfinite().all() for p in context.parameters())
