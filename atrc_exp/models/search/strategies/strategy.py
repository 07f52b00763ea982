"""What a search strategy is to the training: a draw for every step, a choice at the end, and what it tells of itself.

A strategy keeps no state of its own that a resume would need. What has to last is in the supergraph (`arch` and
`frozen` are saved with the network), and all else is a function of the seed and the iteration, so that every rank and
every start draws the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.genotype import Genotype
from atrc_exp.models.search.architecture import Architecture, Mixture
from atrc_exp.models.search.strategies.keep import kept

SinglePath = tuple[int, ...]
"""A context for every block, as indices of `Architecture.types`; blocks as in `Architecture`."""


class Penalty(NamedTuple):
    """A term that is added to the loss of a step."""

    weight: float
    value: Callable[[], Tensor]
    """Gives the scalar with its gradient. It is called inside the forward pass of the step, where
    DistributedDataParallel sees the use of the logits."""


@dataclass(frozen=True)
class Draw:
    """What a strategy asks of one training step."""

    mixture: Mixture
    penalties: Mapping[str, Penalty] = field(default_factory=dict)
    """By name: those of `Strategy.penalties`, in every step."""
    schedule: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the step that are worth a record."""


class Strategy(ABC):
    """How the supergraph is trained and how its genotype is chosen; one subclass a file.

    Args:
        config: `search`, the seed and the number of iterations are read.
        search: the supergraph, in its place on the device by the time of the first step.
    """

    penalties: tuple[str, ...] = ()
    """Names of the penalties of every draw."""
    learns: bool = True
    """Whether the logits are trained."""
    chooses: bool = False
    """Whether it has `choose`; if so, a part of the training images is held out for that."""

    def __init__(self, config: Config, search: Architecture) -> None:
        self.config, self.search = config, search

    @abstractmethod
    def draw(self, iteration: int) -> Draw:
        """What the step after `iteration` completed ones does; it may freeze blocks, and must not wait for the device.

        It depends on the seed, the iteration and the supergraph alone.
        """

    def resumed(self) -> None:  # noqa: B027 (most know nothing that could be out of date)
        """Forget what is known of the supergraph: it has the weights of a checkpoint now."""

    def choose(self, score: Callable[[SinglePath], float]) -> SinglePath:
        """The path that is taken after the last step, by the loss of paths on held-out images; all ranks find the same.

        All blocks are frozen to it. A strategy that learns which context is best needs no such choice.
        """
        raise NotImplementedError(f"{type(self).__name__} does not choose by held-out images")

    def genotype(self) -> Genotype:
        """The choice as it stands, whose most probable contexts are the network that is validated."""
        return kept(self.search.genotype(), self.config.search.keep)

    def record(self) -> dict[str, Any]:
        """Where the search stands, for a record; it may wait for the device."""
        return {"frozen": int((self.search.frozen >= 0).sum()),
                "probabilities": self.search.genotype().details["probabilities"]}  # fmt: skip
