"""Dilated ResNet-50 and its necks: sizes, strides, dilation, weights."""

import pytest
import timm
import torch
import torch.nn.functional as F

from atrc_exp.config import BackboneConfig, NeckConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.necks import build_neck
from atrc_exp.models.necks.aspp import SkipNeck

TASKS = ("semseg", "depth")
SIZE = (48, 64)  # of the image, which these necks do not look at


def dilated(name: str = "resnet50", **options: object):
    return build_backbone(
        BackboneConfig(name=name, **{"weights": "random", "out_indices": [1, 4], "output_stride": 16, **options})
    )


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_dilated_resnet50_has_the_published_size_strides_and_dilation():
    with torch.device("meta"):
        backbone = dilated()
        maps = backbone(torch.empty(1, 3, 512, 512))
    assert parameters(backbone) == 23_508_032
    assert (backbone.channels, backbone.reductions) == ([256, 2048], [4, 16])
    assert [tuple(x.shape) for x in maps] == [(1, 256, 128, 128), (1, 2048, 32, 32)]
    last = [(block.conv2.dilation[0], block.conv2.stride[0]) for block in backbone.model.layer4]
    assert last == [(1, 1), (2, 1), (2, 1)]  # the former stride in the first block, dilation after it
    assert backbone.model.layer4[0].downsample[0].stride == (1, 1)


def test_any_size_is_rounded_up_at_every_stride():
    with torch.device("meta"):
        maps = dilated()(torch.empty(1, 3, 425, 560))
    assert [tuple(x.shape[-2:]) for x in maps] == [(107, 140), (27, 35)]


def test_weights_of_the_classifier_load_unchanged(tmp_path):
    plain = timm.create_model("resnet10t")
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    backbone = dilated("resnet10t", weights=str(tmp_path / "weights.pth"))
    wanted = plain.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in backbone.model.state_dict().items())
    assert len(wanted) - len(backbone.model.state_dict()) == 2  # the classifier's weight and bias


def test_backbones_without_dilation_say_so():
    with pytest.raises(UserError, match=r"hrnet_w18_small_v2.*timm cannot extract"):
        dilated("hrnet_w18_small_v2")


@pytest.mark.parametrize(("name", "coarse"), [("aspp", 15_535_104), ("skip", 2048 * 256 * 9 + 2 * 256)])
def test_necks_have_their_size_for_every_task(name, coarse):
    with torch.device("meta"):
        neck = SkipNeck([256, 2048], TASKS, aspp=name == "aspp")
    assert sum(neck.channels) == 304
    skip = 256 * 48 + 2 * 48
    assert parameters(neck) == len(TASKS) * (coarse + skip)


def test_aspp_looks_at_the_dilated_neighbours_and_the_image_mean():
    """An impulse spreads by the rates 6, 12, 18 along an axis, and by the mean a little everywhere."""
    torch.manual_seed(0)
    neck = SkipNeck([4, 8], ("depth",), aspp=True).double().eval()
    for parameter in neck.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0)  # all positive: nothing is cut off or cancels
    zero = [torch.zeros(1, 4, 8, 8).double(), torch.zeros(1, 8, 41, 41).double()]
    impulse = [zero[0], zero[1].clone()]
    impulse[1][..., 20, 20] = 1.0
    difference = (neck(impulse, SIZE).pyramids["depth"][1] - neck(zero, SIZE).pyramids["depth"][1])[0, 0, 20]
    base = difference.min()
    assert base > 0
    assert (difference > base * 1.001).nonzero().flatten().tolist() == [2, 8, 14, 20, 26, 32, 38]


def test_neck_reads_the_first_and_last_map_of_a_pyramid_or_of_each_tasks_own():
    torch.manual_seed(0)
    neck = SkipNeck([4, 8], TASKS, aspp=False).eval()
    own = {task: [torch.randn(1, 4, 12, 16), torch.randn(1, 8, 3, 4)] for task in TASKS}
    output = neck(own, SIZE)
    assert output.initial == {}
    for task in TASKS:
        fine, coarse = output.pyramids[task]
        assert fine.shape == (1, 48, 12, 16) and coarse.shape == (1, 256, 3, 4)
        torch.testing.assert_close(neck(own[task], SIZE).pyramids[task], [fine, coarse])
        conv, norm, _ = neck.coarse[task]
        expected = F.relu(norm(F.conv2d(own[task][1], conv.weight, padding=1)))
        torch.testing.assert_close(coarse, expected)


def test_one_map_is_not_enough():
    with pytest.raises(UserError, match=r"neck=aspp need two maps .*out_indices=\[1,4\]"):
        build_neck(NeckConfig(name="aspp"), [256], [4], ())
