"""The simple feature pyramid of plain vision transformers: plain code beside it, sizes, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atrc_exp.config import BackboneConfig, NeckConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.necks import build_neck
from atrc_exp.models.necks.simple_fpn import SimpleFPN


def plain_norm(x: Tensor, weights: dict[str, Tensor], key: str) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    scale, shift = (weights[f"{key}.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias"))
    return (x - mean) / (variance + 1e-6).sqrt() * scale + shift


def plain_double(x: Tensor, weights: dict[str, Tensor], key: str) -> Tensor:
    """Every cell becomes 2x2 cells, each with a matrix of its own."""
    batch, _, height, width = x.shape
    doubled = torch.einsum("bihw,iokl->bohkwl", x, weights[f"{key}.weight"])
    return doubled.reshape(batch, -1, 2 * height, 2 * width) + weights[f"{key}.bias"].view(1, -1, 1, 1)


def plain_pyramid(x: Tensor, weights: dict[str, Tensor], channels: int) -> list[Tensor]:
    """Li et al., 2022, from the weights alone."""
    fine = plain_double(x, weights, "levels.0.0")
    fine = plain_double(F.gelu(plain_norm(fine, weights, "levels.0.1")), weights, "levels.0.3")
    height, width = (-(-side // 2) for side in x.shape[-2:])
    coarse = torch.stack([
        torch.stack([x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3)) for j in range(width)], -1)
        for i in range(height)
    ], -2)  # fmt: skip
    maps = [(0, 4, fine), (1, 1, plain_double(x, weights, "levels.1.0")), (2, 0, x), (3, 1, coarse)]
    result = []
    for level, first, y in maps:
        names = [f"levels.{level}.{first + i}" for i in range(4)]
        y = plain_norm(torch.einsum("bihw,oi->bohw", y, weights[f"{names[0]}.weight"][..., 0, 0]), weights, names[1])
        y = F.conv2d(y, weights[f"{names[2]}.weight"], padding=1)
        result.append(plain_norm(y, weights, names[3]))
    return result


def test_the_pyramid_is_that_of_plain_code_and_so_is_its_gradient():
    neck = SimpleFPN([8], [16]).double()
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    ours = neck([x], (48, 80)).pyramids
    theirs = plain_pyramid(x, dict(neck.named_parameters()), 8)
    assert [tuple(y.shape) for y in ours] == [(2, 256, 12, 20), (2, 256, 6, 10), (2, 256, 3, 5), (2, 256, 2, 3)]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    draws = [torch.randn_like(y) for y in ours]
    gradients = [
        torch.autograd.grad(sum((y * draw).sum() for y, draw in zip(maps, draws, strict=True)), x)[0]
        for maps in (ours, theirs)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("stride", "size"), [(16, (425, 560)), (14, (425, 560)), (14, (61, 43)), (16, (1, 1))])
def test_maps_end_where_the_image_does(stride, size):
    """No cell lies outside the image, and no pixel outside the cells."""
    neck = SimpleFPN([8], [stride])
    maps = neck([torch.randn(1, 8, *(-(-side // stride) for side in size))], size).pyramids
    assert neck.strides == [stride / 4, stride / 2, stride, 2 * stride] and neck.channels == [256] * 4
    for step, x in zip(neck.strides, maps, strict=True):
        for side, cells in zip(size, x.shape[-2:], strict=True):
            assert (cells - 1) * step < side <= cells * step


def test_maps_of_the_tasks_own_go_through_the_same_layers():
    neck = SimpleFPN([8], [16])
    own = {task: [torch.randn(1, 8, 2, 2)] for task in ("semseg", "depth")}
    for task, pyramid in neck(own, (32, 32)).pyramids.items():
        for one, other in zip(pyramid, neck(own[task], (32, 32)).pyramids, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name, indices", [("convnext_atto", [0, 1, 2, 3]), ("vit_tiny_patch16_224", [5, 11])])
def test_a_pyramid_is_refused_with_the_keys_to_set(name, indices):
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name=name, weights="random", out_indices=indices))
    with pytest.raises(UserError, match=r"neck=simple_fpn.*backbone\.out_indices=\[-1\].*neck=shared") as caught:
        build_neck(NeckConfig(name="simple_fpn"), backbone.channels, backbone.reductions, ())
    assert "\n" not in str(caught.value)


def test_channels_that_cannot_be_quartered_are_refused():
    with pytest.raises(UserError, match="6 channels"):
        SimpleFPN([6], [16])


def test_a_corner_of_the_image_stays_where_it_is():
    """A bright corner of the last map comes out at the same share of height and width in every map."""
    neck = SimpleFPN([8], [16])
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)
    size = (96, 160)
    zero = torch.zeros(1, 8, 6, 10)
    corner = zero.clone()
    corner[..., 4, 7] = torch.randn(8) + 3
    for step, one, other in zip(neck.strides, *(neck([x], size).pyramids for x in (zero, corner)), strict=True):
        where = (one - other).abs().sum(1)[0].nonzero()
        middle = ((where.min(0).values + where.max(0).values + 1) / 2 * step).tolist()
        assert [math.floor(y / 32) for y in middle] == [4 * 16 // 32, 7 * 16 // 32]
