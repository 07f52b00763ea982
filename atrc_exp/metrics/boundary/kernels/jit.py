"""Compilation of kernels by numba. Only modules of kernels import it, so that numba loads where it is needed."""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
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
            kernel: Any = njit(nogil=True, cache=True)(function)
            # The machine code contains that of the kernels it calls, but numba asks for the function's own file only.
            kernel._cache._cache_file._version += _digest(Path(function.__code__.co_filename).parent)
            kernel.compile(signature)
        except (RuntimeError, OSError, AttributeError) as error:  # the last where a numba has another cache
            log.debug("%s is compiled without a cache: %s", function.__name__, error)
            return njit(signature, nogil=True)(function)
        kernel.disable_compile()
        return kernel

    return decorate


@cache
def _digest(folder: Path) -> str:
    """Return what changes with any module of a folder."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()
