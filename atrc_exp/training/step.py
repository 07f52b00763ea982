"""One optimiser step over all micro-batches and ranks (Sec. 3.3, App. A)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.data.finish import Batch
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.processes.ranks import Ranks
from atrc_exp.training.schedules import linear
from atrc_exp.training.state import TrainState

ENTROPY = "entropy"


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
            loss = ranks.world * losses.total(terms)
            if entropy is not None:
                loss = loss + schedule["entropy_weight"] * entropy / len(micro)
                sums[ENTROPY] = sums[ENTROPY] + entropy.detach() / (len(micro) * ranks.world)
            state.scaler.scale(loss).backward()
        for name, term in terms.items():
            sums[name] = sums[name] + term.detach()
    _update(config, state)
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
    noise = gumbel_noise(len(search.frozen), config.seed, step, len(search.types))
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
