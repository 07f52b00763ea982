"""Other ways to the same local attention (border "zero"), for the benchmark. Each maps q, k, v to out."""

import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atrc_exp.ops import local_attention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Builder = Callable[[torch.Size, int, torch.device], Attention]


def ours(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """The operator itself, on the backend that it chooses."""
    return lambda q, k, v: local_attention(q, k, v, kernel_size)


def unfold(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """Copy every window: two tensors of K*K times the size of a map."""
    batch, channels, height, width = shape

    def windows(x: Tensor) -> Tensor:
        columns = F.unfold(x, kernel_size, padding=kernel_size // 2)
        return columns.view(batch, channels, kernel_size**2, height, width)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q.unsqueeze(2) * windows(k)).sum(1) * channels**-0.5
        return (scores.softmax(1).unsqueeze(1) * windows(v)).sum(2)

    return attend


def shift_loop(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """A loop over the K*K shifts of padded maps, differentiated by autograd."""
    _, channels, height, width = shape
    radius = kernel_size // 2

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = F.pad(k, [radius] * 4), F.pad(v, [radius] * 4)
        shifts = [(y, x) for y in range(kernel_size) for x in range(kernel_size)]
        scores = [(q * keys[..., y : y + height, x : x + width]).sum(1) for y, x in shifts]
        weights = (torch.stack(scores, 1) * channels**-0.5).softmax(1)
        out = torch.zeros_like(q)
        for j, (y, x) in enumerate(shifts):
            out = out + weights[:, j : j + 1] * values[..., y : y + height, x : x + width]
        return out

    return attend


def shift_loop_compiled(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """The shift loop through `torch.compile`: the strongest rival that needs no kernel written by hand."""
    return torch.compile(shift_loop(shape, kernel_size, device), fullgraph=True)


def three_steps(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """Similarity, softmax, weighting: the published code's steps, through float32 maps (B, H, W, K*K)."""
    _, channels, height, width = shape
    radius = kernel_size // 2

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q32, k32, v32 = q.float(), k.float(), v.float()
        keys, values = F.pad(k32, [radius] * 4), F.pad(v32, [radius] * 4)
        shifts = [(y, x) for y in range(kernel_size) for x in range(kernel_size)]
        similarity = torch.stack([(q32 * keys[..., y : y + height, x : x + width]).sum(1) for y, x in shifts], dim=-1)
        weights = (similarity * channels**-0.5).softmax(-1)
        out = torch.zeros_like(q32)
        for j, (y, x) in enumerate(shifts):
            out = out + weights[..., j].unsqueeze(1) * values[..., y : y + height, x : x + width]
        return out.to(q.dtype)

    return attend


def flex_attention(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """Compiled FlexAttention, block mask over pixels in raster order; keys and values padded by zeros."""
    from torch.nn.attention.flex_attention import create_block_mask
    from torch.nn.attention.flex_attention import flex_attention as flex

    _, _, height, width = shape
    radius = kernel_size // 2
    padded_width = width + 2 * radius
    n_keys = (height + 2 * radius) * padded_width

    def in_window(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        dy, dx = key // padded_width - query // width, key % padded_width - query % width
        return (dy >= 0) & (dy < kernel_size) & (dx >= 0) & (dx < kernel_size)

    mask = torch.compile(create_block_mask)(in_window, None, None, height * width, n_keys, device=device)
    compiled = torch.compile(flex, fullgraph=True)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (_tokens(F.pad(x, [radius] * 4)) for x in (k, v))
        return _image(compiled(_tokens(q), keys, values, block_mask=mask), q.shape)

    return attend


def masked_sdpa(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """Scaled dot-product attention, boolean mask of all pairs of pixels; keys and values padded by zeros."""
    _, _, height, width = shape
    radius = kernel_size // 2
    padded_width = width + 2 * radius
    query = torch.arange(height * width, device=device)[:, None]
    key = torch.arange((height + 2 * radius) * padded_width, device=device)[None]
    dy, dx = key // padded_width - query // width, key % padded_width - query % width
    mask = (dy >= 0) & (dy < kernel_size) & (dx >= 0) & (dx < kernel_size)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (_tokens(F.pad(x, [radius] * 4)) for x in (k, v))
        return _image(F.scaled_dot_product_attention(_tokens(q), keys, values, attn_mask=mask), q.shape)

    return attend


def natten(shape: torch.Size, kernel_size: int, device: torch.device) -> Attention:
    """NATTEN on padded maps, cropped: its windows move inward at the border, which the padding keeps away."""
    if importlib.util.find_spec("natten") is None:
        raise RuntimeError("natten is not installed")
    from natten import na2d

    radius = kernel_size // 2

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (F.pad(x, [radius] * 4).permute(0, 2, 3, 1).unsqueeze(3).contiguous() for x in (q, k, v))
        out = na2d(q, k, v, kernel_size=kernel_size).squeeze(3).permute(0, 3, 1, 2)
        return out[..., radius : out.shape[2] - radius, radius : out.shape[3] - radius].contiguous()

    return attend


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1 head, H * W, C)."""
    return x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()


def _image(x: Tensor, shape: torch.Size) -> Tensor:
    return x.squeeze(1).transpose(1, 2).reshape(shape).contiguous()


RIVALS: dict[str, Builder] = {
    "ours": ours,
    "unfold": unfold,
    "three steps": three_steps,
    "shift loop": shift_loop,
    "shift loop, compiled": shift_loop_compiled,
    "flex_attention, compiled": flex_attention,
    "SDPA, dense mask": masked_sdpa,
    "NATTEN, padded": natten,
}
# Compilers and dense masks take minutes or gigabytes on a CPU and say nothing about our CPU path.
CPU_RIVALS = ("ours", "unfold", "three steps", "shift loop")
