"""Plain vision transformers of timm as backbones: any size, their weights' normalisation, layers, drop path."""

import pytest
import timm
import tiny_engine
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn

from atrc_exp.config import BackboneConfig, OptimConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.backbones.depth import layers_above
from atrc_exp.models.backbones.weights import weights_normalisation
from atrc_exp.normalisation import IMAGENET
from atrc_exp.training.state import parameter_groups

TINY = "vit_tiny_patch16_224"
SMALL = {"embed_dim": 32, "num_heads": 2, "depth": 3}
"""A transformer that takes milliseconds."""


def build(name: str = TINY, **options):
    settings = {"weights": "random", "out_indices": [-1], "multiple": 16, "options": {"dynamic_img_size": True}}
    return build_backbone(BackboneConfig(name=name, **{**settings, **options}))


def small(**options):
    return build(options={"dynamic_img_size": True, **SMALL}, **options)


@pytest.mark.parametrize(("name", "stride", "channels"), [
    (TINY, 16, 192),
    ("vit_small_patch14_dinov2", 14, 384),
    ("vit_small_patch14_reg4_dinov2", 14, 384),
    ("vit_small_patch16_dinov3", 16, 384),
    ("vit_base_patch16_siglip_224", 16, 768),
])  # fmt: skip
def test_one_map_of_the_rounded_up_size(name, stride, channels):
    with torch.device("meta"):
        backbone = build(name, multiple=stride).eval()
        (x,) = backbone(torch.empty(1, 3, 61, 43))
    assert (backbone.channels, backbone.reductions, backbone.fixed_size) == ([channels], [stride], False)
    assert x.shape == (1, channels, -(-61 // stride), -(-43 // stride))


@pytest.mark.parametrize(("patch", "size"), [(16, (48, 80)), (14, (61, 43))])
def test_another_size_resamples_the_positions_and_pads_with_zeros(patch, size):
    """The last block's tokens of timm's own transformer, given the padded image and positions resampled by hand."""
    torch.manual_seed(0)
    backbone = build(TINY, multiple=patch, options={"dynamic_img_size": True, "patch_size": patch, **SMALL}).eval()
    nn.init.normal_(backbone.model.model.pos_embed)
    padded = [-(-side // patch) * patch for side in size]
    plain = timm.create_model(TINY, img_size=padded, patch_size=patch, **SMALL).eval()
    state = backbone.model.state_dict()
    state = {key.removeprefix("model."): value for key, value in state.items()}
    first, grid = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    side = round(grid.shape[1] ** 0.5)
    cells = [length // patch for length in padded]
    grid = F.interpolate(grid.reshape(1, side, side, -1).permute(0, 3, 1, 2), cells, mode="bicubic", antialias=True)
    state["pos_embed"] = torch.cat((first, grid.flatten(2).transpose(1, 2)), 1)
    plain.load_state_dict(state, strict=False)
    image = torch.randn(1, 3, *size)
    canvas = torch.zeros(1, 3, *padded)
    canvas[..., : size[0], : size[1]] = image
    with torch.no_grad():
        x = plain._pos_embed(plain.patch_embed(canvas))
        expected = plain.blocks(plain.norm_pre(x))[:, 1:].transpose(1, 2).reshape(1, -1, *cells)
        torch.testing.assert_close(backbone(image)[0], expected, atol=1e-5, rtol=1e-4)


def test_a_classifiers_file_of_another_size_loads_and_is_used(tmp_path):
    classifier = timm.create_model(TINY, **SMALL)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not weights of"):  # timm's tiny transformer has 12 blocks
        build(weights=str(tmp_path / "weights.pth"))
    backbone = small(weights=str(tmp_path / "weights.pth")).eval()
    for name, value in backbone.model.model.named_parameters():
        assert torch.equal(value, classifier.state_dict()[name])
    assert backbone(torch.randn(1, 3, 40, 100))[0].shape == (1, 32, 3, 7)


@pytest.mark.parametrize(("name", "tag", "mean", "std"), [
    ("vit_base_patch14_dinov2", "lvd142m", IMAGENET.mean, IMAGENET.std),
    ("vit_base_patch16_dinov3", "lvd1689m", IMAGENET.mean, IMAGENET.std),
    ("vit_base_patch16_224", "mae", IMAGENET.mean, IMAGENET.std),
    ("vit_base_patch16_siglip_512", "webli", (0.5,) * 3, (0.5,) * 3),
    ("vit_large_patch16_384", "augreg_in21k_ft_in1k", (0.5,) * 3, (0.5,) * 3),
    ("swin_large_patch4_window12_384", "ms_in22k", IMAGENET.mean, IMAGENET.std),
])  # fmt: skip
def test_images_are_normalised_as_the_weights_want_it(name, tag, mean, std):
    found = weights_normalisation(BackboneConfig(name=name, tag=tag))
    assert found.mean == pytest.approx(mean) and found.std == pytest.approx(std)


def test_rates_fall_from_the_last_block_to_the_patches():
    """Worked for 3 blocks and 0.5: 0.5, 0.25, 0.125, and 0.0625 for patches, positions and class token."""
    built = tiny_engine.network(tiny_engine.config(".", kind="atrc"))
    built.backbone = small()
    optim = OptimConfig(name="adamw", weight_decay=0.1, layer_decay=0.5, head_lr_factor=3.0)
    found = {
        id(parameter): (group["factor"], group["weight_decay"])
        for group in parameter_groups(optim, built)
        for parameter in group["params"]
    }
    assert len(found) == len(list(built.parameters()))
    transformer = built.backbone.model.model
    for index, factor in enumerate((0.125, 0.25, 0.5)):
        block = transformer.blocks[index]
        assert {found[id(p)] for p in block.parameters()} == {(factor, 0.1), (factor, 0.0)}
        assert found[id(block.attn.qkv.weight)] == (factor, 0.1) and found[id(block.norm1.weight)] == (factor, 0.0)
    assert found[id(transformer.patch_embed.proj.weight)] == (0.0625, 0.1)
    assert found[id(transformer.pos_embed)] == found[id(transformer.cls_token)] == (0.0625, 0.0)
    assert {factor for factor, _ in (found[id(p)] for p in built.heads.parameters())} == {3.0}


@pytest.mark.parametrize(("name", "indices", "first", "last"), [
    ("swin_tiny_patch4_window7_224", [0, 1, 2, 3], "patch_embed.proj.weight", "layers_3.blocks.1.mlp.fc2.weight"),
    ("convnext_atto", [0, 1, 2, 3], "stem_0.weight", "stages_3.blocks.1.mlp.fc2.weight"),
    ("vit_small_patch16_dinov3", [-1], "model.patch_embed.proj.weight", "model.blocks.11.mlp.fc2.weight"),
])  # fmt: skip
def test_layers_of_other_families_are_timms(name, indices, first, last):
    with torch.device("meta"):
        backbone = build(name, out_indices=indices, multiple=None, options={})
    parameters = dict(backbone.model.named_parameters())
    above = layers_above(backbone)
    assert set(above) == {id(p) for p in parameters.values()}
    assert above[id(parameters[last])] == 1
    assert above[id(parameters[first])] == max(above.values())


def test_a_transformer_that_is_cut_short_counts_from_its_own_last_block():
    backbone = small(out_indices=[1])
    above = layers_above(backbone)
    assert above[id(backbone.model.model.blocks[1].mlp.fc2.weight)] == 1 and max(above.values()) == 3


def test_drop_path_rises_from_block_to_block_and_acts_in_training_only():
    backbone = small(drop_path=0.5)
    rates = [module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.25, 0.25, 0.5, 0.5])
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(image)[0], backbone(image)[0])
        backbone.train()
        torch.manual_seed(0)
        assert len({float(backbone(image)[0].sum()) for _ in range(8)}) > 1
    assert not any(isinstance(module, DropPath) for module in small(drop_path=0.0).modules())


@pytest.mark.parametrize("name", ["hrnet_w18_small_v2", "vgg11"])
def test_drop_path_is_refused_where_there_is_none(name):
    with torch.device("meta"), pytest.raises(UserError, match=rf"backbone\.drop_path=0\.1: .*{name}") as caught:
        build(name, out_indices=[1], drop_path=0.1, multiple=None, options={})
    assert "\n" not in str(caught.value)


def test_drop_path_is_refused_where_only_the_first_block_is_used():
    with pytest.raises(UserError, match=r"backbone\.drop_path=0\.1: .*vit_tiny"):
        small(out_indices=[0], drop_path=0.1)


@pytest.mark.parametrize("index", [12, -13])
def test_blocks_that_a_transformer_does_not_have_are_refused(index):
    with torch.device("meta"), pytest.raises(UserError, match=rf"out_indices=\[{index}\]") as caught:
        build(out_indices=[index])
    assert "\n" not in str(caught.value)


def test_drop_path_and_layer_decay_have_bounds():
    for rate in (-0.1, 1.0):
        with pytest.raises(UserError, match=r"backbone\.drop_path"):
            BackboneConfig(name=TINY, drop_path=rate)
    for decay in (0.0, 1.1):
        with pytest.raises(UserError, match=r"optim\.layer_decay"):
            OptimConfig(layer_decay=decay)
