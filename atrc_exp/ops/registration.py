"""Local attention as two `torch.library` operators: one node for autograd, compile, export and FLOP counting.

`torch.ops.atrc_exp.local_attention_fwd` and `..._bwd` are the keys of `torch.utils.flop_counter`. They are
defined by schema rather than by `torch.library.custom_op`, whose first call imports the compiler (seconds,
which an evaluation on a laptop would pay for nothing).
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from atrc_exp.errors import UserError
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.ops import local_attention_cpu, local_attention_cuda, local_attention_torch

FORWARD = "atrc_exp::local_attention_fwd"
BACKWARD = "atrc_exp::local_attention_bwd"
# "cuda", "cpu-compiled" or "torch", in this process: runs record it, as one may be ten times as fast as another.
forms_that_ran: set[str] = set()

torch.library.define(
    FORWARD,
    "(Tensor q, Tensor k, Tensor v, int kernel_size, float scale, bool zero_border, str backend)"
    " -> (Tensor out, Tensor lse)",
)
torch.library.define(
    BACKWARD,
    "(Tensor g, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, int kernel_size, float scale,"
    " str backend) -> (Tensor dq, Tensor dk, Tensor dv)",
)


def _forward_torch(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool, backend: str
) -> tuple[Tensor, Tensor]:
    forms_that_ran.add("torch")
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return local_attention_torch.forward(q, k, v, kernel_size, scale, zero_border)


def _backward_torch(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    kernel_size: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    forms_that_ran.add("torch")
    g, q, k, v, out = (x.contiguous() for x in (g, q, k, v, out))
    return local_attention_torch.backward(g, q, k, v, out, lse, kernel_size, scale)


def _forward_cpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _compiled_on_cpu(local_attention_cpu.forward, _forward_torch, *arguments)


def _backward_cpu(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _compiled_on_cpu(local_attention_cpu.backward, _backward_torch, *arguments)


def _compiled_on_cpu(compiled: Callable, plain: Callable, *arguments: Any) -> Any:
    *operands, backend = arguments
    if backend != "torch" and operands[0].dtype != torch.float64:
        try:
            result = compiled(*operands)
        except Unsupported as reason:
            _warn_once("compiled CPU", str(reason))
        else:
            forms_that_ran.add("cpu-compiled")
            return result
    return plain(*arguments)


def _forward_cuda(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool, backend: str
) -> tuple[Tensor, Tensor]:
    if backend != "torch":
        try:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
            result = local_attention_cuda.forward(q, k, v, kernel_size, scale, zero_border)
        except Unsupported as reason:
            _fall_back(str(reason), backend)
        else:
            forms_that_ran.add("cuda")
            return result
    return _forward_torch(q, k, v, kernel_size, scale, zero_border, backend)


def _backward_cuda(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    kernel_size: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    if backend != "torch":
        try:
            g, q, k, v, out, lse = (x.contiguous() for x in (g, q, k, v, out, lse))
            result = local_attention_cuda.backward(g, q, k, v, out, lse, kernel_size, scale)
        except Unsupported as reason:
            _fall_back(str(reason), backend)
        else:
            forms_that_ran.add("cuda")
            return result
    return _backward_torch(g, q, k, v, out, lse, kernel_size, scale, backend)


def _fall_back(reason: str, backend: str) -> None:
    if backend == "cuda":
        raise UserError(
            f"local_attention: backend is 'cuda', and the CUDA kernels cannot run: {reason}. "
            "backend='auto' or 'torch' takes PyTorch instead"
        )
    _warn_once("CUDA", reason)


@cache
def _warn_once(kernels: str, reason: str) -> None:
    warnings.warn(f"local_attention runs in PyTorch, as the {kernels} kernels cannot: {reason}", stacklevel=2)


@torch.library.register_fake(FORWARD)
def _forward_fake(q: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    batch, _, height, width = q.shape
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty((batch, height, width), dtype=lse_dtype)


@torch.library.register_fake(BACKWARD)
def _backward_fake(g: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.kernel_size, ctx.scale, _zero_border, ctx.backend = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # else every backward fills a map of zeros for `lse`


def _differentiate(ctx: Any, g: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if g is None:
        return (None,) * 7
    gradients = torch.ops.atrc_exp.local_attention_bwd(g, *ctx.saved_tensors, ctx.kernel_size, ctx.scale, ctx.backend)
    return *gradients, None, None, None, None


def _no_second_derivative(ctx: Any, *_: Tensor) -> None:
    raise UserError(
        "local_attention: its gradient was differentiated again (create_graph=True); only first "
        "derivatives are available. Call backward() or torch.autograd.grad() with create_graph=False"
    )


torch.library.impl(FORWARD, "default", _forward_torch)
torch.library.impl(BACKWARD, "default", _backward_torch)
torch.library.impl(FORWARD, "cpu", _forward_cpu)
torch.library.impl(BACKWARD, "cpu", _backward_cpu)
torch.library.impl(FORWARD, "cuda", _forward_cuda)
torch.library.impl(BACKWARD, "cuda", _backward_cuda)
torch.library.register_autograd(FORWARD, _differentiate, setup_context=_setup_context)
torch.library.register_autograd(BACKWARD, _no_second_derivative)


@register_flop_formula(torch.ops.atrc_exp.local_attention_fwd)
def _forward_flops(q_shape: torch.Size, *rest: Any, **_: Any) -> int:
    """Two products (q . k and p v) of one multiply-add, or two FLOPs, a channel, neighbour and pixel."""
    kernel_size = rest[2]
    return 2 * 2 * kernel_size**2 * q_shape.numel()


@register_flop_formula(torch.ops.atrc_exp.local_attention_bwd)
def _backward_flops(g_shape: torch.Size, *rest: Any, **_: Any) -> int:
    """Five products: the scores once more, dP, dQ, dK and dV, as PyTorch counts its own fused attention."""
    kernel_size = rest[5]
    return 5 * 2 * kernel_size**2 * g_shape.numel()
