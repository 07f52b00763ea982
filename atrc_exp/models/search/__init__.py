"""The search of the context types: the supergraph, which mixes candidates, and the strategies that train it."""

from atrc_exp.models.search.strategies.gumbel import ArchSample, gumbel_noise
from atrc_exp.models.search.supergraph import Mixture, SearchATRC

__all__ = ["ArchSample", "Mixture", "SearchATRC", "gumbel_noise"]
