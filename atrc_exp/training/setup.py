"""What is derived once before the first step: images per rank, the network's place, determinism."""

import logging
import os
from typing import Any, TypeVar

import torch
from torch import nn

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.models.recompute import recompute_activations
from atrc_exp.processes.ranks import Ranks
from atrc_exp.words import counted

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)


def images_per_micro_batch(config: Config, ranks: Ranks) -> int:
    """Images of one forward pass on one rank.

    Raises:
        UserError: the batch does not divide among ranks and accumulation steps.
    """
    engine, parts = config.engine, ranks.world * config.engine.accumulate
    if engine.batch_size % parts:
        raise UserError(
            f"engine.batch_size={engine.batch_size}: must be a multiple of {parts} "
            f"({ranks.world} ranks x engine.accumulate={engine.accumulate})"
        )
    return engine.batch_size // parts


def place_network(network: M, config: Config, ranks: Ranks) -> M:
    """Move the network to the rank's device, with batch statistics over all ranks where PyTorch can (CUDA only)."""
    if ranks.world > 1 and config.engine.sync_bn and ranks.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif ranks.world > 1:
        log.info(
            "no SyncBN (CUDA only): each rank has its own batch statistics, those of rank 0 are validated and saved"
        )
    network.to(ranks.device)
    if config.engine.activation_checkpointing:
        recompute_activations(network)
    if config.engine.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.engine.compile:
        network.compile()
    return network


def use_determinism(deterministic: bool) -> None:
    """Choose deterministic kernels where PyTorch has them; elsewhere it warns, since some have no such form on CUDA."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic


def facts(config: Config, ranks: Ranks, network: nn.Module) -> dict[str, Any]:
    """Derived numbers worth a look before a long run."""
    parts = counted(ranks.world, "rank"), f"{config.engine.accumulate} accumulated"
    images = counted(images_per_micro_batch(config, ranks), "image")
    return {
        "tasks": ", ".join(config.task_names),
        "network": f"{config.backbone.name}, neck {config.neck.name}, distillation {config.distillation.name}, "
        f"{parameter_count(network) / 1e6:.3f} M parameters",
        "batch": f"{config.engine.batch_size} = {' x '.join((*parts, images))}",
        "iterations": config.engine.iterations,
        "device": f"{ranks.device}, {config.engine.precision}",
    }


def parameter_count(network: nn.Module) -> int:
    """Number of parameters, architecture logits included."""
    return sum(parameter.numel() for parameter in network.parameters())
