"""DARTS: the plain softmax mixture (Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019)."""

from atrc_exp.models.search.architecture import Mixture
from atrc_exp.models.search.strategies.strategy import Draw, Strategy


class Darts(Strategy):
    """Every block mixes its candidates by their probabilities in every step, and ends as the most probable one (Eq. 2).

    Nothing is drawn, penalised or frozen. Weights and logits learn from the same batch (their xi = 0 on one set of
    images); in turns from two parts of the training images, as the paper's do, with `search.bilevel`. "none" can be
    chosen like any other candidate, which the paper leaves out at the end.
    """

    def draw(self, iteration: int) -> Draw:
        return Draw(Mixture(chosen=(-1,) * len(self.search.pairs)))
