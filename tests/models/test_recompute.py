import copy

import pytest
import torch
from torch import nn

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.recompute import recompute_activations

TRANSFORMER = {"out_indices": [-1], "options": {"dynamic_img_size": True, "depth": 4, "embed_dim": 48, "num_heads": 2}}


@pytest.mark.parametrize(("name", "settings"), [
    ("hrnet_w18_small_v2", {}),
    ("resnet10t", {}),
    ("vit_tiny_patch16_224", TRANSFORMER),
])  # fmt: skip
def test_results_and_statistics_are_the_same_and_less_is_kept(name, settings):
    backbone = build_backbone(BackboneConfig(name=name, weights="random", **settings)).double().train()
    other = copy.deepcopy(backbone)
    recompute_activations(nn.ModuleDict({"backbone": other}))
    image = torch.randn(2, 3, 32, 64, dtype=torch.float64)
    kept, gradients = [], []
    for module in (backbone, other):
        count = 0

        def keep(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            maps = module(image)
        loss = sum((x * x.detach().roll(1)).sum() for x in maps)
        gradients.append(torch.autograd.grad(loss, list(module.parameters())))
        kept.append(count)
    assert kept[1] < kept[0] / 2
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    state = backbone.state_dict()
    assert state.keys() == other.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())
    with torch.no_grad():
        for ours, expected in zip(other.eval()(image), backbone.eval()(image), strict=True):
            assert torch.equal(ours, expected)


def test_networks_without_stages_are_refused():
    with pytest.raises(UserError, match=r"engine\.activation_checkpointing=true: .*no stages"):
        recompute_activations(nn.ModuleDict({"backbone": nn.Identity()}))
