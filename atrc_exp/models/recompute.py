"""Activation checkpointing: the backward pass computes activations of the backbone again instead of keeping them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import Backbone


def recompute_activations(network: nn.Module) -> None:
    """Keep only the inputs of the blocks in the backbone's stages for the backward pass; results stay the same.

    Parameters and state-dict names do not change. Batch statistics are updated by the first computation alone.

    Raises:
        UserError: a network without a `Backbone`, or one whose backbone is not built of such blocks.
    """
    backbones = [module for module in network.modules() if isinstance(module, Backbone)]
    models = [getattr(backbone.model, "model", backbone.model) for backbone in backbones]  # timm wraps transformers
    stages = [child for model in models for child in model.children() if isinstance(child, nn.Sequential)]
    if not stages:
        raise UserError("engine.activation_checkpointing=true: this network's backbone has no stages; leave it false")
    for block in (block for stage in stages for block in stage):
        norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        block.forward = partial(_forward, block.forward, norms)


def recomputed_blocks(network: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
    """Blocks of which `recompute_activations` keeps the inputs alone, each with its plain forward."""
    for module in network.modules():
        forward = vars(module).get("forward")
        if isinstance(forward, partial) and forward.func is _forward:
            yield module, forward.args[0]


def _forward(forward: Callable[..., Any], norms: list[nn.modules.batchnorm._BatchNorm], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(norms)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Let what happens inside update copies of the running statistics."""
    before = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in before:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in before:
            setattr(norm, name, buffer)
