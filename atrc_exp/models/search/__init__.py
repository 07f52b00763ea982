"""The search of the context types: the supergraph, which mixes candidates, and the strategies that train it."""

from atrc_exp.models.search.architecture import Architecture, Mixture
from atrc_exp.models.search.scaled import ScaledSearch
from atrc_exp.models.search.strategies.gumbel import ArchSample, gumbel_noise
from atrc_exp.models.search.supergraph import SearchATRC

__all__ = ["ArchSample", "Architecture", "Mixture", "ScaledSearch", "SearchATRC", "gumbel_noise"]
