"""Local attention as a loop over the K * K shifts of the image: slow, plain, and another way to the same numbers."""

from collections.abc import Iterator

import torch
from torch import Tensor

Window = tuple[slice, ...]


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool
) -> tuple[Tensor, Tensor]:
    """Attend; return the output (B, C, H, W) and the log-sum-exp of the scaled scores (B, H, W).

    Scores and sums are float32 for 16-bit inputs; so is the log-sum-exp, which the backward needs whole.
    """
    dtype = q.dtype
    q, k, v = (_at_least_float32(x) for x in (q, k, v))
    q = q * scale
    batch, _, height, width = q.shape
    scores = q.new_full((kernel_size**2, batch, height, width), 0.0 if zero_border else -torch.inf)
    product = torch.empty_like(q)
    for j, here, there in _shifts(kernel_size, height, width):
        scores[j][_without_channel(here)] = _dot(q[here], k[there], product[here])
    lse = torch.logsumexp(scores, dim=0)
    weights = scores.sub_(lse).exp_()
    out = torch.zeros_like(q)
    for j, here, there in _shifts(kernel_size, height, width):
        out[here].addcmul_(weights[j][_without_channel(here)].unsqueeze(1), v[there])
    return out.to(dtype), lse


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv), each (B, C, H, W), of sum(g * out).

    The weights are recomputed from `lse`, which carries the border mode; gradients into padding are dropped.
    """
    dtype = q.dtype
    g, q, k, v, out = (_at_least_float32(x) for x in (g, q, k, v, out))
    q = q * scale
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    product = torch.empty_like(q)
    delta = _dot(g, out, product)
    for _, here, there in _shifts(kernel_size, *q.shape[2:]):
        pixel = _without_channel(here)
        p = _dot(q[here], k[there], product[here]).sub_(lse[pixel]).exp_()
        ds = _dot(g[here], v[there], product[here]).sub_(delta[pixel]).mul_(p).unsqueeze(1)
        dq[here].addcmul_(ds, k[there])
        dk[there].addcmul_(ds, q[here])
        dv[there].addcmul_(p.unsqueeze(1), g[here])
    return dq.mul_(scale).to(dtype), dk.to(dtype), dv.to(dtype)


def _shifts(kernel_size: int, height: int, width: int) -> Iterator[tuple[int, Window, Window]]:
    """Yield (j, here, there): the pixels whose j-th neighbour lies inside the image, and those neighbours."""
    radius = kernel_size // 2
    for j in range(kernel_size**2):
        dy, dx = j // kernel_size - radius, j % kernel_size - radius
        if abs(dy) < height and abs(dx) < width:
            here = _rectangle(max(-dy, 0), min(height - dy, height), max(-dx, 0), min(width - dx, width))
            there = _rectangle(max(dy, 0), min(height + dy, height), max(dx, 0), min(width + dx, width))
            yield j, here, there


def _rectangle(top: int, bottom: int, left: int, right: int) -> Window:
    return slice(None), slice(None), slice(top, bottom), slice(left, right)


def _without_channel(window: Window) -> Window:
    return window[1:]


def _dot(a: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """Sum of a * b over the channels; `product` is scratch: a fresh map a shift costs more than the sums."""
    return torch.mul(a, b, out=product).sum(dim=1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
