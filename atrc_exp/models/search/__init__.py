"""The search of the context types: the supergraph, which mixes candidates, and the strategies that train it."""

from atrc_exp.models.search.supergraph import ArchSample, SearchATRC, gumbel_noise

__all__ = ["ArchSample", "SearchATRC", "gumbel_noise"]
