"""Memory: what a training step on the CPU or a prediction will take, what is free, the peak afterwards.

A process that takes more memory than there is gets killed without a word. The estimate runs the real forward pass on a
small crop (two whole images where the backbone takes one size only), counts what autograd keeps for the backward pass,
and scales it by the number of pixels, to which all maps and contexts of the network are proportional.
"""

import os
import resource
import sys
import weakref
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from atrc_exp.bmtas.step import BranchObjective
from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.models.recompute import recomputed_blocks
from atrc_exp.models.search import Mixture
from atrc_exp.models.search.strategies.strategy import Draw
from atrc_exp.training.step import Batch, Objective

_CROP = 128  # pixels; a multiple of every backbone's stride
_IMAGES = 2  # batch norm of a 1 x 1 map needs two
_SGD, _ADAM = 1, 2  # moments of a parameter
# What the backward pass holds beside the kept activations. Measured peaks over kept bytes, HRNet18 in fp32: search 1.29
# (208 x 272, two images) and 1.24 (425 x 560, one), multi-task 1.31 (two), ATRC 1.37 (one). Multi-task with
# `engine.activation_checkpointing`, over kept bytes and the largest block's: 1.21 (two).
_BACKWARD = 1.35
# What libraries take beside PyTorch's tensors. Measured peaks of predictions over their tensors, HRNet18 in fp32:
# multi-task 1.17 (1000 x 1500), search 1.10 (500 x 750).
_SCRATCH = 1.25


def training_bytes(objective: Objective, batch: Batch, optimizer: str = "sgd") -> int:
    """Bytes that a step with the optimiser (`optim.name`) will take beyond what the process holds now."""
    draw = None if objective.predict.network.search is None else Draw(Mixture())  # all candidates run
    moments = _ADAM if optimizer == "adamw" else _SGD
    side = None if objective.predict.network.backbone.fixed_size else _CROP
    return _step_bytes(
        objective, batch, moments, lambda crop: objective(crop["image"], crop["labels"], None, draw), side
    )


def branching_bytes(objective: BranchObjective, batch: Batch) -> int:
    """The same for a step of a branch search after its warm-up: that of the task which takes most."""
    network = objective.predictor.network

    def step(task: str, crop: Batch) -> object:
        losses = objective.losses[task]
        assert isinstance(losses, MultiTaskLoss)
        return objective(crop, task, network.drawn_path(task, 1.0), losses.counts(crop["labels"]))

    return max(_step_bytes(objective, batch, _ADAM, partial(step, task)) for task in network.tasks)


def _step_bytes(
    module: nn.Module, batch: Batch, moments: int, forward: Callable[[Batch], object], side: int | None = _CROP
) -> int:
    """Kept activations and those of the largest block that is computed again; gradients and moments.

    Args:
        side: of the crop that is run; None takes whole images.
    """
    image = _crop(batch["image"], side)
    crop = {"image": image, "labels": {task: _crop(label, side) for task, label in batch["labels"].items()}}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept = _Kept(fixed)
    with torch.random.fork_rng(devices=[]), kept:
        blocks = [_Recomputed(kept, plain) for _, plain in recomputed_blocks(module)]
        hooks = [m.register_forward_pre_hook(b) for (m, _), b in zip(recomputed_blocks(module), blocks, strict=True)]
        result = forward(crop)
    for hook in hooks:
        hook.remove()
    del result
    _restore(module, buffers)
    pixels, crop_pixels = (x.shape[0] * x.shape[-2] * x.shape[-1] for x in (batch["image"], image))
    states = (1 + moments) * sum(p.numel() * p.element_size() for p in module.parameters())
    largest = max((block.bytes for block in blocks), default=0)
    return round(_BACKWARD * (kept.bytes + largest) * pixels / crop_pixels) + states


def _crop(maps: Tensor, side: int | None) -> Tensor:
    return maps[:_IMAGES, ..., :side, :side].clone()  # a view would count with its whole storage


class _Kept(saved_tensors_hooks):
    """Counts what autograd keeps for the backward pass while this is entered, except for the `fixed` storages."""

    def __init__(self, fixed: Set[int]) -> None:
        super().__init__(self.keep, lambda tensor: tensor)
        self.fixed, self.storages = fixed, dict[int, int]()

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.fixed:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


class _Recomputed:
    """Counts, before a block whose activations are computed again, its inputs as kept and its activations apart."""

    def __init__(self, kept: _Kept, forward: Callable[..., Any]) -> None:
        self.kept, self.forward, self.bytes = kept, forward, 0

    def __call__(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        tree_map(self.kept.keep, inputs)
        own = _Kept(self.kept.fixed | self.kept.storages.keys())
        with own:
            result = self.forward(*inputs)
        self.bytes = own.bytes
        del result


def _restore(module: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Undo what the forward pass did to batch statistics."""
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])


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
