"""Names of the operations of a run that had no deterministic form, for its record (`engine.deterministic`)."""

import re
import warnings
from typing import Any

import torch

_ALERT = re.compile(r"^(\S+) does not have a deterministic implementation")


class NondeterministicOperations(warnings.catch_warnings):
    """While it is entered, this takes PyTorch's warnings about such operations off the console and keeps their names.

    Attributes:
        names: operations met so far, sorted.
    """

    def __init__(self) -> None:
        super().__init__(record=False)
        self._found: set[str] = set()

    @property
    def names(self) -> list[str]:
        return sorted(self._found)

    def __enter__(self) -> "NondeterministicOperations":  # type: ignore[override]
        super().__enter__()
        show = warnings.showwarning

        def keep_or_show(message: Warning | str, *arguments: Any, **options: Any) -> None:
            if found := _ALERT.match(str(message)):
                self._found.add(found.group(1))
            else:
                show(message, *arguments, **options)  # type: ignore[arg-type]

        warnings.showwarning = keep_or_show
        if torch.are_deterministic_algorithms_enabled():
            warnings.filterwarnings("always", message=_ALERT.pattern)
        return self
