"""The kernels of one plan on one device: memory for results, and the arguments that the sources expect."""

import torch
from torch import Tensor

from atrc_exp.kernels import driver
from atrc_exp.kernels.build import machine_code
from atrc_exp.kernels.plan import Plan

# Parameters of the kernels: pointers (P), then channels, height, width (i), scale (f) and border (i).
_LAYOUTS = {"forward": "5P3ifi", "dq": "8P3if", "dkv": "8P3if"}


class Kernels:
    """Compiled and loaded for the device of that index, PyTorch's current one whenever a method is called.

    Raises:
        Unsupported: they cannot be compiled for the device, or the driver cannot run them.
        DriverError, torch.OutOfMemoryError: loading fails for another reason.
    """

    def __init__(self, plan: Plan, device: int) -> None:
        self.plan, self.device = plan, torch.device("cuda", device)
        code = machine_code(plan, torch.cuda.get_device_capability(device))
        driver.ensure_context(device)
        functions = driver.load(
            code,
            {f"local_attention_{name}": (layout, plan.threads, plan.shared_bytes[name])
             for name, layout in _LAYOUTS.items()},
        )  # fmt: skip
        self._forward, self._dq, self._dkv = (functions[f"local_attention_{name}"] for name in _LAYOUTS)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float, zero_border: bool) -> tuple[Tensor, Tensor]:
        """Output (B, C, H, W) and log-sum-exp (B, H, W), float32, of contiguous q, k, v on the device."""
        batch, channels, height, width = q.shape
        out, lse = torch.empty_like(q), q.new_empty((batch, height, width), dtype=torch.float32)
        driver.ensure_context(self.device.index)
        self._forward.launch(
            self.plan.blocks(batch, height, width),
            torch.cuda.current_stream().cuda_stream,
            *(x.data_ptr() for x in (q, k, v, out, lse)),
            *(channels, height, width, scale, zero_border),
        )
        return out, lse

    def backward(
        self, g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients (dq, dk, dv), each (B, C, H, W), of contiguous tensors on the device."""
        batch, channels, height, width = q.shape
        dq, dk, dv, delta = (torch.empty_like(x) for x in (q, k, v, lse))
        driver.ensure_context(self.device.index)
        blocks, stream = self.plan.blocks(batch, height, width), torch.cuda.current_stream().cuda_stream
        shape = (channels, height, width, scale)
        self._dq.launch(blocks, stream, *(x.data_ptr() for x in (g, q, k, v, out, lse, dq, delta)), *shape)
        self._dkv.launch(blocks, stream, *(x.data_ptr() for x in (g, q, k, v, lse, delta, dk, dv)), *shape)
        return dq, dk, dv
