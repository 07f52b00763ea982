"""One optimiser step over all micro-batches and ranks (Sec. 3.3, App. A)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search.strategies.strategy import Draw
from atrc_exp.processes.ranks import Ranks
from atrc_exp.training.state import TrainState


class Objective(nn.Module):
    """Network and losses as one module from a batch to its loss terms.

    Every use of a parameter is inside one forward, which DistributedDataParallel requires: penalties may use the
    architecture parameters when the network does not.
    """

    def __init__(self, predict: Predictor, losses: MultiTaskLoss) -> None:
        super().__init__()
        self.predict, self.losses = predict, losses

    def forward(
        self,
        image: Tensor,
        labels: Mapping[str, Tensor],
        counts: Mapping[str, Tensor] | None = None,
        draw: Draw | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of this micro-batch as shares of the `counts`, and the penalties of the `draw`.

        Args:
            image: (B, 3, H, W).
            labels: label maps by task.
            counts: valid pixels by term of the whole batch over micro-batches and ranks; None takes the micro-batch's.
            draw: of the search strategy for this step; the search network needs one.
        """
        output = self.predict(image, draw.mixture if draw else None, labels)
        terms = dict(self.losses(output.final, output.aux, labels, counts, output.initial))
        return terms | {name: penalty.value() for name, penalty in draw.penalties.items()} if draw else terms


@dataclass(frozen=True)
class StepResult:
    """What one step leaves behind, on the device."""

    terms: dict[str, Tensor]
    """This rank's share of every loss term; penalties are divided by the number of ranks, so that they add up too."""
    schedule: dict[str, float]
    """Learning rate of the step and, in a search, the numbers of its draw."""


def train_step(
    config: Config,
    state: TrainState,
    objective: nn.Module,
    losses: MultiTaskLoss,
    micro: Sequence[Batch],
    ranks: Ranks,
    held_out: Sequence[Batch] = (),
) -> StepResult:
    """Forward and backward over the micro-batches of one iteration, then one step of every optimiser.

    With `held_out` micro-batches the logits learn from these and the weights then from `micro`: the alternation of
    DARTS in first order (Liu et al., ICLR 2019, Algorithm 1 with xi = 0). Both use one draw, and batch norms count the
    images of both.
    """
    rate, optimizers = state.set_learning_rate(config), state.optimizers()
    draw = state.strategy.draw(state.iteration) if state.strategy is not None else None
    if held_out:
        assert state.arch_optimizer is not None
        _backward(state, objective, losses, held_out, ranks, draw)
        _update(config, state, [state.arch_optimizer])
        optimizers = [state.optimizer]
    sums = _backward(state, objective, losses, micro, ranks, draw)
    _update(config, state, optimizers)
    state.balance.after_step(losses, sums, ranks)
    state.iteration += 1
    return StepResult(sums, {"lr": rate, **(draw.schedule if draw else {})})


def _backward(
    state: TrainState,
    objective: nn.Module,
    losses: MultiTaskLoss,
    micro: Sequence[Batch],
    ranks: Ranks,
    draw: Draw | None,
) -> dict[str, Tensor]:
    """Gradients of the loss of all micro-batches; returns `StepResult.terms`.

    They are those of one process on the whole batch: every term is divided by the valid pixels of all micro-batches
    and ranks, and the loss is multiplied by the number of ranks, since DDP takes the mean.
    """
    penalties = draw.penalties if draw else {}
    counts = whole_batch_counts(losses, micro, ranks)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=ranks.device))
    for index, batch in enumerate(micro):
        last = index == len(micro) - 1
        with nullcontext() if last or ranks.world == 1 else objective.no_sync():  # type: ignore[operator]
            terms = objective(batch.image, batch.labels, counts, draw)
            values = {name: terms.pop(name) for name in penalties}
            loss = ranks.world * losses.total(state.balance.scaled(losses, terms))
            for name, value in values.items():
                loss = loss + penalties[name].weight * value / len(micro)
                sums[name] = sums[name] + value.detach() / (len(micro) * ranks.world)
            state.balance.before_backward(losses, terms, ranks)
            state.scaler.scale(loss).backward()
        for name, term in terms.items():
            sums[name] = sums[name] + term.detach()
    return dict(sums)


def whole_batch_counts(losses: MultiTaskLoss, micro: Sequence[Batch], ranks: Ranks) -> dict[str, Tensor]:
    """`losses.counts` summed over all micro-batches and ranks; collective."""
    each = [losses.counts(batch.labels) for batch in micro]
    return ranks.sum({name: torch.stack([counts[name] for counts in each]).sum(0) for name in each[0]})


def _update(config: Config, state: TrainState, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Clip where asked for, step the given optimisers, clear all gradients; those of the others count nowhere."""
    scaler = state.scaler
    for optimizer in state.optimizers():
        if optimizer in optimizers:
            scaler.unscale_(optimizer)
        else:
            optimizer.zero_grad(set_to_none=True)
    finite = True
    bound = config.search.clip_norm if state.strategy is not None else config.optim.clip_norm
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
