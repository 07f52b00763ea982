"""One step of a branch search: the weights task by task, or the architecture over all tasks (BMTAS, BMVC 2020)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from atrc_exp.bmtas.state import BranchState
from atrc_exp.bmtas.supergraph import BranchSearch, Path
from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.losses import MultiTaskLoss, build_losses
from atrc_exp.models.network import Output
from atrc_exp.models.predictor import autocast
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import Task
from atrc_exp.training.memory import ADAM, step_bytes
from atrc_exp.training.step import whole_batch_counts


class BranchPredictor(nn.Module):
    """Calls the supergraph in the configured memory layout and precision, as the evaluation needs it."""

    def __init__(self, network: BranchSearch, config: Config) -> None:
        super().__init__()
        self.network, self.precision = network, config.engine.precision
        self.layout = torch.channels_last if config.engine.channels_last else torch.contiguous_format

    def predict(self, image: Tensor, task: str, path: Path) -> Tensor:
        """One task's prediction (B, task.channels, H, W) along a path."""
        with autocast(image.device, self.precision):
            return self.network(image.contiguous(memory_format=self.layout), task, path)

    def forward(self, image: Tensor, labels: Mapping[str, Tensor] | None = None) -> Output:
        """Predictions of all tasks along their most probable copies, for evaluation; `labels` are not read."""
        final = {task: self.predict(image, task, self.network.best_path(task)) for task in self.network.tasks}
        return Output(final, {}, {})


class BranchObjective(nn.Module):
    """Supergraph and losses as one module from a batch to the unweighted loss of one task."""

    def __init__(self, predictor: BranchPredictor, tasks: Sequence[Task], codebook: Tensor | None) -> None:
        super().__init__()
        self.predictor = predictor
        self.losses = nn.ModuleDict({task.name: build_losses((task,), codebook=codebook) for task in tasks})

    def forward(self, batch: Batch, task: str, path: Path, counts: Mapping[str, Tensor]) -> Tensor:
        """Divide the task's sum over this micro-batch by the valid pixels of the whole batch."""
        prediction = self.predictor.predict(batch.image, task, path)
        terms = self.losses[task]({task: prediction}, {}, {task: batch.labels[task]}, counts)
        return terms[task]


def weight_step(
    state: BranchState,
    objective: nn.Module,
    losses: MultiTaskLoss,
    micro: Sequence[Batch],
    ranks: Ranks,
    path: Callable[[str], Path],
) -> dict[str, Tensor]:
    """Take one optimiser step for each task on the micro-batches of one iteration. Tasks without a label are left out.

    Args:
        objective: `BranchObjective`, wrapped for several ranks.
        losses: those of all tasks, which count the valid pixels.
        path: gives the path of a task and is called for every forward pass.

    Returns:
        This rank's share of every task's loss.
    """
    counts = whole_batch_counts(losses, micro, ranks)
    terms = {name: torch.zeros((), device=ranks.device) for name in losses.tasks}
    for name in _labelled(losses, counts):
        for index, batch in enumerate(micro):
            last = index == len(micro) - 1
            with nullcontext() if last or ranks.world == 1 else objective.no_sync():  # type: ignore[operator]
                term = objective(batch, name, path(name), counts)
                (ranks.world * losses.tasks[name].weight * term).backward()
            terms[name] += term.detach()
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
    state.iteration += 1
    return terms


def architecture_step(
    config: Config,
    state: BranchState,
    objective: BranchObjective,
    losses: MultiTaskLoss,
    micro: Sequence[Batch],
    ranks: Ranks,
    temperature: float,
) -> None:
    """Take one optimiser step of the architecture on the losses of all tasks, each with the resource loss."""
    network, settings = state.network, config.branching
    counts = whole_batch_counts(losses, micro, ranks)
    gradient = torch.zeros_like(network.arch)
    labelled = _labelled(losses, counts)
    for name in labelled:
        for batch in micro:
            loss = losses.tasks[name].weight * objective(batch, name, network.drawn_path(name, temperature), counts)
            gradient += torch.autograd.grad(loss, network.arch)[0]
    ranks.total(gradient)
    resources = len(labelled) * settings.resource_weight * network.resource_loss(settings.resource_form)
    network.arch.grad = gradient + torch.autograd.grad(resources, network.arch)[0]
    state.arch_optimizer.step()
    state.arch_optimizer.zero_grad(set_to_none=True)


def _labelled(losses: MultiTaskLoss, counts: Mapping[str, Tensor]) -> list[str]:
    """Return the tasks that have a label in the batch. Reading the counts waits for the device."""
    return [name for name in losses.tasks if counts[name] > 0]


def branching_bytes(objective: BranchObjective, batch: Batch) -> int:
    """Bytes that a step of a branch search will take after its warm-up, for the task that takes most."""
    network = objective.predictor.network

    def step(task: str, crop: Batch) -> object:
        losses = objective.losses[task]
        assert isinstance(losses, MultiTaskLoss)
        return objective(crop, task, network.drawn_path(task, 1.0), losses.counts(crop.labels))

    return max(step_bytes(objective, batch, ADAM, partial(step, task)) for task in network.tasks)
