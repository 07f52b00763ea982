"""Many Conv-BN pairs as one product against the pairs by themselves."""

import copy

import pytest
import torch
from torch import nn

from atrc_exp.models.contexts.joint_conv_bn import conv_bn_of_each, conv_bn_of_one


def pairs(*widths: int, channels: int = 6, eps: float = 1e-5, momentum: float = 0.1) -> list[nn.Sequential]:
    """1x1 Conv-BN pairs, every second norm without scale and shift."""
    layers = []
    for index, width in enumerate(widths):
        norm = nn.BatchNorm2d(width, eps=eps, momentum=momentum, affine=index % 2 == 0)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.uniform_(norm.bias, -1, 1)
        layers.append(nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), norm))
    return layers


def double(layers: list[nn.Sequential]) -> list[nn.Sequential]:
    return [copy.deepcopy(layer).double() for layer in layers]


def by_themselves(layers: list[nn.Sequential], x: torch.Tensor) -> torch.Tensor:
    return torch.cat([layer(x.unsqueeze(3)).squeeze(3) for layer in layers], 1)


def step(compute, layers, x: torch.Tensor):
    """Output, gradients of the input and of all parameters, and the statistics after one step."""
    layers, x = copy.deepcopy(layers), x.clone().requires_grad_()
    parameters = [p for layer in layers for p in layer.parameters()]
    out = compute(layers, x)
    gradients = torch.autograd.grad((out * out.detach().roll(1)).sum() + out.exp().sum(), [x, *parameters])
    return out, gradients, [buffer for layer in layers for buffer in layer.buffers()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_map(batch, training):
    layers = [layer.double().train(training) for layer in pairs(3, 5, 1, eps=1e-3, momentum=0.3)]
    x = torch.randn(batch, 6, 20, dtype=torch.float64)
    torch.testing.assert_close(step(conv_bn_of_one, layers, x), step(by_themselves, layers, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_a_map_each(training):
    layers = [layer.double().train(training) for layer in pairs(4, 4, 4)]
    x = torch.randn(2, 3, 6, 20, dtype=torch.float64)

    def one_after_another(layers, x):
        return torch.cat([layer(x[:, i].unsqueeze(3)).squeeze(3) for i, layer in enumerate(layers)], 1)

    ours, theirs = step(conv_bn_of_each, layers, x), step(one_after_another, layers, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_mean_far_above_the_deviation_loses_no_more_digits_than_the_layers_do():
    layers, x = pairs(8), 100 + torch.randn(2, 6, 500)
    exact = by_themselves(double(layers), x.double())
    ours, theirs = (
        (compute(copy.deepcopy(layers), x) - exact).abs().max().item() for compute in (conv_bn_of_one, by_themselves)
    )
    assert ours <= max(2 * theirs, 1e-5)


def test_channels_that_are_constant_give_the_shift():
    layers, x = pairs(4), torch.full((2, 6, 50), 3.0)
    norm = layers[0][1]
    out = conv_bn_of_one(layers, x)
    torch.testing.assert_close(out, norm.bias.view(1, -1, 1).expand_as(out), rtol=0, atol=1e-4)


def test_statistics_are_single_precision_under_autocast():
    layers, x = pairs(8), 20 + torch.randn(2, 6, 500).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv_bn_of_one(layers, x)
    exact = by_themselves(double(layers), x.double())
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 0.05
