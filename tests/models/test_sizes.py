"""Models of timm that are made for one size: they run as advised, or say in one line what to set."""

import re

import pytest
import torch

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones import sizes
from atrc_exp.models.backbones.backbone import Backbone, build_backbone

SIZE = (60, 90)  # no multiple of a patch
VIT = BackboneConfig(name="vit_tiny_patch16_224", weights="random", out_indices=[0, 1])


def advised(config: BackboneConfig, size: tuple[int, int]) -> tuple[str, BackboneConfig]:
    """The message of the refusal, and the configuration with the keys that it gives, read as a user reads it."""
    with pytest.raises(UserError) as caught:
        build_backbone(config).eval()(torch.zeros(1, 3, *size))
    text = str(caught.value)
    multiple = re.search(r" backbone\.multiple=(\d+)", text)
    options = {}
    for key, value in re.findall(r"\+backbone\.options\.(\w+)=(\S+)", text):
        options[key] = True if value == "true" else [int(side) for side in value.strip("[]").split(",")]
    return text, BackboneConfig(name=config.name, weights="random", out_indices=config.out_indices, options=options,
                                multiple=int(multiple[1]) if multiple else config.multiple)  # fmt: skip


@pytest.mark.parametrize(("name", "indices"), [
    ("vit_tiny_patch16_224", [0, 1]),
    pytest.param("vit_small_patch14_dinov2", [0, 1], marks=pytest.mark.slow),
    pytest.param("swinv2_tiny_window8_256", [0, 1], marks=pytest.mark.slow),
    pytest.param("hiera_tiny_224", [0, 1], marks=pytest.mark.slow),
    pytest.param("maxvit_pico_rw_256", [1, 2], marks=pytest.mark.slow),
])  # fmt: skip
def test_the_advice_lets_the_model_see_every_pixel(name, indices):
    text, config = advised(BackboneConfig(name=name, weights="random", out_indices=indices), SIZE)
    assert text.startswith(f"backbone.name={name}") and "60x90" in text and "\n" not in text
    backbone = build_backbone(config).eval()
    image = torch.randn(1, 3, *SIZE, requires_grad=True)
    maps = backbone(image)
    expected = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in backbone.reductions]
    assert [x.shape[2:] for x in maps] == expected
    sum(x.square().sum() for x in maps).backward()
    assert image.grad[..., -1, :].any() and image.grad[..., -1].any()


def test_where_no_key_helps_the_models_own_size_is_named(monkeypatch):
    def refuse(self, image):
        raise AssertionError("one size\nand a long story")

    monkeypatch.setattr(Backbone, "_maps", refuse)
    with pytest.raises(UserError, match=r"AssertionError: one size\).*dataset\.crop.*\[224, 224\]") as caught:
        build_backbone(VIT)(torch.zeros(1, 3, *SIZE))
    assert "\n" not in str(caught.value)


def test_errors_that_are_not_the_sizes_stay_what_they_are(monkeypatch):
    backbone = build_backbone(BackboneConfig(name="resnet10t", weights="random", out_indices=[1]))

    def fail(image):
        raise RuntimeError("out of something")

    monkeypatch.setattr(backbone.model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of something"):
        backbone(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(("name", "options", "fixed"), [
    ("vit_tiny_patch16_224", {}, True),
    ("vit_tiny_patch16_224", {"img_size": [64, 96]}, True),
    ("vit_tiny_patch16_224", {"dynamic_img_size": True}, False),
    ("swin_tiny_patch4_window7_224", {"strict_img_size": False}, False),
    ("resnet18", {}, False),
])  # fmt: skip
def test_models_of_one_size_are_known(name, options, fixed):
    assert sizes.is_fixed(BackboneConfig(name=name), options) is fixed


def test_mistakes_in_options_are_one_line():
    with pytest.raises(UserError, match="img_sise") as caught:
        build_backbone(BackboneConfig(name="resnet10t", weights="random", options={"img_sise": 64}))
    assert "\n" not in str(caught.value)
    for key in ("checkpoint_path", "pretrained", "out_indices"):
        with pytest.raises(UserError, match=rf"backbone\.options\.{key}"):
            BackboneConfig(name="resnet10t", options={key: "x"})


def test_a_tag_in_the_name_points_to_its_key():
    with pytest.raises(UserError, match=r"backbone\.name=resnet18 backbone\.tag=a1_in1k"):
        build_backbone(BackboneConfig(name="resnet18.a1_in1k", weights="random"))
