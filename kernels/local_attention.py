"""Local attention on CUDA tensors, with the same calls as its twin `atrc_exp.ops.local_attention_torch`."""

import torch
from torch import Tensor

from atrc_exp.kernels.driver import Kernels, load_kernels
from atrc_exp.kernels.plan import Plan, Unsupported, make_plan


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool
) -> tuple[Tensor, Tensor]:
    """Output (B, C, H, W) and natural log-sum-exp of the scaled scores (B, H, W), float32.

    q, k and v are contiguous CUDA tensors of one shape, dtype and device.

    Raises:
        Unsupported: the kernels cannot run them.
    """
    batch, channels, height, width = q.shape
    plan = _plan(kernel_size, q, k, v)
    out = torch.empty_like(q)
    lse = q.new_empty((batch, height, width), dtype=torch.float32)
    if batch > 0:
        with torch.cuda.device(q.device):
            _load(plan).launch(
                "forward",
                plan.blocks(batch, height, width),
                *(q, k, v, out, lse, channels, height, width, float(scale), int(zero_border)),
            )
    return out, lse


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv), each (B, C, H, W); bit for bit the same in every run (no atomic sums).

    All arguments are contiguous CUDA tensors; `out` and `lse` are those of `forward`.

    Raises:
        Unsupported: the kernels cannot run them.
    """
    batch, channels, height, width = q.shape
    plan = _plan(kernel_size, g, q, k, v, out)
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    delta = torch.empty_like(lse)
    if batch > 0:
        blocks = plan.blocks(batch, height, width)
        shape = (channels, height, width, float(scale))
        with torch.cuda.device(q.device):
            kernels = _load(plan)
            kernels.launch("dq", blocks, *(g, q, k, v, out, lse, dq, delta), *shape)
            kernels.launch("dkv", blocks, *(g, q, k, v, lse, delta, dk, dv), *shape)
    return dq, dk, dv


def _plan(kernel_size: int, *tensors: Tensor) -> Plan:
    if torch.version.cuda is None:
        raise Unsupported("this PyTorch is not built for CUDA")
    batch, channels, height, width = tensors[0].shape
    if channels * height * width >= 2**31 or batch * height * width >= 2**31:
        raise Unsupported(f"shape {tuple(tensors[0].shape)} (the kernels count the elements of an image in 31 bits)")
    limit = torch.cuda.get_device_properties(tensors[0].device).shared_memory_per_block_optin
    return make_plan(tensors[0].dtype, channels, kernel_size, _vector(*tensors), limit)


def _vector(*tensors: Tensor) -> int:
    """Elements that one copy may move without leaving a row or an aligned address, in every tensor: 4, 2 or 1."""
    size, width = tensors[0].element_size(), tensors[0].shape[3]
    return next(n for n in (4, 2, 1) if width % n == 0 and all(x.data_ptr() % (n * size) == 0 for x in tensors))


def _load(plan: Plan) -> Kernels:
    return load_kernels(plan, torch.cuda.current_device())
