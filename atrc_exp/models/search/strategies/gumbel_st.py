"""Straight-through Gumbel-softmax (Jang et al., "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from atrc_exp.models.search.architecture import Mixture
from atrc_exp.models.search.strategies.gumbel import ArchSample, GumbelSoftmax


@dataclass(frozen=True)
class StraightThroughSample(ArchSample):
    """The largest weight of the sample as 1, the others as 0, with the gradient of the soft weights (Sec. 2.2)."""

    def weights(self, logits: Tensor) -> Tensor:
        soft = super().weights(logits)
        hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft)
        return hard + (soft - soft.detach())  # the bracket is exactly zero


class StraightThrough(GumbelSoftmax):
    """The search of the paper, but with one candidate a block in the forward pass.

    All candidates are computed, since the gradient of a logit needs their outputs: a step costs as much as the mixture.
    """

    def mixture(self, temperature: float, noise: Tensor, known: tuple[int, ...]) -> Mixture:
        return StraightThroughSample(temperature, noise, chosen=known)
