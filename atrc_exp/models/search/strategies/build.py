"""Search strategies by name: a new one is a file here and an entry of the table."""

import difflib

from atrc_exp.config import Config
from atrc_exp.config.checks import require
from atrc_exp.errors import UserError
from atrc_exp.models.network import Network
from atrc_exp.models.search.strategies.darts import Darts
from atrc_exp.models.search.strategies.gumbel import GumbelSoftmax
from atrc_exp.models.search.strategies.gumbel_st import StraightThrough
from atrc_exp.models.search.strategies.random_search import RandomSearch
from atrc_exp.models.search.strategies.resources import ResourceAware
from atrc_exp.models.search.strategies.spos import SinglePathOneShot
from atrc_exp.models.search.strategies.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "gumbel": GumbelSoftmax,
    "gumbel_st": StraightThrough,
    "darts": Darts,
    "spos": SinglePathOneShot,
    "random": RandomSearch,
}
"""Choices of `search.strategy`."""


def build_strategy(config: Config, network: Network) -> Strategy | None:
    """The strategy that `search.strategy` names, for a search network; None for a fixed one.

    Raises:
        UserError: an unknown name, `search.keep` or `search.bilevel` where there are no probabilities, or what
            `ResourceAware` refuses.
    """
    if network.search is None:
        return None
    name = config.search.strategy
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"search.strategy={name}: must be one of {', '.join(STRATEGIES)}{hint}")
    strategy = STRATEGIES[name](config, network.search)
    without = f"for search.strategy={name}, which learns no probabilities"
    require(strategy.learns or config.search.keep is None, "search.keep", config.search.keep, f"null {without}")
    require(strategy.learns or not config.search.bilevel, "search.bilevel", "true", f"false {without}")
    return ResourceAware(config, network, strategy) if config.search.resource_weight else strategy
