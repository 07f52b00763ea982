"""Local attention in float64 from its definition: unfold, an explicit mask of the image, softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor


def oracle(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, border: str, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Output (B, C, H, W) and log-sum-exp (B, H, W), both float64 and differentiable in q, k and v."""
    q, k, v = q.double(), k.double(), v.double()
    batch, channels, height, width = q.shape
    scale = channels**-0.5 if scale is None else scale

    def windows(x: Tensor) -> Tensor:
        columns = F.unfold(x, kernel_size, padding=kernel_size // 2)
        return columns.view(batch, x.shape[1], kernel_size**2, height, width)

    scores = scale * (q.unsqueeze(2) * windows(k)).sum(1)
    inside = windows(torch.ones_like(q[:, :1]))[:, 0]
    if border == "mask":
        scores = scores.masked_fill(inside == 0, -torch.inf)
    weights = scores.softmax(1)
    return (weights.unsqueeze(1) * windows(v)).sum(2), scores.logsumexp(1)
