"""Several 1x1 convolutions with batch norm as one product.

Weights and statistics are gathered from the layers, which keep them under their names, and what training leaves in the
statistics goes back to where it belongs.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from atrc_exp.models.layers import at_least_float32, full_precision

Norms = Sequence[nn.BatchNorm2d]


def conv_bn_of_each(layers: Sequence[nn.Sequential], x: Tensor) -> Tensor:
    """Apply Conv-BN pairs, each to its own part of (B, layers, C, n): (B, sum of D, n)."""
    convs, norms = zip(*layers, strict=True)
    weights = torch.stack([conv.weight.flatten(1) for conv in convs])
    return _batch_norm(norms, torch.matmul(weights, x).flatten(1, 2))


def conv_bn_of_one(layers: Sequence[nn.Sequential], x: Tensor) -> Tensor:
    """Apply Conv-BN pairs that all read the map (B, C, n): (B, sum of D, n).

    The output has many times the channels of x. It is normalised without being looked at: the mean of y = W x is
    W mean(x), its variance diag(W cov(x) W^T), and the product with scaled weights gives the normalised output at once.
    """
    convs, norms = zip(*layers, strict=True)
    weights = torch.cat([conv.weight.flatten(1) for conv in convs])
    if any(type(norm) is not nn.BatchNorm2d for norm in norms):  # as SyncBatchNorm, which has statistics of its own
        return _batch_norm(norms, torch.bmm(weights.expand(x.shape[0], -1, -1), x))
    with full_precision(x.device):
        x, gain, shift = _normalised(norms, weights, at_least_float32(x))
        # The shifts are the weights of a channel of ones, which saves passes over the output and its gradient.
        weights = torch.cat((weights * gain.unsqueeze(1), shift.unsqueeze(1)), 1)
        x = torch.cat((x, x.new_ones(x.shape[0], 1, x.shape[2])), 1)
    return torch.bmm(weights.expand(x.shape[0], -1, -1), x)


def _normalised(norms: Norms, weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The map (B, C, n) to multiply, and gain and shift (D,) of every output, that make weights @ x normalised."""
    gamma, beta = _gather(norms, "weight", 1.0), _gather(norms, "bias", 0.0)
    means, variances = ([getattr(norm, name) for norm in norms] for name in ("running_mean", "running_var"))
    if not norms[0].training:
        gain = gamma * (torch.cat(variances) + norms[0].eps).rsqrt()
        return x, gain, beta - gain * torch.cat(means)
    centre = x.mean((0, 2), keepdim=True)
    x = x - centre  # first, so that nothing cancels in the covariance
    count = x.shape[0] * x.shape[2]
    covariance = torch.bmm(x, x.mT).sum(0) / count
    variance = ((weights @ covariance) * weights).sum(1).clamp(min=0)
    with torch.no_grad():
        sizes, momentum = [norm.num_features for norm in norms], cast(float, norms[0].momentum)
        torch._foreach_lerp_(means, (weights @ centre[0, :, 0]).split(sizes), momentum)
        torch._foreach_lerp_(variances, (variance * (count / (count - 1))).split(sizes), momentum)
        torch._foreach_add_([cast(Tensor, norm.num_batches_tracked) for norm in norms], 1)
    return x, gamma * (variance + norms[0].eps).rsqrt(), beta


def _gather(norms: Norms, name: str, default: float) -> Tensor:
    """A parameter (sum of D,) of all norms; the default where a norm has none."""
    values = [getattr(norm, name) for norm in norms]
    like = next(value for value in values if value is not None)
    return torch.cat([like.new_full((norm.num_features,), default) if value is None else value
                      for norm, value in zip(norms, values, strict=True)])  # fmt: skip


def _batch_norm(norms: Norms, x: Tensor) -> Tensor:
    """Apply every batch norm to its own channels of (B, C, n), in one call, as channels have their own statistics.

    One of the norms is called with the tensors of all, so that evaluation, momentum and synchronisation over ranks stay
    the business of its class.
    """
    runner = next(norm for norm in norms if norm.affine)
    sizes = [norm.num_features for norm in norms]
    means, variances, counts = (
        [cast(Tensor, getattr(norm, name)) for norm in norms]
        for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    mean, variance, count = torch.cat(means), torch.cat(variances), cast(Tensor, runner.num_batches_tracked)
    counted = count.clone()
    tensors = {
        "weight": _gather(norms, "weight", 1.0),
        "bias": _gather(norms, "bias", 0.0),
        "running_mean": mean,
        "running_var": variance,
        "num_batches_tracked": counted,
    }
    out = functional_call(runner, tensors, (x.unsqueeze(3),)).squeeze(3)
    if runner.training:
        with torch.no_grad():
            torch._foreach_copy_(means, mean.split(sizes))
            torch._foreach_copy_(variances, variance.split(sizes))
            torch._foreach_add_(counts, [counted - count] * len(counts))
    return out
