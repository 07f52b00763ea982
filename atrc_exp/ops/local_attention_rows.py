"""Local attention by standard operators, one row of the window after another: what exported programs run.

It writes nothing in place and loops over no batch, so that it can be traced for every batch size and translated to
ONNX. Training and evaluation use the tiled form of `local_attention_torch`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, scale: float, zero_border: bool, backend: str = "torch"
) -> tuple[Tensor, Tensor]:
    """Output (B, C, H, W) and log-sum-exp of the scaled scores (B, H, W), as `atrc_exp::local_attention_fwd`."""
    radius, height = kernel_size // 2, q.shape[2]

    def rows(x: Tensor) -> list[Tensor]:
        """Neighbours (B, C, H, W, kernel_size) of every pixel, from the upper row of its window to the lower one."""
        padded = F.pad(x, (radius,) * 4)
        return [padded[:, :, y : y + height].unfold(3, kernel_size, 1) for y in range(kernel_size)]

    scores = torch.cat([(q.unsqueeze(4) * row).sum(1) for row in rows(k)], 3) * scale
    if not zero_border:
        inside = torch.cat(rows(torch.ones_like(q[:1, :1])), 4)[:, 0]
        scores = scores.masked_fill(inside == 0, -torch.inf)
    weights = scores.softmax(3).unsqueeze(1).split(kernel_size, 4)
    terms = [(weight * row).sum(4) for weight, row in zip(weights, rows(v), strict=True)]
    return sum(terms[1:], terms[0]), scores.logsumexp(3)
