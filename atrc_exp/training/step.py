"""One optimiser step over all micro-batches and ranks (Sec. 3.3, App. A)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.models.network import Network, Output
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks.regions import region_labels
from atrc_exp.training.schedules import linear
from atrc_exp.training.state import TrainState

Batch = Mapping[str, Any]
"""On the device: `image` (B, 3, H, W), `labels` {task: tensor}, `id` [str], `size` (B, 2)."""

ENTROPY = "entropy"
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision context; none for fp32, so that float64 networks stay float64."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


class Predictor(nn.Module):
    """The network as the engine calls it: memory layout, precision, padding mask and label regions as configured.

    Args:
        codebook: unit normals (40, 3), where label regions of normals come from labels.
    """

    codebook: Tensor | None

    def __init__(self, network: Network, config: Config, codebook: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("codebook", codebook, persistent=False)
        self.precision, self.mask_padding = config.engine.precision, config.distillation.mask_padding
        self.layout = torch.channels_last if config.engine.channels_last else torch.contiguous_format

    def forward(
        self, image: Tensor, sample: ArchSample | None = None, labels: Mapping[str, Tensor] | None = None
    ) -> Output:
        """Predictions at the size of `image` (B, 3, H, W); `labels` are read where label regions come from them.

        Raises:
            UserError: the network needs labels, and there are none.
        """
        # Padding is 0 in all channels; no normalised pixel is, see `Normalisation.maps_a_colour_to_zero`.
        valid = (image != 0).any(1, keepdim=True) if self.mask_padding else None
        with autocast(image.device, self.precision):
            return self.network(image.contiguous(memory_format=self.layout), sample, valid, self._regions(labels))

    def _regions(self, labels: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Label regions (B, H, W) of the labels, padding in none; None where the network predicts them."""
        if not self.network.regions_from_labels:
            return None
        if labels is None:
            raise UserError("a network with distillation.regions=labels predicts for labelled images only")
        return {task.name: region_labels(task, labels[task.name], self.codebook) for task in self.network.label_tasks}


class Objective(nn.Module):
    """Network and losses as one module from a batch to its loss terms.

    Every use of a parameter is inside one forward, which DistributedDataParallel requires: the entropy uses the
    architecture parameters also when all blocks are frozen and the network no longer does.
    """

    def __init__(self, predict: Predictor, losses: MultiTaskLoss) -> None:
        super().__init__()
        self.predict, self.losses = predict, losses

    def forward(
        self,
        image: Tensor,
        labels: Mapping[str, Tensor],
        counts: Mapping[str, Tensor] | None = None,
        sample: ArchSample | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of this micro-batch as shares of the `counts`, and in a search "entropy".

        Args:
            image: (B, 3, H, W).
            labels: label maps by task.
            counts: valid pixels by term of the whole batch over micro-batches and ranks; None takes the micro-batch's.
            sample: architecture sample of the step, for the search network.
        """
        output = self.predict(image, sample, labels)
        terms = dict(self.losses(output.final, output.aux, labels, counts, output.initial))
        if self.predict.network.search is not None:
            terms[ENTROPY] = self.predict.network.search.entropy()
        return terms


@dataclass(frozen=True)
class StepResult:
    """What one step leaves behind, on the device."""

    terms: dict[str, Tensor]
    """This rank's share of every loss term; the entropy divided by the number of ranks, so that it adds up too."""
    schedule: dict[str, float]
    """Learning rate and, in a search, temperature and entropy weight of the step."""


def train_step(
    config: Config, state: TrainState, objective: nn.Module, losses: MultiTaskLoss, micro: Sequence[Batch], ranks: Ranks
) -> StepResult:
    """Forward and backward over the micro-batches of one iteration, then one step of every optimiser.

    Gradients are those of one process on the whole batch: every term is divided by the valid pixels of all
    micro-batches and ranks, and the loss is multiplied by the number of ranks, since DDP takes the mean.
    """
    sample, schedule = _prepare(config, state)
    counts = whole_batch_counts(losses, micro, ranks)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=ranks.device))
    for index, batch in enumerate(micro):
        last = index == len(micro) - 1
        with nullcontext() if last or ranks.world == 1 else objective.no_sync():  # type: ignore[operator]
            terms = objective(batch["image"], batch["labels"], counts, sample)
            entropy = terms.pop(ENTROPY, None)
            loss = ranks.world * losses.total(state.balance.scaled(losses, terms))
            if entropy is not None:
                loss = loss + schedule["entropy_weight"] * entropy / len(micro)
                sums[ENTROPY] = sums[ENTROPY] + entropy.detach() / (len(micro) * ranks.world)
            state.scaler.scale(loss).backward()
        for name, term in terms.items():
            sums[name] = sums[name] + term.detach()
    _update(config, state)
    state.balance.after_step(losses, sums, ranks)
    state.iteration += 1
    return StepResult(dict(sums), schedule)


def _prepare(config: Config, state: TrainState) -> tuple[ArchSample | None, dict[str, float]]:
    """Set the schedules of this iteration; in a search freeze what has converged, then draw the sample."""
    schedule = {"lr": state.set_learning_rate(config)}
    search = state.network.search
    if search is None:
        return None, schedule
    iterations, step = config.engine.iterations, state.iteration
    schedule["temperature"] = linear(step, iterations, *config.search.temperature)
    schedule["entropy_weight"] = linear(step, iterations, *config.search.entropy)
    # A block that freezes now is known to be frozen, and its other candidates are left out, from the next step on.
    known = state.frozen.known(search.frozen)
    search.freeze_converged(config.search.freeze_gap)
    state.frozen.send(search.frozen)
    noise = gumbel_noise(len(search.frozen), config.seed, step)
    return ArchSample(schedule["temperature"], noise, known), schedule


def whole_batch_counts(losses: MultiTaskLoss, micro: Sequence[Batch], ranks: Ranks) -> dict[str, Tensor]:
    """`losses.counts` summed over all micro-batches and ranks; collective."""
    each = [losses.counts(batch["labels"]) for batch in micro]
    return ranks.sum({name: torch.stack([counts[name] for counts in each]).sum(0) for name in each[0]})


def _update(config: Config, state: TrainState) -> None:
    """Clip where asked for, step both optimisers, clear the gradients."""
    scaler, optimizers = state.scaler, state.optimizers()
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
    finite = True
    bound = config.search.clip_norm if state.arch_optimizer is not None else config.optim.clip_norm
    if bound is not None:
        norm = nn.utils.clip_grad_norm_(list(state.network.parameters()), bound)
        # The scaler would judge each optimiser by its own gradients: an overflow in one must stop both.
        finite = not scaler.is_enabled() or bool(norm.isfinite())
    scale = scaler.get_scale() if scaler.is_enabled() else 1.0
    for optimizer in optimizers:
        if finite:
            scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    scaler.update()
    state.skipped += scaler.is_enabled() and scaler.get_scale() < scale
