"""The search of the paper: Gumbel-softmax, an entropy penalty, and blocks that freeze (Sec. 3.3, App. A)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.genotype import CONTEXTS
from atrc_exp.models.search.architecture import Architecture, Mixture
from atrc_exp.models.search.strategies.frozen import FrozenBlocks
from atrc_exp.models.search.strategies.strategy import Draw, Penalty, Strategy
from atrc_exp.schedules import linear

ENTROPY = "entropy"


@dataclass(frozen=True)
class ArchSample(Mixture):
    """A Gumbel-softmax sample: one draw of the architecture, relaxed by its temperature (Eq. 7)."""

    temperature: float
    """Temperature of the Gumbel-softmax, > 0."""
    noise: Tensor
    """Gumbel(0, 1) variables (blocks, contexts)."""

    def weights(self, logits: Tensor) -> Tensor:
        return ((logits + self.noise.to(logits)) / self.temperature).softmax(1)


def gumbel_noise(blocks: int, seed: int, step: int, contexts: int = len(CONTEXTS)) -> Tensor:
    """Gumbel(0, 1) noise (blocks, contexts) that depends on `seed` and `step` alone: equal on every rank and resume."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]))
    exponential = torch.empty(blocks, contexts, dtype=torch.float64).exponential_(generator=generator)
    return -exponential.log().float()


class GumbelSoftmax(Strategy):
    """Samples become harder while the temperature falls; a block whose most probable context leads is frozen.

    The penalty is the mean entropy of the blocks' probabilities. Its weight rises from below zero, where it keeps the
    choice open, to above.
    """

    penalties = (ENTROPY,)

    def __init__(self, config: Config, search: Architecture) -> None:
        super().__init__(config, search)
        self.frozen = FrozenBlocks()

    def draw(self, iteration: int) -> Draw:
        settings, iterations = self.config.search, self.config.engine.iterations
        temperature = linear(iteration, iterations, *settings.temperature)
        entropy_weight = linear(iteration, iterations, *settings.entropy)
        # A block that freezes now is known to be frozen, and its other candidates are left out, from the next step on.
        known = self.frozen.known(self.search.frozen)
        self.search.freeze_converged(settings.freeze_gap)
        self.frozen.send(self.search.frozen)
        noise = gumbel_noise(len(self.search.frozen), self.config.seed, iteration, len(self.search.types))
        return Draw(
            self.mixture(temperature, noise, known),
            {ENTROPY: Penalty(entropy_weight, self.search.entropy)},
            {"temperature": temperature, "entropy_weight": entropy_weight},
        )

    def mixture(self, temperature: float, noise: Tensor, known: tuple[int, ...]) -> Mixture:
        """The sample of a step; `known` are the blocks that the host knows to be frozen."""
        return ArchSample(temperature, noise, chosen=known)

    def resumed(self) -> None:
        self.frozen = FrozenBlocks()
