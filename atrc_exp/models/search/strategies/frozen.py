"""Which blocks of a search are frozen, as the host knows it without waiting for the device."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class FrozenBlocks:
    """Carries `Architecture.frozen` to the host behind the work of a step; the next step reads it.

    Reading the tensor itself would stop the host in every step until the device has done all that it was given.
    """

    copy: Tensor | None = None
    arrival: torch.cuda.Event | None = None

    def known(self, frozen: Tensor) -> tuple[int, ...]:
        """State at the last `send`; the present one, read from the device, in the first step of a process."""
        if self.copy is None:
            return tuple(frozen.tolist())
        if self.arrival is not None:
            self.arrival.synchronize()  # of a copy that was begun a step ago
        return tuple(self.copy.tolist())

    def send(self, frozen: Tensor) -> None:
        """Begin the copy of the present state."""
        if self.copy is None:
            self.copy = torch.empty(frozen.shape, dtype=frozen.dtype, pin_memory=frozen.is_cuda)
        self.copy.copy_(frozen, non_blocking=True)
        if frozen.is_cuda:
            self.arrival = torch.cuda.Event()
            self.arrival.record()
