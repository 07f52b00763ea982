"""Resource-aware search: the expected multiply-adds of the network in the loss (App. F: "a tie-breaking auxiliary
objective, e.g. a resource loss")."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.network import Network
from atrc_exp.models.profile import choice_costs
from atrc_exp.models.search.architecture import Architecture
from atrc_exp.models.search.strategies.strategy import Draw, Penalty, SinglePath, Strategy

RESOURCE = "resource"


class ExpectedCost:
    """Expected multiply-adds of the network for one image, as a share of those of the dearest network.

    Every block counts the mean of its candidates under their probabilities, a frozen one its context.

    Attributes:
        dearest: multiply-adds of the network with the dearest candidate in every block; `cheapest` likewise.
    """

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        costs = choice_costs(network, image_size)
        assert network.search is not None
        self.search: Architecture = network.search
        rows = [
            [costs.blocks[Block(t, s, name)] for name in self.search.candidates[t][s]] for t, s in self.search.pairs
        ]
        self.cheapest = costs.rest + sum(map(min, rows))
        self.dearest = costs.rest + sum(map(max, rows))
        self.rest = costs.rest / self.dearest
        types, pairs = self.search.types, self.search.pairs
        self.table = torch.tensor(
            [[costs.blocks.get(Block(t, s, name), 0) / self.dearest for name in types] for t, s in pairs]
        )

    def __call__(self) -> Tensor:
        """The share, with gradient to the logits."""
        probabilities = self.search.one_hot_where_frozen(self.search.logits().softmax(1))
        self.table = self.table.to(probabilities)  # moves to the device once
        return self.rest + (probabilities * self.table).sum()


class ResourceAware(Strategy):
    """Another strategy with `search.resource_weight` times the expected cost in its loss.

    With a budget only what exceeds it counts, as a share of the dearest network too.

    Raises:
        UserError: a strategy without logits to learn, or a budget that no network or every network meets.
    """

    def __init__(self, config: Config, network: Network, strategy: Strategy) -> None:
        super().__init__(config, strategy.search)
        settings, (height, width) = config.search, config.dataset.crop
        if not strategy.learns:
            raise UserError(
                f"search.resource_weight={settings.resource_weight}: must be 0 for search.strategy="
                f"{settings.strategy}, which learns no probabilities"
            )
        self.strategy, self.expected = strategy, ExpectedCost(network, (height, width))
        self.penalties, self.chooses = (*strategy.penalties, RESOURCE), strategy.chooses
        cheapest, dearest = (cost / 1e9 for cost in (self.expected.cheapest, self.expected.dearest))
        if settings.budget is not None and not cheapest <= settings.budget < dearest:
            raise UserError(
                f"search.budget={settings.budget}: must be at least {cheapest:.4g} and below {dearest:.4g}, the "
                f"multiply-adds in 10^9 of the cheapest and the dearest network at dataset.crop=[{height},{width}]"
            )
        self.free = 0.0 if settings.budget is None else settings.budget * 1e9 / self.expected.dearest

    def penalty(self) -> Tensor:
        """The share of the dearest network's multiply-adds that is expected beyond the budget."""
        return (self.expected() - self.free).relu()

    def draw(self, iteration: int) -> Draw:
        draw = self.strategy.draw(iteration)
        penalty = Penalty(self.config.search.resource_weight, self.penalty)
        return replace(draw, penalties={**draw.penalties, RESOURCE: penalty})

    def resumed(self) -> None:
        self.strategy.resumed()

    def choose(self, score: Callable[[SinglePath], float]) -> SinglePath:
        return self.strategy.choose(score)

    def genotype(self) -> Genotype:
        return self.strategy.genotype()

    @torch.no_grad()
    def record(self) -> dict[str, Any]:
        expected = float(self.expected()) * self.expected.dearest / 1e9
        return {**self.strategy.record(), "multiply_adds": expected}
