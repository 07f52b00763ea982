"""Local attention on CUDA tensors, with the same calls as its twin `atrc_exp.ops.local_attention_torch`."""

from threading import Lock

import torch
from torch import Tensor

from atrc_exp.kernels.launch import Kernels
from atrc_exp.kernels.plan import Plan, Unsupported, make_plan
from atrc_exp.ops.local_attention_cuda_check import check

_Key = tuple[torch.dtype, int, int, int, int]  # channels, kernel size, elements a copy, device
_ready: dict[_Key, Kernels] = {}
_lock = Lock()  # the backward runs on a thread of its own
_loaded: dict[tuple[Plan, int], Kernels | Unsupported] = {}
_checked: set[tuple[Plan, int]] = set()


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool
) -> tuple[Tensor, Tensor]:
    """Output (B, C, H, W) and natural log-sum-exp of the scaled scores (B, H, W), float32.

    q, k and v are contiguous CUDA tensors of one shape, dtype and device.

    Raises:
        Unsupported: the kernels cannot run them.
        DriverError, torch.OutOfMemoryError: the driver reports a failure.
    """
    if q.shape[0] == 0:
        return q.new_empty(q.shape), q.new_empty((0, *q.shape[2:]), dtype=torch.float32)
    with torch.cuda.device(q.device):
        return _kernels(kernel_size, q, k, v).forward(q, k, v, scale, zero_border)


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv), each (B, C, H, W); bit for bit the same in every run (no atomic sums).

    All arguments are contiguous CUDA tensors; `out` and `lse` are those of `forward`.

    Raises:
        Unsupported, DriverError, torch.OutOfMemoryError: as for `forward`.
    """
    if q.shape[0] == 0:
        return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    with torch.cuda.device(q.device):
        return _kernels(kernel_size, g, q, k, v, out).backward(g, q, k, v, out, lse, scale)


def _kernels(kernel_size: int, *tensors: Tensor) -> Kernels:
    """Loaded and checked kernels for these tensors of one shape, dtype and device, which is the current one."""
    first = tensors[0]
    batch, channels, height, width = first.shape
    if channels * height * width >= 2**31 or batch * height * width >= 2**31:
        raise Unsupported(f"shape {tuple(first.shape)} (the kernels count the elements of an image in 31 bits)")
    size = first.element_size()
    multiples = width * size
    for x in tensors:
        multiples |= x.data_ptr()
    # Elements that one copy may move without leaving a row or an aligned address.
    vector = 4 if multiples % (4 * size) == 0 else 2 if multiples % (2 * size) == 0 else 1
    key = (first.dtype, channels, kernel_size, vector, first.device.index)
    kernels = _ready.get(key)
    return _prepare(key) if kernels is None else kernels


def _prepare(key: _Key) -> Kernels:
    """Compile, load and check kernels; failures that cannot pass are raised again, not tried again."""
    dtype, channels, kernel_size, vector, device = key
    if torch.version.cuda is None:
        raise Unsupported("this PyTorch is not built for CUDA")
    limit = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    plan = make_plan(dtype, channels, kernel_size, vector, limit)
    kernels = _load(plan, device)
    if (plan, device) not in _checked:
        if torch.cuda.is_current_stream_capturing():
            return kernels  # the check would wait for the device; it is due at the next call
        try:
            check(kernels, dtype, channels, kernel_size)
        except Unsupported as reason:
            _loaded[plan, device] = reason
            raise
        _checked.add((plan, device))
    _ready[key] = kernels
    return kernels


def _load(plan: Plan, device: int) -> Kernels:
    with _lock:
        if (plan, device) not in _loaded:
            try:
                _loaded[plan, device] = Kernels(plan, device)
            except Unsupported as reason:
                _loaded[plan, device] = reason
        found = _loaded[plan, device]
    if isinstance(found, Unsupported):
        raise found
    return found
