"""The few calls of the CUDA driver that loading and launching need, with nothing but ctypes between.

What the driver answers is told apart here: `Unsupported` where it can never run the code, `DriverError` (or
`torch.OutOfMemoryError`) where something has gone wrong, which no slower form of the operation may hide.
"""

import ctypes
import struct
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache

import torch

from atrc_exp.kernels.plan import Unsupported

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_SIGNATURES = {
    "cuCtxGetCurrent": [POINTER(c_void_p)],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
    "cuLibraryLoadData": [POINTER(c_void_p), c_char_p, c_void_p, c_void_p, c_uint, c_void_p, c_void_p, c_uint],
    "cuLibraryGetKernel": [POINTER(c_void_p), c_void_p, c_char_p],
    "cuKernelGetFunction": [POINTER(c_void_p), c_void_p],
    "cuFuncSetAttribute": [c_void_p, c_int, c_int],
    "cuLaunchKernel": [c_void_p, *7 * [c_uint], c_void_p, c_void_p, c_void_p],
}
# Numbers of cuda.h.
_OUT_OF_MEMORY = 2
# Invalid image, no binary for this GPU, invalid PTX, no compiler of PTX, PTX too new, that compiler off, not supported.
_NEVER = (200, 209, 218, 221, 222, 223, 801)
_MAX_DYNAMIC_SHARED_SIZE_BYTES, _PREFERRED_SHARED_MEMORY_CARVEOUT = 8, 9
_BUFFER_POINTER, _BUFFER_SIZE = 1, 2


class DriverError(RuntimeError):
    """The CUDA driver refused a call, or reports the failure of an earlier one; the message names call and kernel."""


class _Extra(ctypes.Structure):
    """Arguments of a kernel in one buffer, laid out as a C structure of them would be."""

    _fields_ = (
        ("pointer_key", c_void_p),
        ("buffer", c_char_p),
        ("size_key", c_void_p),
        ("size", POINTER(c_size_t)),
        ("end", c_void_p),
    )


class Function:
    """One loaded kernel.

    Args:
        layout: types of its parameters, as of the module `struct`.
        block_threads: threads of a block.
        shared_bytes: shared memory of a block.
    """

    def __init__(self, handle: int, name: str, layout: str, block_threads: int, shared_bytes: int) -> None:
        self._handle, self._name, self._threads, self._shared_bytes = handle, name, block_threads, shared_bytes
        self._pack = struct.Struct(layout).pack
        self._size = ctypes.pointer(c_size_t(struct.calcsize(layout)))
        self._launch = _driver().cuLaunchKernel
        # More than 48 KB a block must be asked for; the carve-out lets more blocks share a multiprocessor.
        call("cuFuncSetAttribute", handle, _MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes, about=name)
        call("cuFuncSetAttribute", handle, _PREFERRED_SHARED_MEMORY_CARVEOUT, 100, about=name)

    def launch(self, blocks: int, stream: int, *arguments: int | float) -> None:
        """Queue the kernel on a stream of the device whose context is current.

        Raises:
            DriverError: the driver refuses, or an earlier kernel has failed.
        """
        extra = _Extra(_BUFFER_POINTER, self._pack(*arguments), _BUFFER_SIZE, self._size, None)
        grid, block = (blocks, 1, 1), (self._threads, 1, 1)
        status = self._launch(self._handle, *grid, *block, self._shared_bytes, stream, None, byref(extra))
        if status != 0:
            _fail("cuLaunchKernel", status, self._name)


def ensure_context(device: int) -> None:
    """Make the context of `device`, PyTorch's current one, the driver's current one on this thread.

    A thread that PyTorch has not touched has none, and PyTorch's own guard skips the call that would set it where the
    index is already right (pytorch#195256).
    """
    context = c_void_p()
    call("cuCtxGetCurrent", byref(context))
    if not context.value:
        torch.cuda.set_device(device)


def load(code: bytes, functions: dict[str, tuple[str, int, int]]) -> dict[str, Function]:
    """Load machine code (or PTX) and return its kernels by name.

    Args:
        functions: (layout, threads, shared bytes) of `Function` by name.

    Raises:
        Unsupported: this driver cannot run the code.
        DriverError: the driver refuses for another reason.
        torch.OutOfMemoryError: the device has no memory left for it.
    """
    library = c_void_p()
    call("cuLibraryLoadData", byref(library), code, None, None, 0, None, None, 0)
    loaded = {}
    for name, (layout, threads, shared_bytes) in functions.items():
        kernel, function = c_void_p(), c_void_p()
        call("cuLibraryGetKernel", byref(kernel), library, name.encode(), about=name)
        call("cuKernelGetFunction", byref(function), kernel, about=name)
        loaded[name] = Function(function.value or 0, name, layout, threads, shared_bytes)
    return loaded


def call(name: str, *arguments: object, about: str = "") -> None:
    """Call a function of the driver.

    Raises:
        Unsupported, DriverError, torch.OutOfMemoryError: as for `load`.
    """
    status = getattr(_driver(), name)(*arguments)
    if status != 0:
        _fail(name, status, about)


def _fail(name: str, status: int, about: str) -> None:
    text = c_char_p()
    _driver().cuGetErrorName(status, byref(text))
    answer = (text.value or b"CUDA_ERROR").decode()
    message = f"{name}{f' of {about}' if about else ''} answers {answer} ({status})"
    if status in _NEVER:
        raise Unsupported(message)
    if status == _OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(message)
    raise DriverError(f"{message}; CUDA_LAUNCH_BLOCKING=1 tells whether an earlier kernel is the cause")


@cache
def _driver() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
        for name, arguments in _SIGNATURES.items():
            getattr(library, name).argtypes = arguments
    except OSError as error:
        raise Unsupported(f"the CUDA driver cannot be loaded ({error})") from error
    except AttributeError as error:
        raise Unsupported(f"the CUDA driver is older than 12.0 ({error})") from error
    return library
