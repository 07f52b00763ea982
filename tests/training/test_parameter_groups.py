"""Which parameters SGD and AdamW decay, and at which rate."""

import pytest
import tiny_engine
import torch
from torch import nn

from atrc_exp.config import OptimConfig
from atrc_exp.models.distillation.cross_stitch import CrossStitch
from atrc_exp.models.distillation.nddr import NDDR
from atrc_exp.models.network import Network
from atrc_exp.training.state import parameter_groups


def network(module: nn.Module | None) -> Network:
    built = tiny_engine.network(tiny_engine.config(".", kind="atrc"))
    built.distillation = module
    return built


def by_setting(optim: OptimConfig, built: Network) -> dict[int, tuple[float, float]]:
    """(factor, weight decay) by the parameter's identity; each stands in one group."""
    settings: dict[int, tuple[float, float]] = {}
    for group in parameter_groups(optim, built):
        for parameter in group["params"]:
            assert id(parameter) not in settings
            settings[id(parameter)] = group["factor"], group.get("weight_decay", optim.weight_decay)
    assert set(settings) == {id(p) for p in built.parameters()}
    return settings


@pytest.mark.parametrize("module", [None, NDDR(tiny_engine.NAMES, 4)])
def test_two_groups_by_default(module):
    groups = parameter_groups(OptimConfig(head_lr_factor=3.0), network(module))
    assert [(group["factor"], group.get("weight_decay", 5e-4)) for group in groups] == [(1.0, 5e-4), (3.0, 5e-4)]


def test_cross_stitch_weights_do_not_decay_and_may_be_faster():
    built = network(CrossStitch(tiny_engine.NAMES, 4))
    settings = by_setting(OptimConfig(head_lr_factor=2.0, distillation_lr_factor=100.0), built)
    assert settings[id(built.distillation.stitch)] == (200.0, 0.0)
    assert {settings[id(p)] for p in built.heads.parameters()} == {(2.0, 5e-4)}
    assert {settings[id(p)] for p in built.backbone.parameters()} == {(1.0, 5e-4)}
    assert by_setting(OptimConfig(), built)[id(built.distillation.stitch)] == (1.0, 0.0)


def test_the_whole_module_may_be_faster():
    built = network(NDDR(tiny_engine.NAMES, 4))
    settings = by_setting(OptimConfig(distillation_lr_factor=10.0), built)
    assert {settings[id(p)] for p in built.distillation.parameters()} == {(10.0, 5e-4)}
    assert {settings[id(p)] for p in built.predictors.parameters()} == {(1.0, 5e-4)}


def test_adamw_decays_weights_but_neither_biases_nor_norms_nor_position_tables():
    built = network(None)
    table = nn.Module()
    table.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
    built.backbone.attention = table
    settings = by_setting(OptimConfig(name="adamw", weight_decay=0.05, head_lr_factor=2.0), built)
    for name, parameter in built.named_parameters():
        factor = 1.0 if name.startswith("backbone.") else 2.0
        decayed = parameter.dim() > 1 and parameter is not table.relative_position_bias_table
        assert settings[id(parameter)] == (factor, 0.05 if decayed else 0.0), name
    assert {decay for _, decay in settings.values()} == {0.05, 0.0}
