"""Local attention on the CPU by compiled kernels, with the same calls as its twin `local_attention_torch`.

Rows of the images are spread over as many threads as PyTorch uses. A row is computed in the same way whichever thread
has it, so that results do not depend on their number.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from atrc_exp.kernels.plan import Unsupported

_LOG2_E = math.log2(math.e)
_OUTSIDE = -1e30  # added to scores that do not count; finite, since a difference of infinities is not a number


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool
) -> tuple[Tensor, Tensor]:
    """Attend; return the output (B, C, H, W) and the log-sum-exp of the scaled scores (B, H, W).

    Scores and sums are float32 for 16-bit inputs; so is the log-sum-exp, which the backward needs whole.

    Raises:
        Unsupported: numba cannot be imported or cannot compile.
    """
    kernels = _kernels()
    batch, *sizes = q.shape
    out = q.new_empty(q.shape, dtype=torch.float32)
    lse = q.new_empty((batch, *sizes[1:]), dtype=torch.float32)
    arrays = [_array(x) for x in (q, k, v, out)]
    most, total = _array(lse), np.empty(lse.numel(), np.float32)
    outside = 0.0 if zero_border else _OUTSIDE

    def attend(first: int, last: int) -> None:
        kernels.forward(*arrays, most, total, first, last, *sizes, kernel_size, scale * _LOG2_E, outside)
        rows = slice(first * sizes[2], last * sizes[2])
        most[rows] = most[rows] / _LOG2_E + np.log(total[rows])

    _over_rows(attend, batch * sizes[1])
    return out.to(q.dtype), lse


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv), each (B, C, H, W), of sum(g * out).

    The weights are recomputed from `lse`, which carries the border mode; gradients into padding are dropped.

    Raises:
        Unsupported: numba cannot be imported or cannot compile.
    """
    kernels = _kernels()
    batch, *sizes = q.shape
    dq, dk, dv = (q.new_empty(q.shape, dtype=torch.float32) for _ in range(3))
    arrays = [_array(x) for x in (g, q, k, v, out, lse, dq, dk, dv)]

    def differentiate(first: int, last: int) -> None:
        kernels.backward(*arrays, first, last, *sizes, kernel_size, scale * _LOG2_E, scale)

    _over_rows(differentiate, batch * sizes[1])
    return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)


def _array(x: Tensor) -> np.ndarray:
    """The values in float32 and one dimension; the memory of `x` itself where it has this form."""
    return x.float().reshape(-1).contiguous().numpy(force=True)


def _kernels() -> ModuleType:
    kernels = _load()
    if isinstance(kernels, str):
        raise Unsupported(kernels)
    return kernels


@cache
def _load() -> ModuleType | str:
    """The compiled kernels, or why there are none: trying again at every call would take seconds each."""
    try:
        from atrc_exp.ops import local_attention_cpu_kernels
    except Exception as error:  # numba and LLVM have many, and for all there is another way to the result
        return f"{type(error).__name__}: {error}"
    return local_attention_cpu_kernels


def _over_rows(kernel: Callable[[int, int], None], count: int) -> None:
    """Call `kernel(first, last)` for parts of `count` rows, one a thread."""
    threads = max(1, min(torch.get_num_threads(), count))
    own, *others = pairwise(count * i // threads for i in range(threads + 1))
    running = [_pool(os.getpid(), len(others)).submit(kernel, *part) for part in others]
    kernel(*own)
    for each in running:
        each.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process; a fork copies the pool without them."""
    return ThreadPoolExecutor(threads, "local_attention")
