"""The network and its parts; the three names here are stable imports."""

from atrc_exp.models.atrc import ATRC
from atrc_exp.models.network import build_network
from atrc_exp.models.search import SearchATRC

__all__ = ["ATRC", "SearchATRC", "build_network"]
