"""Contexts written out as loops over pixels and channels, in float64."""

import math

import torch
from torch import nn

C, D, H, W = 6, 3, 4, 5


def random_norms(module: nn.Module) -> nn.Module:
    """Give every batch norm its own statistics and weights, so that none of them can be forgotten unseen."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, -0.2, 0.5)
    return module.double().eval().requires_grad_(False)


def project(layers: nn.Sequential, pixel: torch.Tensor, last) -> list[float]:
    """Run the projection of one pixel (C,) by hand: per layer matrix product, normalisation, activation."""
    count = len(layers) // 3
    for i in range(count):
        conv, norm = layers[3 * i], layers[3 * i + 1]
        out = []
        for channel in range(conv.weight.shape[0]):
            x = sum(float(conv.weight[channel, c, 0, 0]) * float(pixel[c]) for c in range(len(pixel)))
            x = (x - float(norm.running_mean[channel])) / math.sqrt(float(norm.running_var[channel]) + norm.eps)
            if norm.affine:
                x = x * float(norm.weight[channel]) + float(norm.bias[channel])
            out.append(last(x) if i == count - 1 else max(x, 0.0))
        pixel = out
    return pixel


def relu(x: float) -> float:
    return max(x, 0.0)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(scores: list[float]) -> list[float]:
    exponentials = [math.exp(s - max(scores)) for s in scores]
    return [e / sum(exponentials) for e in exponentials]


def mix(weights, values) -> list[float]:
    """Weighted sum of the values; 0 where there are none."""
    return [sum(w * v[c] for w, v in zip(weights, values, strict=True)) for c in range(D)]


def pixels(x: torch.Tensor) -> list[torch.Tensor]:
    return [x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]


def as_map(rows: list[list[float]], size: tuple[int, int] = (H, W)) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).T.reshape(D, *size)
