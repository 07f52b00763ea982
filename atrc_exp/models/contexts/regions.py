"""Label regions as densities over the positions, and the prototypes that they make (Sec. 3.2.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from atrc_exp.models.layers import at_least_float32, full_precision, positions


def spatial_softmax(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Turn label logits (B, R, h, w) into one probability density over the positions per label (Sec. 3.2.3).

    Positions where `valid` (B, 1, h, w) is False get density 0; an image without valid positions gets an even density.
    """
    with full_precision(logits.device):
        logits = at_least_float32(logits)
        if valid is not None:
            logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
        return logits.flatten(2).softmax(2).view_as(logits)


def region_densities(regions: Tensor, number: int, size: tuple[int, int] | torch.Size) -> Tensor:
    """Densities (B, number, h, w) of labelled regions: even over the pixels of a region, 0 elsewhere (App. E).

    They take the place of the spatial softmax of predicted regions. A region without pixels is 0 everywhere.

    Args:
        regions: region (B, H, W) of every pixel; values outside of 0..number - 1 are in none.
        size: (h, w), to which the regions are brought by nearest neighbour.
    """
    nearest = F.interpolate(regions.unsqueeze(1).float(), size=size, mode="nearest")
    members = (nearest == torch.arange(number, device=regions.device).view(1, -1, 1, 1)).float()
    return members / members.sum((2, 3), keepdim=True).clamp(min=1)


def region_means(source: Tensor, regions: Tensor) -> Tensor:
    """Prototypes (B, C, R, 1): means of `source` (B, C, h, w) under the densities `regions` (B, R, h, w)."""
    with full_precision(source.device):
        features = positions(source)  # (B, C, n)
        densities = positions(regions).to(features).transpose(1, 2)  # (B, n, R)
        return (features @ densities).unsqueeze(3)
