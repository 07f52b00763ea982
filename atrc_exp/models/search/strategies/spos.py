"""SPOS: uniform single paths, then evolution (Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform
Sampling", ECCV 2020)."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from atrc_exp.models.search.strategies.paths import SinglePaths, fresh, uniform_path
from atrc_exp.models.search.strategies.strategy import SinglePath


class SinglePathOneShot(SinglePaths):
    """Train uniform paths, then look for the path of lowest held-out loss by evolution (their Algorithm 1)."""

    def choose(self, score: Callable[[SinglePath], float]) -> SinglePath:
        settings = self.config.search
        return evolve(
            self.candidates,
            score,
            population=settings.population,
            generations=settings.generations,
            mutation=settings.mutation,
            generator=self.choice_generator(),
        )


def evolve(
    candidates: Sequence[Sequence[int]],
    score: Callable[[SinglePath], float],
    *,
    population: int,
    generations: int,
    mutation: float,
    generator: np.random.Generator,
) -> SinglePath:
    """The path of lowest score among at most `population` * (1 + `generations`), each of them scored once.

    The first paths are uniform. In each generation the best `population` / 2 of all so far are parents: half of the
    children take each block from one of two parents, the others are a parent whose blocks are drawn anew with
    probability `mutation` each.

    Args:
        candidates: context indices by block.
    """
    uniform = partial(uniform_path, candidates, generator)
    scores = {path: score(path) for path in fresh(uniform, population, ())}
    for _ in range(generations):
        parents = sorted(scores, key=scores.__getitem__)[: max(population // 2, 1)]
        children = fresh(partial(_crossed, parents, generator), population // 2, scores)
        known = {*scores, *children}
        children += fresh(partial(_mutated, parents, uniform, mutation, generator), population - len(children), known)
        scores |= {path: score(path) for path in children}
    return min(scores, key=scores.__getitem__)


def _crossed(parents: Sequence[SinglePath], generator: np.random.Generator) -> SinglePath:
    first, second = _drawn(parents, generator), _drawn(parents, generator)
    return tuple(pair[generator.integers(2)] for pair in zip(first, second, strict=True))


def _mutated(
    parents: Sequence[SinglePath], uniform: Callable[[], SinglePath], probability: float, generator: np.random.Generator
) -> SinglePath:
    old, new = _drawn(parents, generator), uniform()
    anew = generator.random(len(old)) < probability
    return tuple(np.where(anew, new, old).tolist())


def _drawn(parents: Sequence[SinglePath], generator: np.random.Generator) -> SinglePath:
    return parents[int(generator.integers(len(parents)))]
