"""Weights of the tasks from the inner products of their gradients, by the library TorchJD, an optional extra."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from atrc_exp.config import BalanceConfig
from atrc_exp.errors import UserError

if TYPE_CHECKING:
    from torchjd.aggregation import Weighting

Weigh = Callable[[Tensor], Tensor]


class Aggregator(NamedTuple):
    """A method that combines the gradients of K tasks with weights that it takes from their Gramian alone."""

    build: Callable[[Any, BalanceConfig], "Weighting"]
    """From the module `torchjd.aggregation`."""
    scale: Weigh
    """Brings its weights to where equal ones, all 1, are the plain sum of the gradients."""
    packages: str = "'atrc_exp[balance]'"
    """What pip is asked for where a package is missing; TorchJD's own hints name extras that not every pip finds."""


def _of_the_sum(weights: Tensor) -> Tensor:
    return weights


def _of_the_mean(weights: Tensor) -> Tensor:
    return len(weights) * weights


def _of_a_direction(weights: Tensor) -> Tensor:
    return len(weights) * weights / weights.sum()


AGGREGATORS: dict[str, Aggregator] = {
    "upgrad": Aggregator(lambda jd, _: jd.UPGradWeighting(), _of_the_mean),
    "pcgrad": Aggregator(lambda jd, _: jd.PCGradWeighting(), _of_the_sum),
    "cagrad": Aggregator(
        lambda jd, config: jd.CAGradWeighting(config.cagrad_c), _of_the_mean, "'atrc_exp[balance]' 'torchjd[cagrad]'"
    ),
    "mgda": Aggregator(lambda jd, _: jd.MGDAWeighting(), _of_the_mean),
    # With alpha = 1 the condition of FairGrad is that of Nash-MTL, G w = 1 / w. TorchJD's NashMTL needs a large convex
    # solver, and keeps the weights it had, without a word, where that fails.
    "nash_mtl": Aggregator(lambda jd, _: jd.FairGradWeighting(alpha=1.0), _of_a_direction),
    "aligned_mtl": Aggregator(lambda jd, _: jd.AlignedMTLWeighting(), _of_the_mean),
    "imtl_g": Aggregator(lambda jd, _: jd.IMTLGWeighting(), _of_the_mean),
}
"""By the name that `balance.aggregator` gives."""


def build_aggregator(config: BalanceConfig) -> Weigh:
    """The function from the Gramian (K, K) of the tasks' gradients, in float64 on the CPU, to their weights (K,).

    A task without a gradient, or with one that is not finite, takes no part and has weight 0.

    Raises:
        UserError: a package is missing.
    """
    aggregator = AGGREGATORS[config.aggregator]
    try:
        from torchjd import aggregation

        weighting = aggregator.build(aggregation, config)  # some need packages beside TorchJD
    except ImportError:
        raise UserError(
            f"balance.aggregator={config.aggregator} needs packages that are not installed: "
            f"pip install {aggregator.packages} brings what is missing"
        ) from None

    def weigh(gramian: Tensor) -> Tensor:
        squares = gramian.diagonal()
        given = ((squares > 0) & squares.isfinite()).nonzero().flatten()
        weights = torch.zeros_like(squares)
        if len(given):
            # TorchJD takes squared norms below 1e-4 for zero; those of means over many pixels are much smaller.
            gramian = gramian[given][:, given] / squares[given].mean()
            weights[given] = aggregator.scale(weighting(gramian))
        return weights

    return weigh
