"""Compilation of kernels by numba. Only modules of kernels import it, so that numba loads where it is needed."""

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.typing import Signature

log = logging.getLogger(__name__)


def compiled(signature: str | Signature) -> Callable[[Callable], Any]:
    """Compile for one signature, without the interpreter lock, and keep the machine code in numba's cache.

    Compiling at import, not at the first call, brings every failure of the cache (no writable folder, disk
    full) to this one place; the code is then compiled for this process only.
    """

    def decorate(function: Callable) -> Any:
        try:
            return njit(signature, nogil=True, cache=True)(function)
        except (RuntimeError, OSError) as error:
            log.debug("%s is compiled without a cache: %s", function.__name__, error)
            return njit(signature, nogil=True)(function)

    return decorate
