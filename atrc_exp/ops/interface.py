"""The public call: argument checks, the autocast rule, and the choice of backend."""

import math

import torch
from torch import Tensor

from atrc_exp.errors import UserError
from atrc_exp.ops import registration  # noqa: F401  (defines the operators)

BORDERS = ("zero", "mask")
BACKENDS = ("auto", "cuda", "torch")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel_size: int = 9,
    border: str = "zero",
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attention of every pixel to the `kernel_size` x `kernel_size` pixels around it (ATRC, Eq. 4).

    Args:
        q: queries (B, C, H, W), from the target task's features.
        k: keys (B, C, H, W), from the source task's features.
        v: values (B, C, H, W), from the source task's features.
        kernel_size: side K of the square neighbourhood, odd.
        border: what a neighbour outside the image is. "zero": a pixel with k = v = 0, whose score 0 counts
            in the softmax (the published code). "mask": no pixel, left out of the softmax (Eq. 4 read
            literally).
        scale: factor on the scores q . k; None stands for 1 / sqrt(C).
        backend: "auto" takes compiled kernels where they can run, on CUDA devices and, for all dtypes but
            float64, on the CPU, and PyTorch elsewhere; "cuda" forces the CUDA kernels, "torch" PyTorch.

    Returns:
        (B, C, H, W), contiguous, of the inputs' dtype (of the autocast dtype inside `torch.autocast`).
        Scores, softmax and sums are float32 for 16-bit inputs. Differentiable once in q, k and v.

    Raises:
        UserError: shapes, dtypes or devices that differ or are not supported, an even kernel size, an unknown
            border or backend, a forced CUDA backend that cannot run, or a second derivative.
    """
    q, k, v = _autocast(q, k, v)
    _check_tensors(q, k, v)
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"local_attention: kernel_size is {kernel_size!r}; it must be an odd integer >= 1")
    if border not in BORDERS:
        raise UserError(f"local_attention: border is {border!r}; it must be one of {', '.join(BORDERS)}")
    if backend not in BACKENDS:
        raise UserError(f"local_attention: backend is {backend!r}; it must be one of {', '.join(BACKENDS)}")
    if backend == "cuda" and q.device.type != "cuda":
        raise UserError(f"local_attention: backend is 'cuda', but q is on {q.device}; move q, k and v to a CUDA device")
    if scale is None:
        scale = q.shape[1] ** -0.5
    elif not math.isfinite(scale):
        raise UserError(f"local_attention: scale is {scale!r}; it must be a finite number")
    out, _ = torch.ops.atrc_exp.local_attention_fwd(
        q.contiguous(), k.contiguous(), v.contiguous(), kernel_size, scale, border == "zero", backend
    )
    return out


def _autocast(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cast to the autocast dtype as PyTorch does for matrix products: never down from float64."""
    device = q.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return q, k, v
    if any(x.dtype not in DTYPES or x.dtype == torch.float64 for x in (q, k, v)):
        return q, k, v
    dtype = torch.get_autocast_dtype(device)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.dim() != 4 or min(q.shape[1:]) < 1:
        raise UserError(
            f"local_attention: q has shape {tuple(q.shape)}; it must be (B, C, H, W) with C, H, W at least 1"
        )
    if q.dtype not in DTYPES:
        allowed = ", ".join(str(dtype) for dtype in DTYPES)
        raise UserError(f"local_attention: q has dtype {q.dtype}; it must be one of {allowed}")
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape:
            raise UserError(
                f"local_attention: {name} has shape {tuple(x.shape)}; it must be that of q, {tuple(q.shape)}"
            )
        if x.dtype != q.dtype:
            raise UserError(
                f"local_attention: {name} has dtype {x.dtype}; it must be that of q, {q.dtype} "
                "(cast it, or call inside torch.autocast)"
            )
        if x.device != q.device:
            raise UserError(f"local_attention: {name} is on {x.device}; it must be on the device of q, {q.device}")
