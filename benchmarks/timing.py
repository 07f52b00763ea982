"""Time and memory of one call, on a GPU or a CPU."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

FLUSH_BYTES = 512 * 2**20  # several times the largest L2 cache
SPIN_CYCLES_PER_SECOND = 2.0e9  # at least any GPU's clock, so that spinning lasts at least as long as asked


@dataclass(frozen=True)
class Times:
    """Microseconds: median, 10th and 90th percentile."""

    median: float
    low: float
    high: float


def summarise(seconds: list[float]) -> Times:
    """Percentiles of measured seconds, in microseconds."""
    microseconds = sorted(1e6 * s for s in seconds)
    tenth = len(microseconds) // 10
    return Times(statistics.median(microseconds), microseconds[tenth], microseconds[-1 - tenth])


def wall_times(call: Callable[[], object], device: torch.device, repeats: int) -> Times:
    """Time from the call until its result is there, host overhead included."""
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return summarise(seconds)


def device_times(call: Callable[[], object], wall: Times, repeats: int, cold: bool) -> Times:
    """Time on the GPU alone: between two events of a stream that is kept busy while the host queues the call.

    `cold`: the L2 cache holds other data when the call starts.
    """
    flush = torch.empty(FLUSH_BYTES if cold else 0, dtype=torch.uint8, device="cuda")
    spin = int(SPIN_CYCLES_PER_SECOND * 2e-6 * wall.high)
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, end in events:
        torch.cuda._sleep(spin)
        flush.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
    return summarise([1e-3 * start.elapsed_time(end) for start, end in events])


def peak_memory(call: Callable[[], object]) -> int:
    """Bytes on the GPU at the call's peak beyond those before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if that is the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
