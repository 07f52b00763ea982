"""What strategies share that train single paths of the supergraph and choose one of them afterwards."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from atrc_exp.config import Config
from atrc_exp.genotype import Genotype
from atrc_exp.models.search.architecture import Architecture, Mixture
from atrc_exp.models.search.strategies.strategy import Draw, SinglePath, Strategy

_TRAINING, _CHOICE = 0, 1  # first element of a seed: keeps the streams of random numbers apart
_ATTEMPTS = 100  # proposals for each new path that is asked for


class SinglePaths(Strategy):
    """Each step trains one path, a candidate for every block, drawn uniformly and the same on all ranks.

    The logits take no part. Until the choice after the last step nothing is chosen: validations on the way, and the
    genotype that stands beside them, are of the path without contexts.
    """

    learns = False
    chooses = True

    def __init__(self, config: Config, search: Architecture) -> None:
        super().__init__(config, search)
        self.candidates = [[search.types.index(name) for name in search.candidates[t][s]] for t, s in search.pairs]

    def draw(self, iteration: int) -> Draw:
        generator = np.random.default_rng((_TRAINING, self.config.seed, iteration))
        return Draw(Mixture(chosen=uniform_path(self.candidates, generator)))

    def choice_generator(self) -> np.random.Generator:
        """Random numbers of the choice, which depend on the seed alone."""
        return np.random.default_rng((_CHOICE, self.config.seed))

    def genotype(self) -> Genotype:
        genotype = super().genotype()
        details = {key: value for key, value in genotype.details.items() if key != "probabilities"}
        return Genotype(genotype.tasks, genotype.blocks, details)

    def record(self) -> dict[str, Any]:
        return {}


def uniform_path(candidates: Sequence[Sequence[int]], generator: np.random.Generator) -> SinglePath:
    """A path whose blocks take each of their candidates (context indices by block) with equal probability."""
    return tuple(int(generator.choice(block)) for block in candidates)


def fresh(propose: Callable[[], SinglePath], number: int, known: Container[SinglePath]) -> list[SinglePath]:
    """Up to `number` distinct proposals that are not `known`; fewer where new ones have become rare."""
    found: dict[SinglePath, None] = {}
    for _ in range(_ATTEMPTS * number):
        if len(found) == number:
            break
        path = propose()
        if path not in known:
            found[path] = None
    return list(found)
