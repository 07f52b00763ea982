"""The network and its parts; the three names here are stable imports.

They are loaded when they are asked for: `--help` reads the table of distillation modules without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atrc_exp.models.distillation.atrc import ATRC
    from atrc_exp.models.network import build_network
    from atrc_exp.models.search import SearchATRC

__all__ = ["ATRC", "SearchATRC", "build_network"]

_HOMES = {"ATRC": "distillation.atrc", "SearchATRC": "search", "build_network": "network"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
