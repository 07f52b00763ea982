"""Random search, the baseline of every other strategy (Li & Talwalkar, "Random Search and Reproducibility for Neural
Architecture Search", UAI 2019)."""

from collections.abc import Callable
from functools import partial

from atrc_exp.models.search.strategies.paths import SinglePaths, fresh, uniform_path
from atrc_exp.models.search.strategies.strategy import SinglePath


class RandomSearch(SinglePaths):
    """Random search with weight-sharing: train uniform paths, then take the best of random ones.

    It differs from `SinglePathOneShot` in nothing but the paths that are scored: as many as evolution may score, drawn
    at once.
    """

    def choose(self, score: Callable[[SinglePath], float]) -> SinglePath:
        number = self.config.search.population * (1 + self.config.search.generations)
        return min(fresh(partial(uniform_path, self.candidates, self.choice_generator()), number, ()), key=score)
