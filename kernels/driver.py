"""Loading machine code into the CUDA driver and launching kernels from it."""

import ctypes
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from atrc_exp.kernels.build import check, machine_code
from atrc_exp.kernels.plan import Plan, Unsupported

_lock = Lock()  # the backward runs on a thread of its own
_loaded: dict[tuple[Plan, int], "Kernels | Unsupported"] = {}


class Kernels:
    """The kernels of one plan on one device, which must be the current one of the thread throughout."""

    def __init__(self, plan: Plan, device: int) -> None:
        self.plan = plan
        code = machine_code(plan, torch.cuda.get_device_capability(device))
        try:
            from cuda.bindings import driver

            self._driver = driver
            self._library = check(driver.cuLibraryLoadData(code, [], [], 0, [], [], 0))
        except (ImportError, RuntimeError, OSError) as error:
            raise Unsupported(f"the CUDA driver cannot be reached ({error})") from error
        self._functions = {name: self._function(name, size) for name, size in plan.shared_bytes.items()}

    def _function(self, name: str, shared_bytes: int) -> Any:
        driver = self._driver
        kernel = check(driver.cuLibraryGetKernel(self._library, f"local_attention_{name}".encode()))
        function = check(driver.cuKernelGetFunction(kernel))
        attribute = driver.CUfunction_attribute
        # More than 48 KB a block must be asked for; the carve-out lets more blocks share a multiprocessor.
        limit = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        carveout = attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
        check(driver.cuFuncSetAttribute(function, limit, shared_bytes))
        check(driver.cuFuncSetAttribute(function, carveout, 100))
        return function

    def launch(self, name: str, blocks: int, *arguments: Tensor | int | float) -> None:
        """Queue kernel `name` on the current stream of the current device.

        Raises:
            Unsupported: the driver refuses the launch.
        """
        values = tuple(x.data_ptr() if isinstance(x, Tensor) else x for x in arguments)
        types = tuple(
            ctypes.c_void_p if isinstance(x, Tensor) else ctypes.c_float if isinstance(x, float) else ctypes.c_int
            for x in arguments
        )
        shared_bytes = self.plan.shared_bytes[name]
        stream = torch.cuda.current_stream().cuda_stream
        grid, block = (blocks, 1, 1), (self.plan.threads, 1, 1)
        check(
            self._driver.cuLaunchKernel(self._functions[name], *grid, *block, shared_bytes, stream, (values, types), 0)
        )


def load_kernels(plan: Plan, device: int) -> Kernels:
    """The kernels of `plan` on `device`, which must be current; compiled and loaded once a process.

    Raises:
        Unsupported: they cannot be compiled or loaded; the same failure is not tried twice.
    """
    with _lock:
        if (plan, device) not in _loaded:
            try:
                _loaded[plan, device] = Kernels(plan, device)
            except Unsupported as reason:
                _loaded[plan, device] = reason
        found = _loaded[plan, device]
    if isinstance(found, Unsupported):
        raise found
    return found
