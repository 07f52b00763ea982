"""Building blocks that every part of the network uses."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def conv_bn_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
    affine: bool = True,
) -> list[nn.Module]:
    """Convolution without bias that keeps the size, batch norm, activation, to be chained in one `Sequential`."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
        activation(),
    ]


def logit_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """1x1 convolution to logits: weights from N(0, 0.01^2), bias 0, so that training starts at even odds."""
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def full_precision(device: torch.device) -> AbstractContextManager:
    """Switch autocast off, for sums over positions or labels: in fp16 the global denominator overflows."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # the meta device has no autocast


def at_least_float32(x: Tensor) -> Tensor:
    """16-bit tensors as float32, others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def positions(x: Tensor) -> Tensor:
    """(B, C, h, w) as (B, C, h * w) in at least single precision, ready for matrix products.

    The gradient that comes back is made contiguous: products with a transpose return it transposed, and for a single
    image PyTorch's batch norm on the CPU then computes wrong gradients without a word (seen in torch 2.15).
    """
    return _ContiguousGradient.apply(at_least_float32(x).flatten(2))


class _ContiguousGradient(torch.autograd.Function):
    """Identity with a contiguous gradient."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()
