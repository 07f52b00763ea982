"""Bilinear resizing of maps, as everything in the network and its losses does it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size` (H, W) with pixel centres aligned at half integers."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def resize_backward(gradient: Tensor, like: Tensor) -> Tensor:
    """Gradient with respect to x, of the shape of `like`, from the `gradient` (B, C, H, W) of `resize(x, (H, W))`."""
    if gradient.shape == like.shape:
        return gradient
    backward = torch.ops.aten.upsample_bilinear2d_backward
    return backward(gradient, gradient.shape[-2:], like.shape, False, None, None)
