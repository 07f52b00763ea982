"""Cross-entropy of class logits that are smaller than their labels, without class maps at the labels' size.

The logits of a few images at a time are resized, and their gradient is computed at once, in the forward pass: what is
kept for the backward pass is a gradient of the size of the logits. For 40 classes at 425 x 560 the resized logits alone
of eight images would take 305 MB for every task and auxiliary map, and automatic differentiation keeps several copies.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from atrc_exp.resizing import resize, resize_backward
from atrc_exp.tasks import IGNORE

_AT_A_TIME = {"cpu": 2**19}  # values of resized logits: what a core's cache holds
_AT_A_TIME_ELSEWHERE = 2**26  # few launches


def cross_entropy(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy summed over labelled pixels, of logits resized bilinearly to the label.

    Pixels without a label take no part in value or gradient, even where the resized logits are not finite.

    Args:
        logits: (B, C, h, w), in at least single precision.
        label: (B, H, W) integers, 255 unlabelled.
        weights: (B, H, W), not differentiated; None weights all pixels equally.
    """
    return _ResizedCrossEntropy.apply(logits, label, weights)


class _ResizedCrossEntropy(torch.autograd.Function):
    """The sum, and its gradient kept from the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, weights: Tensor | None) -> Tensor:
        size = label.shape[-2:]
        values = _AT_A_TIME.get(logits.device.type, _AT_A_TIME_ELSEWHERE)
        step = max(1, values // (logits.shape[1] * size.numel()))
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = logits.new_zeros(())
        for start in range(0, len(logits), step):
            part = slice(start, start + step)
            # Channels last: resizing is several times as fast on the CPU, and classes lie side by side.
            small = logits[part].contiguous(memory_format=torch.channels_last)
            valid = (label[part] != IGNORE).unsqueeze(3)
            index = label[part].long().unsqueeze(3).masked_fill(~valid, 0)
            weight = valid.to(logits) if weights is None else (weights[part].unsqueeze(3) * valid)
            resized = resize(small, size)
            scores = (small.clone() if resized is small else resized).permute(0, 2, 3, 1)
            scores -= scores.amax(3, keepdim=True)
            picked = scores.gather(3, index)
            e = scores.exp_()
            normaliser = e.sum(3, keepdim=True)
            log_p = picked - normaliser.log()
            total -= (log_p * weight).masked_fill_(~valid, 0).sum()
            if gradient is not None:
                # Where nothing is labelled the factor is 0, which NaN must not meet; elsewhere it is NaN itself then.
                e.nan_to_num_(nan=0.0).mul_((weight / normaliser).masked_fill_(~valid, 0))
                e.scatter_(3, index, (weight * log_p.expm1()).masked_fill_(~valid, 0))  # probability - 1
                gradient[part] = resize_backward(e.permute(0, 3, 1, 2), small)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else gradient * upstream[0], None, None
