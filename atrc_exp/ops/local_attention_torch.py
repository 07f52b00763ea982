"""Local attention in plain PyTorch: dense products of square tiles of queries with the windows around them.

It runs on every device and in float64, and it is what the compiled kernels fall back to. A tile of T x T pixels and the
(T + K - 1)^2 keys that any of them can see make one matrix product each for scores and output; of the scores, those
outside a pixel's own K x K window are masked out. That is about three times the arithmetic of the definition at K = 9,
done by matrix products instead of one pass over memory for each of the K * K neighbours.
Memory: windows are copied for one group of images at a time and scores live for a few tiles at a time; the backward
computes them again.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 8
_LOG2_E = math.log2(
    math.e
)  # exp2 takes the same time for all arguments; exp of what underflows takes up to 100 times as long
_SCORES = {"cpu": 2**19}  # at a time: what a core's cache holds
_SCORES_ELSEWHERE = 2**25  # few launches


class _Tiling:
    """Cuts maps of one size into tiles of queries (n, C, T * T) and windows of keys (n, C, (T + K - 1)^2)."""

    def __init__(self, x: Tensor, kernel_size: int, zero_border: bool) -> None:
        self.size = x.shape[2:]
        self.radius, self.window = kernel_size // 2, TILE + kernel_size - 1
        self.rows, self.columns = (-(-n // TILE) for n in self.size)
        self.count = self.rows * self.columns
        self.bias = self._bias(x, zero_border)
        scores = _SCORES.get(x.device.type, _SCORES_ELSEWHERE)
        self.at_a_time = max(1, scores // (TILE * self.window) ** 2)

    def _bias(self, x: Tensor, zero_border: bool) -> Tensor:
        """What to add to the scores (1 or tiles, window^2, T * T): 0, or a huge negative number where no key counts."""
        key, query = (torch.arange(n, device=x.device) for n in (self.window, TILE))
        offset = key[:, None] - query
        near = (offset >= 0) & (offset <= 2 * self.radius)  # (window, T)
        seen = (near[:, None, :, None] & near[None, :, None, :]).reshape(1, self.window**2, TILE**2)
        if not zero_border:
            seen = seen & self.windows(x.new_ones(1, 1, *self.size)).bool().mT
        # Finite, since tiles reach beyond the image, where nothing may be seen at all.
        return torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill_(~seen, torch.finfo(x.dtype).min)

    def groups(self, images: int) -> Iterator[slice]:
        """Images that are cut together: as many as fill one round of scores, at least one."""
        step = max(1, self.at_a_time // self.count)
        return (slice(start, min(start + step, images)) for start in range(0, images, step))

    def rounds(self, tiles: int) -> Iterator[tuple[slice, Tensor]]:
        """Tiles whose scores are computed together, and their bias."""
        for start in range(0, tiles, self.at_a_time):
            part = slice(start, min(start + self.at_a_time, tiles))
            if len(self.bias) == 1:
                yield part, self.bias
            else:
                yield part, self.bias[torch.arange(part.start, part.stop, device=self.bias.device) % self.count]

    def tiles(self, x: Tensor) -> Tensor:
        """Cut (B, C, H, W), filled up with zeros, to (B * tiles, C, T * T)."""
        return self._cut(x, 0, TILE)

    def windows(self, x: Tensor) -> Tensor:
        """Cut (B, C, H, W), surrounded by zeros, to (B * tiles, C, window^2)."""
        return self._cut(x, self.radius, self.window)

    def _cut(self, x: Tensor, margin: int, side: int) -> Tensor:
        bottom, right = self.rows * TILE - self.size[0], self.columns * TILE - self.size[1]
        padded = F.pad(x, (margin, right + margin, margin, bottom + margin))
        cut = padded.unfold(2, side, TILE).unfold(3, side, TILE)  # (B, C, rows, columns, side, side)
        return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], side * side)

    def from_tiles(self, tiles: Tensor) -> Tensor:
        """Put (B * tiles, C, T * T) together to (B, C, H, W)."""
        whole = tiles.unflatten(0, (-1, self.rows, self.columns)).unflatten(4, (TILE, TILE)).permute(0, 3, 1, 4, 2, 5)
        return whole.flatten(4, 5).flatten(2, 3)[..., : self.size[0], : self.size[1]]

    def from_windows(self, windows: Tensor) -> Tensor:
        """Add windows (B * tiles, C, window^2) up to (B, C, H, W); what lies outside the image is dropped."""
        parts = windows.unflatten(0, (-1, self.rows, self.columns)).unflatten(4, (self.window, self.window))
        parts = parts.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, window, columns, window)
        steps = -(-self.window // TILE)
        rows, columns = self.rows + steps, self.columns + steps
        total = windows.new_zeros(*parts.shape[:2], rows, TILE, columns, TILE)
        for i in range(steps):  # the i-th TILE rows of a window belong to the tile i rows further down
            for j in range(steps):
                part = parts[:, :, :, i * TILE : (i + 1) * TILE, :, j * TILE : (j + 1) * TILE]
                height, width = part.shape[3], part.shape[5]
                total[:, :, i : i + self.rows, :height, j : j + self.columns, :width] += part
        margin = self.radius
        whole = total.flatten(4, 5).flatten(2, 3)
        return whole[..., margin : margin + self.size[0], margin : margin + self.size[1]]


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool
) -> tuple[Tensor, Tensor]:
    """Attend; return the output (B, C, H, W) and the log-sum-exp of the scaled scores (B, H, W).

    Scores and sums are float32 for 16-bit inputs; so is the log-sum-exp, which the backward needs whole.
    """
    q32, k32, v32 = (_at_least_float32(x) for x in (q, k, v))
    out, lse = torch.empty_like(q), q32.new_empty(q.shape[0], 1, *q.shape[2:])
    tiling = _Tiling(q32, kernel_size, zero_border)
    with _full_precision(q.device):
        for images in tiling.groups(q.shape[0]):
            queries, keys = tiling.tiles(q32[images]), tiling.windows(k32[images])
            values = tiling.windows(v32[images])
            sums = queries.new_empty(len(queries), 1, TILE**2)
            for part, bias in tiling.rounds(len(queries)):
                p = torch.baddbmm(bias, keys[part].mT, queries[part], alpha=scale * _LOG2_E)
                most = p.amax(1, keepdim=True)
                total = p.sub_(most).exp2_().sum(1, keepdim=True)
                sums[part] = (most + total.log2()) / _LOG2_E
                queries[part] = (values[part] @ p) / total
            out[images] = tiling.from_tiles(queries)
            lse[images] = tiling.from_tiles(sums)
    return out, lse[:, 0]


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv), each (B, C, H, W), of sum(g * out).

    The weights are recomputed from `lse`, which carries the border mode: keys outside the image are zero, so that they
    add nothing to dq, and gradients into them are dropped.
    """
    g32, q32, k32, v32, out32 = (_at_least_float32(x) for x in (g, q, k, v, out))
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    tiling = _Tiling(q32, kernel_size, zero_border=True)
    with _full_precision(q.device):
        for images in tiling.groups(q.shape[0]):
            queries, gradients = tiling.tiles(q32[images]), tiling.tiles(g32[images])
            keys, values = tiling.windows(k32[images]), tiling.windows(v32[images])
            sums = tiling.tiles(lse[images, None]) * _LOG2_E
            delta = tiling.tiles((g32[images] * out32[images]).sum(1, keepdim=True))
            for part, bias in tiling.rounds(len(queries)):
                query, gradient, key, value = queries[part], gradients[part], keys[part], values[part]
                # No weight exceeds 1; where the mask left keys out of `lse`, theirs would, to infinity.
                scores = torch.baddbmm(bias, key.mT, query, alpha=scale * _LOG2_E)
                p = scores.sub_(sums[part]).clamp_(max=0).exp2_()
                ds = (value.mT @ gradient).sub_(delta[part]).mul_(p).mul_(scale)
                # The gradients take the place of what they were computed from.
                queries[part], keys[part], values[part] = key @ ds, query @ ds.mT, gradient @ p.mT
            dq[images], dk[images], dv[images] = (
                tiling.from_tiles(queries), tiling.from_windows(keys), tiling.from_windows(values)
            )  # fmt: skip
    return dq, dk, dv


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast, which reaches into an operator's body, would run the products in 16 bit."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
