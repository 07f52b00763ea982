"""What a training step on the CPU will take, before the first one: a process that takes more than there is gets killed
without a message.

The estimate runs the real forward pass on a small crop (two whole images where the backbone takes one size only),
counts what autograd keeps for the backward pass, and scales it by the number of pixels, to which all maps and contexts
of the network are proportional.
"""

import os
from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_map

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.errors import UserError
from atrc_exp.models.recompute import recomputed_blocks
from atrc_exp.models.search import Mixture
from atrc_exp.models.search.strategies.strategy import Draw
from atrc_exp.processes.memory import available_bytes
from atrc_exp.training.step import Objective

_CROP = 128  # pixels; a multiple of every backbone's stride
_IMAGES = 2  # batch norm of a 1 x 1 map needs two
SGD, ADAM = 1, 2  # moments of a parameter
# What the backward pass holds beside the kept activations. Measured peaks over kept bytes, HRNet18 in fp32: search 1.29
# (208 x 272, two images) and 1.24 (425 x 560, one), multi-task 1.31 (two), ATRC 1.37 (one). Multi-task with
# `engine.activation_checkpointing`, over kept bytes and the largest block's: 1.21 (two).
_BACKWARD = 1.35


def training_bytes(objective: Objective, batch: Batch, optimizer: str = "sgd") -> int:
    """Bytes that a step with the optimiser (`optim.name`) will take beyond what the process holds now."""
    draw = None if objective.predict.network.search is None else Draw(Mixture())  # all candidates run
    moments = ADAM if optimizer == "adamw" else SGD
    side = None if objective.predict.network.backbone.fixed_size else _CROP
    return step_bytes(objective, batch, moments, lambda crop: objective(crop.image, crop.labels, None, draw), side)


def step_bytes(
    module: nn.Module, batch: Batch, moments: int, forward: Callable[[Batch], object], side: int | None = _CROP
) -> int:
    """Kept activations and those of the largest block that is computed again; gradients and moments.

    Args:
        side: of the crop that is run; None takes whole images.
    """
    # Cloned, since a view would count with its whole storage.
    crop = batch.map(lambda maps: maps[:_IMAGES, ..., :side, :side].clone())
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
    pixels, crop_pixels = (x.shape[0] * x.shape[-2] * x.shape[-1] for x in (batch.image, crop.image))
    states = (1 + moments) * sum(p.numel() * p.element_size() for p in module.parameters())
    largest = max((block.bytes for block in blocks), default=0)
    return round(_BACKWARD * (kept.bytes + largest) * pixels / crop_pixels) + states


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
