"""Everything that a resume needs, in one object."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.config import Config, OptimConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.depth import layers_above
from atrc_exp.models.network import Network
from atrc_exp.models.search.strategies.strategy import Strategy
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.schedules import poly
from atrc_exp.training.balance import Fixed, build_balance
from atrc_exp.training.record import LossRecord

_TOKENS = ("relative_position_bias_table", "pos_embed", "cls_token", "reg_token", "dist_token")
"""Last names of parameters that AdamW does not decay: positions, and tokens beside those of the patches."""


@dataclass
class TrainState:
    """Network, optimisers and the progress of one run. Schedules, data order and what a search strategy draws are
    functions of `iteration` and the seed and need no state."""

    network: Network
    optimizer: torch.optim.SGD | torch.optim.AdamW
    arch_optimizer: torch.optim.Adam | None
    """Optimiser of the logits, where the search strategy learns them."""
    strategy: Strategy | None
    """How a search network is searched; None for a fixed one."""
    scaler: torch.amp.GradScaler
    record: LossRecord
    balance: Fixed
    """Factors of the tasks' losses, or weights of their gradients."""
    run_id: str
    """Identity of the run in W&B, the same after every resume."""
    codebook: Tensor | None = None
    """Unit normals (40, 3) behind the auxiliary classes of surface normals."""
    iteration: int = 0
    """Completed optimiser steps."""
    skipped: int = 0
    """Steps that the fp16 scaler left out because a gradient overflowed."""
    seconds: float = 0.0
    """Time spent in all starts of the run."""
    validation: dict[str, float] = field(default_factory=dict)
    """Result of the latest validation of this start; not saved, since it comes after the checkpoint of its iteration
    and is repeated by a start from there."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimiser of the network and, in a search, Adam of the architecture."""
        return [self.optimizer, *([self.arch_optimizer] if self.arch_optimizer else [])]

    def set_learning_rate(self, config: Config) -> float:
        """Set the rates for the coming step and return the backbone's; that of the architecture is constant."""
        rate = config.optim.lr * poly(self.iteration, config.engine.iterations, config.optim.power)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return rate

    def state_dict(self, ranks: Ranks) -> dict[str, Any]:
        """Plain data for the checkpoint; collective, complete on rank 0 only."""
        return {
            "version": 1,
            "run_id": self.run_id,
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict() if self.arch_optimizer else None,
            "scaler": self.scaler.state_dict(),
            "record": self.record.state_dict(ranks),
            "balance": self.balance.state_dict(),
            "random": ranks.gather(checkpoint.random_states(ranks.device)),
            "codebook": self.codebook,
            "skipped": self.skipped,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any], ranks: Ranks) -> None:
        """Continue where `state_dict` was taken. A rank that did not exist then keeps its fresh random state.

        Raises:
            UserError: the checkpoint does not fit, see `load_network`.
        """
        load_network(self.network, state)
        if self.strategy is not None:
            self.strategy.resumed()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.arch_optimizer:
            self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.record.load_state_dict(state["record"], ranks)
        self.balance.load_state_dict(state.get("balance", {}))  # checkpoints from before there was one: fixed
        if ranks.rank < len(state["random"]):
            checkpoint.set_random_states(state["random"][ranks.rank], ranks.device)
        self.iteration, self.skipped, self.seconds = state["iteration"], state["skipped"], state["seconds"]


def load_network(network: nn.Module, state: dict[str, Any]) -> None:
    """Put the weights of a checkpoint into the network.

    Raises:
        UserError: it is no checkpoint, or belongs to another network or to another version of the format.
    """
    if "network" not in state:
        raise UserError("the file holds no checkpoint of a run; give checkpoints/last.pt of its folder, or run=RUN_DIR")
    if state.get("version") != 1:
        raise UserError(f"checkpoint version {state.get('version')!r} is unknown; this build reads version 1")
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise UserError(f"the checkpoint does not fit the network: {str(error).splitlines()[1].strip()}") from None


def build_state(
    config: Config,
    network: Network,
    strategy: Strategy | None,
    record: LossRecord,
    run_id: str,
    codebook: Tensor | None,
) -> TrainState:
    """SGD or AdamW over the network (`parameter_groups`) and Adam over a learned architecture (App. A)."""
    optim, groups = config.optim, parameter_groups(config.optim, network)
    # A first step that the fp16 scaler skips would leave the momentum of the fused kernel uninitialised (torch 2.15).
    fused = config.engine.precision != "fp16"
    shared: dict[str, Any] = {"lr": optim.lr, "weight_decay": optim.weight_decay, "fused": fused}
    optimizer: torch.optim.SGD | torch.optim.AdamW
    if optim.name == "adamw":
        optimizer = torch.optim.AdamW(groups, betas=(optim.momentum, 0.999), **shared)
    else:
        optimizer = torch.optim.SGD(groups, momentum=optim.momentum, **shared)
        if strategy is not None:
            optimizer.register_step_pre_hook(_begin_late_momenta)
    adam = None
    if strategy is not None and strategy.learns:
        adam = torch.optim.Adam(
            network.architecture_parameters(), lr=config.search.arch_lr, weight_decay=0.0, fused=fused
        )
    scaler = torch.amp.GradScaler(record.sums.device.type, enabled=config.engine.precision == "fp16")
    balance = build_balance(config.balance, config.task_names, record.sums.device)
    balance.attach(network.backbone)
    return TrainState(network, optimizer, adam, strategy, scaler, record, balance, run_id, codebook=codebook)


def _begin_late_momenta(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Give candidates whose first gradient comes late a momentum of zero, which is what SGD begins with.

    The fused kernel fails where some parameters have a momentum and others do not.
    """
    given = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    late = [p for p in given if optimizer.state.get(p, {}).get("momentum_buffer") is None]
    if len(late) < len(given):
        for parameter in late:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def parameter_groups(optim: OptimConfig, network: Network) -> list[dict[str, Any]]:
    """Parameters by rate and decay: the backbone first, then the heads, and what of the distillation module differs.

    AdamW's decay leaves out biases, norms, embeddings of positions and class tokens, as the authors of ConvNeXt, Swin
    and MAE do. With `optim.layer_decay` the rate of the backbone falls from layer to layer, see `layers_above`.
    """
    module: Any = network.distillation
    distilling = {id(p) for p in module.parameters()} if module is not None else set()
    undecayed = {id(p) for p in module.undecayed_parameters()} if hasattr(module, "undecayed_parameters") else set()
    if optim.name == "adamw":
        undecayed |= {id(p) for n, p in network.named_parameters() if p.dim() <= 1 or n.endswith(_TOKENS)}
    backbone = {id(p) for p in network.backbone_parameters()}
    above = layers_above(network.backbone) if optim.layer_decay != 1 else {}
    groups: dict[tuple[bool, float, float], list[Tensor]] = {}
    for parameter in (*network.backbone_parameters(), *network.head_parameters()):
        own = id(parameter) in backbone
        factor = optim.layer_decay ** above.get(id(parameter), 0) if own else optim.head_lr_factor
        factor *= optim.distillation_lr_factor if id(parameter) in distilling else 1.0
        decay = 0.0 if id(parameter) in undecayed else optim.weight_decay
        groups.setdefault((own, factor, decay), []).append(parameter)
    return [
        {"params": params, "factor": factor, "weight_decay": decay} for (_, factor, decay), params in groups.items()
    ]
