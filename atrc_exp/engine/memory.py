"""Memory of a training step on the CPU: an estimate before the first step, the peak afterwards.

A process that takes more memory than there is gets killed without a word. The estimate runs the real forward pass on a
small crop, counts what autograd keeps for the backward pass, and scales it by the number of pixels, to which all maps
and contexts of the network are proportional.
"""

import os
import resource
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.engine.step import Batch, Objective
from atrc_exp.errors import UserError
from atrc_exp.models.search import ArchSample

_CROP = 128  # pixels; a multiple of every backbone's stride
_IMAGES = 2  # batch norm of a 1 x 1 map needs two
_STATES = 2  # beside a parameter stand its gradient and its momentum
# What the backward pass holds beside the kept activations. Measured peaks over kept bytes, HRNet18 in fp32: search 1.29
# (208 x 272, two images) and 1.24 (425 x 560, one), multi-task 1.31 (two), ATRC 1.37 (one). Activations that
# `engine.activation_checkpointing` computes again, one block's at a time, are not counted.
_BACKWARD = 1.35


def training_bytes(objective: Objective, batch: Batch) -> int:
    """Bytes that a training step will take beyond what the process holds now: kept activations, gradients, momentum."""
    search = objective.predict.network.search
    sample = None if search is None else ArchSample(1.0, torch.zeros(search.arch.shape))
    image = batch["image"][:_IMAGES, :, :_CROP, :_CROP].clone()  # a view would count with its whole storage
    labels = {task: label[:_IMAGES, ..., :_CROP, :_CROP].clone() for task, label in batch["labels"].items()}
    buffers = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*objective.parameters(), *objective.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = objective(image, labels, None, sample)
    del terms
    _restore(objective, buffers)
    pixels, crop_pixels = (x.shape[0] * x.shape[-2] * x.shape[-1] for x in (batch["image"], image))
    states = _STATES * sum(p.numel() * p.element_size() for p in objective.parameters())
    return round(_BACKWARD * sum(kept.values()) * pixels / crop_pixels) + states


def _restore(module: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Undo what the forward pass did to batch statistics."""
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])


def require(needed: int, config: Config) -> None:
    """Refuse a step that does not fit into the free memory of this host.

    Args:
        needed: bytes of one rank.

    Raises:
        UserError: names batch size and precision, and what to set.
    """
    needed *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's ranks on this host
    free = available_bytes()
    if free is None or needed <= free:
        return
    engine = config.engine
    raise UserError(
        f"a training step needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free "
        f"(engine.batch_size={engine.batch_size}, engine.accumulate={engine.accumulate}, "
        f"engine.precision={engine.precision}): raise engine.accumulate, lower engine.batch_size, set "
        "engine.precision=bf16, or try all the same with engine.memory_check=false"
    )


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
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
