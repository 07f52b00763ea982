"""HRNet in its dense-prediction form against timm's, and against a plain account of the published one."""

import numpy as np
import pytest
import timm
import torch
from timm.models.hrnet import BasicBlock, HighResolutionModule
from torch import nn

from atrc_exp.config import BackboneConfig
from atrc_exp.models import export
from atrc_exp.models.backbones.backbone import Backbone, build_backbone, to_dense_form

HRNET = "hrnet_w18_small_v2"


def build(name: str = HRNET) -> Backbone:
    return build_backbone(BackboneConfig(name=name, weights="random"))


def test_hrnet_channels_strides_and_keys():
    with torch.device("meta"):
        backbone = build()
        plain = timm.create_model(HRNET, features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
        large = build("hrnet_w48")
    assert (backbone.channels, backbone.reductions) == ([18, 36, 72, 144], [4, 8, 16, 32])
    assert large.channels == [48, 96, 192, 384]
    assert {k: v.shape for k, v in backbone.model.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert backbone.provenance == {"name": HRNET, "weights": "random", "tag": None, "sha256": None}


def test_dense_form_differs_from_timm_by_the_interpolation_only():
    """With nearest interpolation in its place, the maps are timm's own at a size that timm can do."""
    plain = timm.create_model(HRNET, features_only=True, feature_location="", out_indices=(1, 2, 3, 4)).eval()
    backbone = build().eval()
    backbone.model.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = plain(image)
        bilinear = backbone(image)
        for module in backbone.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "nearest", None
        nearest = backbone.model(image)
    for ours, theirs in zip(nearest, maps, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(bilinear[0], maps[0])


def bilinear(old: int, new: int) -> np.ndarray:
    """Matrix (new, old) of bilinear resizing along one side, pixel centres at half integers, the outermost repeated."""
    matrix = np.zeros((new, old))
    for i in range(new):
        position = max((i + 0.5) * old / new - 0.5, 0.0)
        left = int(position)
        matrix[i, left] += 1 - (position - left)
        matrix[i, min(left + 1, old - 1)] += position - left
    return matrix


def in_two_steps(x: torch.Tensor, factor: int, size: tuple[int, ...]) -> torch.Tensor:
    """A map (B, C, h, w) magnified by the factor and then resized to `size`, by matrices."""
    rows, columns = (bilinear(factor * old, new) @ bilinear(old, factor * old)
                     for old, new in zip(x.shape[-2:], size, strict=True))  # fmt: skip
    return torch.from_numpy(rows) @ x @ torch.from_numpy(columns).T


def plain_fusion(module: HighResolutionModule, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """The exchange between branches as HRNetV2's dense-prediction form is published, one pair after the other."""
    for i, branch in enumerate(module.branches):
        maps[i] = branch(maps[i])
    if module.num_branches == 1:
        return maps
    fused = []
    for i, row in enumerate(module.fuse_layers):
        total = torch.zeros_like(maps[i])
        for j, layer in enumerate(row):
            if j > i:
                convolution, norm, _ = layer
                total = total + in_two_steps(norm(convolution(maps[j])), 2 ** (j - i), maps[i].shape[-2:])
            else:
                total = total + layer(maps[j])
        fused.append(total.clamp(min=0))
    return fused


def spread_out(model: nn.Module) -> None:
    """Batch norms as after a training: random weights alone would leave the coarse branches almost without effect."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)


@pytest.mark.parametrize("size", [(97, 131), pytest.param((425, 560), marks=pytest.mark.slow)])
def test_hrnet_is_its_published_form_at_sizes_that_are_no_multiples_of_32(monkeypatch, size):
    plain = timm.create_model(HRNET, features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
    plain = plain.double().eval()
    spread_out(plain)
    backbone = build().double().eval()
    backbone.model.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = backbone(image)
        monkeypatch.setattr(HighResolutionModule, "forward", plain_fusion)
        for ours, published in zip(maps, plain(image), strict=True):
            assert (ours - published).abs().max() <= 1e-10 * published.abs().max()


def fusion(*channels: int) -> nn.Module:
    """One module of the dense form, with a residual block a branch."""
    blocks = [1] * len(channels)
    module = HighResolutionModule(len(channels), BasicBlock, blocks, list(channels), list(channels), "SUM")
    to_dense_form(module)
    return module.eval()


def test_fusion_at_the_sizes_of_nyud_is_the_plain_loop():
    """The maps of stage 4 at 425 x 560: every branch but the coarsest has a side that is no multiple of the next."""
    module = fusion(2, 3, 4, 5).double()
    spread_out(module)
    maps = [torch.randn(2, c, h, w, dtype=torch.float64)
            for c, h, w in ((2, 107, 140), (3, 54, 70), (4, 27, 35), (5, 14, 18))]  # fmt: skip
    with torch.no_grad():
        for ours, published in zip(module(maps), plain_fusion(module, list(maps)), strict=True):
            torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-12)


def test_fusion_worked_by_hand():
    """[0, 1] becomes [0, 1/4, 3/4, 1], of which width 3 takes the places 1/6, 3/2 and 17/6."""
    module = fusion(1, 1)
    convolution, norm, _ = module.fuse_layers[0][1]
    nn.init.ones_(convolution.weight)
    nn.init.constant_(norm.running_var, 1 - norm.eps)
    module.branches = nn.ModuleList([nn.Identity(), nn.Identity()])
    with torch.no_grad():
        fused, _ = module([torch.zeros(1, 1, 1, 3), torch.tensor([[[[0.0, 1.0]]]])])
    torch.testing.assert_close(fused.flatten(), torch.tensor([1 / 24, 1 / 2, 23 / 24]))


@pytest.mark.parametrize("size", [(53, 70), (64, 64), (41, 33)])
def test_hrnet_takes_any_size_and_leaves_its_input_list_alone(size):
    backbone = build().eval()
    module = next(m for m in backbone.modules() if type(m).__name__ == "DenseFusion" and m.num_branches == 3)
    channels = [branch[0].conv1.in_channels for branch in module.branches]
    maps = [torch.randn(1, c, 9 >> i, 7 >> i) for i, c in enumerate(channels)]
    before = list(maps)
    with torch.no_grad():
        out = backbone(torch.randn(1, 3, *size))
        module(maps)
    strides = zip(backbone.channels, backbone.reductions, strict=True)
    assert [x.shape for x in out] == [(1, c, -(-size[0] // s), -(-size[1] // s)) for c, s in strides]
    assert all(a is b for a, b in zip(maps, before, strict=True))


class OneTask(nn.Module):
    """A network as exports see it: the finest map of a fusion of maps at three strides."""

    def __init__(self) -> None:
        super().__init__()
        self.module = fusion(2, 2, 2)
        spread_out(self.module)

    def forward(self, image):
        maps = [image[:, :2], image[:, 2:4, ::2, ::2], image[:, 4:, ::4, ::4]]
        return {"depth": self.module(maps)[0]}


def traced_at_an_odd_size():
    """A program for sizes of which none is a multiple of the next, with outputs for other batches than it has seen."""
    network = OneTask()
    images = [torch.randn(number, 6, 13, 27) for number in (1, 3)]
    with torch.no_grad():
        shapes = {"image": {0: torch.export.Dim("batch", min=1)}}
        program = torch.export.export(network, (torch.zeros(2, 6, 13, 27),), dynamic_shapes=shapes)
        return network, program, [(image, network(image)) for image in images]


def test_fusion_at_an_odd_size_is_exported(tmp_path):
    _, program, expected = traced_at_an_odd_size()
    export.save_checked(
        tmp_path / "a.pt2", lambda path: export.save_program(program, path), export.read_program, expected
    )


@pytest.mark.slow
def test_fusion_at_an_odd_size_is_compiled_as_one_graph_and_written_as_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network, program, expected = traced_at_an_odd_size()

    def write(path):
        export.save_onnx(program, path, ("depth",), {})

    export.save_checked(tmp_path / "a.onnx", write, export.read_onnx, expected)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(expected[0][0]), expected[0][1])
