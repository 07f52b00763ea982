"""What a branch search derives from its length, and what its resume needs."""

from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor

from atrc_exp.bmtas.supergraph import BranchSearch
from atrc_exp.config import Config
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.schedules import linear
from atrc_exp.training.record import LossRecord
from atrc_exp.training.state import load_network


@dataclass(frozen=True)
class BranchSchedule:
    """Epochs of a branch search; an epoch is one pass over the images of the weights.

    Attributes:
        weight_batches: batches of the weights in an epoch.
        arch_batches: batches of the architecture in an epoch after the warm-up.
    """

    config: Config
    weight_batches: int
    arch_batches: int

    @property
    def epochs(self) -> int:
        """Number of epochs, the last of which may be cut short by `engine.iterations`."""
        return ceil(self.config.engine.iterations / self.weight_batches)

    @property
    def warmup(self) -> int:
        """Epochs in which every task keeps to its own copies."""
        return round(self.config.branching.warmup * self.epochs)

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"{self.epochs}, {self.warmup} of them warm-up; {self.weight_batches} batches for the weights and "
            f"{self.arch_batches} for the architecture in each"
        )

    def searching(self, epoch: int) -> bool:
        """Whether the tasks draw their copies in this epoch."""
        return epoch >= self.warmup

    def temperature(self, epoch: int) -> float:
        """Temperature of the Gumbel-softmax in an epoch after the warm-up; the last epoch has the last value."""
        first, last = self.config.branching.temperature
        return linear(epoch - self.warmup, max(self.epochs - self.warmup - 1, 1), first, last)

    def start(self, epoch: int) -> int:
        """Batches of the weights before the epoch."""
        return min(epoch * self.weight_batches, self.config.engine.iterations)

    def arch_start(self, epoch: int) -> int:
        """Batches of the architecture before the epoch."""
        return max(0, epoch - self.warmup) * self.arch_batches

    @property
    def arch_iterations(self) -> int:
        """Batches of the architecture in the whole search."""
        return self.arch_start(self.epochs)


@dataclass
class BranchState:
    """Supergraph, optimisers and the progress of a branch search. Checkpoints are made between epochs only."""

    network: BranchSearch
    optimizer: torch.optim.Adam
    arch_optimizer: torch.optim.Adam
    record: LossRecord
    run_id: str
    codebook: Tensor | None = None
    iteration: int = 0
    """Batches that the weights have seen; an optimiser step per task was made on each."""
    skipped: int = 0
    """This stays 0, since there is no fp16 scaler that skips steps."""
    seconds: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    """Result of the latest validation of this start. It is not saved, since it comes after the checkpoint."""

    def start_weight_phase(self) -> None:
        """Forget what the optimiser and the encoder's batch norms know of the mixtures before the architecture moved.

        The batch norms track statistics in the architecture's phase, too; these are forgotten with the others.
        """
        self.optimizer.state.clear()
        self.network.encoder.reset_statistics()

    def state_dict(self, ranks: Ranks) -> dict[str, Any]:
        """Collect plain data for the checkpoint. All ranks must call this, and only rank 0 gets all of it."""
        return {
            "version": 1,
            "run_id": self.run_id,
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "record": self.record.state_dict(ranks),
            "random": ranks.gather(checkpoint.random_states(ranks.device)),
            "codebook": self.codebook,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any], ranks: Ranks) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            UserError: the checkpoint belongs to another network or version.
        """
        load_network(self.network, state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self.record.load_state_dict(state["record"], ranks)
        if ranks.rank < len(state["random"]):
            checkpoint.set_random_states(state["random"][ranks.rank], ranks.device)
        self.iteration, self.seconds = state["iteration"], state["seconds"]


def build_branch_state(
    config: Config, network: BranchSearch, record: LossRecord, run_id: str, codebook: Tensor | None
) -> BranchState:
    """Adam for the weights and Adam for the architecture, as in the published search."""
    settings = config.branching
    adam = torch.optim.Adam(network.weights(), lr=settings.lr, weight_decay=settings.weight_decay)
    arch = torch.optim.Adam([network.arch], lr=settings.arch_lr, weight_decay=settings.arch_weight_decay)
    return BranchState(network, adam, arch, record, run_id, codebook)
