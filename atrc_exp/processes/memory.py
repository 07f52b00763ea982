"""Memory of this process and its device: how much a pass without gradients takes, how much is free, and the peak."""

import resource
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

# What libraries take beside PyTorch's tensors. Measured peaks of predictions over their tensors, HRNet18 in fp32:
# multi-task 1.17 (1000 x 1500), search 1.10 (500 x 750).
_SCRATCH = 1.25


def inference_bytes(forward: Callable[[], object]) -> int:
    """Bytes that a pass without gradients takes at its peak beyond what the process holds now, on any device."""
    made = _Made()
    with made:
        forward()
    return round(_SCRATCH * made.peak)


class _Made(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while this is entered, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.living, self.peak = dict[int, int](), 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        given = {key for key, _ in _storages((arguments, keywords))}  # results may be views of them
        for key, storage in _storages(result):
            if key not in given and key not in self.living:
                self.living[key] = storage.nbytes()
                weakref.finalize(storage, self.living.pop, key, 0)
        self.peak = max(self.peak, sum(self.living.values()))
        return result


def _storages(values: Any) -> Iterator[tuple[int, torch.UntypedStorage]]:
    """Storages of all tensors in a nesting, each with its identity."""
    for value in tree_iter(values):
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            yield storage._cdata, storage


def free_bytes(device: torch.device) -> int | None:
    """Memory of the device that this process can still get; None where unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_bytes() if device.type == "cpu" else None


def available_bytes() -> int | None:
    """Memory that this process can still get: the host's free memory within its control group; None where unknown."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    free = [int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")]
    return min([*free, *_cgroup_free()], default=None)


def _cgroup_free(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Free bytes within every memory limit of control groups (v2 and v1) that this process is under."""
    free = []
    for line in proc.read_text().splitlines() if proc.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        names = ("memory.max", "memory.current") if not controllers else (
            "memory.limit_in_bytes", "memory.usage_in_bytes")  # fmt: skip
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if not group.is_relative_to(top):
                break
            free.extend(_group_free(group, *names))
    return free


def _group_free(group: Path, limit_name: str, usage_name: str) -> list[int]:
    try:
        limit = (group / limit_name).read_text().strip()
        usage = int((group / usage_name).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return []
    if not limit.isdigit():  # "max"
        return []
    return [int(limit) - usage + int(stat.get("inactive_file", 0))]  # the kernel drops cached files under pressure


def peak_mib(device: torch.device) -> float:
    """Peak memory in MiB: allocated on the CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "linux":  # whose ru_maxrss starts from that of the process which started this one
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
