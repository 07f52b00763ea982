"""Whether kernels compute on this device what they should, seen once before their first result is used."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from atrc_exp.kernels.launch import Kernels
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.ops import local_attention_torch

IMAGES, HEIGHT, WIDTHS = 2, 19, {4: 36, 2: 34, 1: 33}  # widths by elements a copy: several tiles, the last ones partial
# max |error| / max |value| of (out, gradients), twice what rounding of the arithmetic gives, and of the log-sum-exp.
TOLERANCES = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (6e-3, 1e-2), torch.float16: (8e-4, 1.4e-3)}
LSE_TOLERANCE = 1e-5
SMALLEST_SCALE = 0.5  # gradients that cancel have small maxima


def check(kernels: Kernels, dtype: torch.dtype, channels: int, kernel_size: int) -> None:
    """Compare out, log-sum-exp and gradients, in both border modes, with PyTorch's tiles in float64.

    All of it runs on the kernels' device, which is waited for once. No random number is drawn: a run's generators stay
    as they are.

    Raises:
        Unsupported: a result is wrong; the message says which, and by how much.
    """
    shape = (IMAGES, channels, HEIGHT, WIDTHS[int(dict(kernels.plan.definitions)["VECTOR"])])
    g, q, k, v = inputs(shape, dtype, kernels.device)
    scale = channels**-0.5
    found: list[Tensor] = []
    for zero_border in (True, False):
        out, lse = kernels.forward(q, k, v, scale, zero_border)
        found += [out, lse, *kernels.backward(g, q, k, v, out, lse, scale)]
    if problem := difference(found, reference(g, q, k, v, kernel_size), dtype):
        raise Unsupported(f"they compute wrong results ({kernels.device}, {dtype}, {channels} channels: {problem})")


def inputs(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Four maps (g, q, k, v) of values in [-2, 2) without a pattern: multiples of the golden ratio, modulo 1."""
    count = torch.Size(shape).numel()
    steps = torch.arange(1, 4 * count + 1, dtype=torch.float64, device=device) * ((5**0.5 - 1) / 2)
    return ((steps - steps.floor()) * 4 - 2).to(dtype).view(4, *shape).unbind()


def reference(g: Tensor, q: Tensor, k: Tensor, v: Tensor, kernel_size: int) -> list[Tensor]:
    """out, log-sum-exp, dq, dk and dv in border mode "zero", then in "mask", float64."""
    g, q, k, v = (x.double() for x in (g, q, k, v))
    scale = q.shape[1] ** -0.5
    results: list[Tensor] = []
    for zero_border in (True, False):
        out, lse = local_attention_torch.forward(q, k, v, kernel_size, scale, zero_border)
        results += [out, lse, *local_attention_torch.backward(g, q, k, v, out, lse, kernel_size, scale)]
    return results


def difference(found: Sequence[Tensor], expected: list[Tensor], dtype: torch.dtype) -> str:
    """Which results are farther from the expected ones than rounding explains; empty if none."""
    forward_limit, backward_limit = TOLERANCES[dtype]
    if found[0].shape[1] == 1:  # the terms of dq and dk nearly cancel, and only the rounding of `out` and dS is left
        backward_limit *= 4
    limits = {"out": forward_limit, "lse": LSE_TOLERANCE} | dict.fromkeys(("dq", "dk", "dv"), backward_limit)
    errors = torch.stack([
        (value - right).abs().max() / right.abs().max().clamp_min(SMALLEST_SCALE)
        for value, right in zip(found, expected, strict=True)
    ]).tolist()  # fmt: skip
    return "; ".join(
        f"{name}, border {border}, is off by {error:.1e} of its maximum, allowed {limits[name]:.1e}"
        for (border, name), error in zip(itertools.product(("zero", "mask"), limits), errors, strict=True)
        if not error <= limits[name]  # also for NaN
    )
