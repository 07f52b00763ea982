"""Balance of the tasks: factors of their losses, or weights of their gradients, that change in training."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.config import BalanceConfig
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.processes.ranks import Ranks
from atrc_exp.training.aggregators import build_aggregator


class Fixed:
    """The weights of the tasks as they are, as in the paper; and what every balance does before and after a step.

    Args:
        tasks: names, in the order used everywhere.

    Attributes:
        factors: of the coming step by task (K,), on the device; None leaves all losses as they are.
    """

    def __init__(self, config: BalanceConfig, tasks: Sequence[str], device: torch.device) -> None:
        self.config, self.tasks, self.device = config, tuple(tasks), device
        self.factors: Tensor | None = None

    def attach(self, backbone: nn.Module) -> None:
        """Called once, with the module whose maps all tasks share."""

    def scaled(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """All terms of a task times its factor."""
        if self.factors is None:
            return terms
        factors = dict(zip(self.tasks, self.factors.unbind(), strict=True))
        return {name: factors[losses.owners[name]] * term for name, term in terms.items()}

    def before_backward(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Reach into the graph of a micro-batch; collective.

        Args:
            terms: this rank's shares of the micro-batch, unscaled.
        """

    def after_step(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Learn from a step; collective, without waiting for the device.

        Args:
            terms: this rank's shares of all terms, unscaled and detached, summed over the micro-batches.
        """

    def record(self) -> dict[str, float]:
        """Factors by task for the log; waits for the device."""
        if self.factors is None:
            return {}
        return {f"factor/{task}": value for task, value in zip(self.tasks, self.factors.tolist(), strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Plain data for the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""

    def _task_losses(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor]) -> list[Tensor]:
        """Weighted loss of every task, all its terms together."""
        own = {
            task: [losses.weights[name] * terms[name] for name, owner in losses.owners.items() if owner == task]
            for task in self.tasks
        }
        return [torch.stack(values).sum() for values in own.values()]

    def _whole_task_losses(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> Tensor:
        """Those of all ranks together (K,)."""
        return torch.stack(self._task_losses(losses, ranks.sum({name: terms[name] for name in losses.owners})))


class Uncertainty(Fixed):
    """Homoscedastic uncertainty of the tasks (Kendall et al., CVPR 2018, Eq. 10).

    The total loss is the sum over tasks of exp(-s) L + s / 2 with s the logarithm of the task's variance, learned from
    s = 0 on, where the weights are the published ones. For constant L the factor exp(-s) ends at 1 / (2 L).

    The gradient with respect to s is 1 / 2 - exp(-s) L, which needs no graph: it is that of the whole batch also over
    micro-batches and ranks. Adam takes the step, so that the rate does not depend on the scale of the losses.
    """

    factors: Tensor

    def __init__(self, config: BalanceConfig, tasks: Sequence[str], device: torch.device) -> None:
        super().__init__(config, tasks, device)
        self.log_variances = torch.zeros(len(self.tasks), device=device, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.log_variances], lr=config.lr)
        self._refresh()

    def after_step(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> None:
        values = self._whole_task_losses(losses, terms, ranks).to(self.log_variances.dtype)
        self.log_variances.grad = 0.5 - self.factors * values
        self.optimizer.step()
        self._refresh()

    def state_dict(self) -> dict[str, Any]:
        return {"log_variances": self.log_variances.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.log_variances.copy_(state["log_variances"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._refresh()

    def _refresh(self) -> None:
        self.factors = (-self.log_variances.detach()).exp()


class DWA(Fixed):
    """Dynamic weight average (Liu et al., CVPR 2019, Eq. 7): a task whose loss falls slowly gets more weight.

    The factors are K softmax(w / T) with w the mean loss of an interval divided by that of the interval before it. The
    paper's interval is an epoch; here it is `balance.interval` iterations. In the first two the factors are 1.
    A task without a loss in an interval has w = 1 after it.
    """

    factors: Tensor

    def __init__(self, config: BalanceConfig, tasks: Sequence[str], device: torch.device) -> None:
        super().__init__(config, tasks, device)
        self.factors = torch.ones(len(self.tasks), device=device)
        self.sums = torch.zeros(len(self.tasks), dtype=torch.float64, device=device)
        self.steps = 0
        self.previous: Tensor | None = None

    def after_step(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> None:
        self.sums = self.sums + self._whole_task_losses(losses, terms, ranks)
        self.steps += 1
        if self.steps < self.config.interval:
            return
        means = self.sums / self.steps
        if self.previous is not None:
            known = (means > 0) & (self.previous > 0)
            speeds = torch.where(known, means / self.previous, 1.0)
            self.factors = (len(self.tasks) * (speeds / self.config.temperature).softmax(0)).float()
        self.previous, self.sums, self.steps = means, torch.zeros_like(means), 0

    def state_dict(self) -> dict[str, Any]:
        return {"factors": self.factors, "sums": self.sums, "steps": self.steps, "previous": self.previous}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.factors, self.sums = state["factors"].to(self.device), state["sums"].to(self.device)
        self.steps = state["steps"]
        self.previous = None if state["previous"] is None else state["previous"].to(self.device)


class TorchJD(Fixed):
    """Weights of the tasks' gradients at the maps of the backbone, by `balance.aggregator`.

    The published, weighted loss of each task, all its terms together, has a gradient at the maps, which all tasks read.
    The aggregator weighs these gradients by their Gramian on the images of a micro-batch over all ranks, and the
    backbone gets their weighted sum. What lies behind the maps gets the plain gradient of the total loss, and so does
    the architecture of a search.

    Attributes:
        factors: weights (K,) of the latest micro-batch; None before the first.
    """

    def __init__(self, config: BalanceConfig, tasks: Sequence[str], device: torch.device) -> None:
        super().__init__(config, tasks, device)
        self.weigh = build_aggregator(config)
        self.maps: list[Tensor] = []

    def attach(self, backbone: nn.Module) -> None:
        backbone.register_forward_hook(self._keep)

    def _keep(self, backbone: nn.Module, inputs: tuple[Tensor, ...], maps: list[Tensor]) -> list[Tensor]:
        if torch.is_grad_enabled():
            # Aliases, since coarser maps are made from finer ones: each gets its direct gradient alone.
            maps = self.maps = [each.view_as(each) for each in maps]
        return maps

    def scaled(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return terms  # the factors are those of the gradients

    def before_backward(self, losses: MultiTaskLoss, terms: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Take each task's gradient at the maps, and let the backward pass go on from there with their weighted sum.

        It waits for the device once.
        """
        maps, self.maps = self.maps, []
        gradients = [
            torch.autograd.grad(loss, maps, retain_graph=True, materialize_grads=True)
            for loss in self._task_losses(losses, terms)
        ]
        rows = torch.stack([torch.cat([part.flatten() for part in own]).double() for own in gradients])
        self.factors = self.weigh(ranks.total(rows @ rows.T).cpu()).to(self.device)
        ranks.copy_from_main([self.factors])  # pcgrad draws an order from the random state of each rank
        for each, parts in zip(maps, zip(*gradients, strict=True), strict=True):
            shared = reduce(add, (w * part for w, part in zip(self.factors.unbind(), parts, strict=True)))
            each.register_hook(partial(_replace, ranks.world * shared))  # DDP takes the mean over ranks


def _replace(shared: Tensor, _: Tensor) -> Tensor:
    return shared


BALANCES: dict[str, type[Fixed]] = {"fixed": Fixed, "uncertainty": Uncertainty, "dwa": DWA, "torchjd": TorchJD}


def build_balance(config: BalanceConfig, tasks: Sequence[str], device: torch.device) -> Fixed:
    """The balance `config.name` at its start.

    Raises:
        UserError: a package is missing.
    """
    return BALANCES[config.name](config, tasks, device)
