"""A look into a trained network: what its context blocks read and give, and predictions from changed block outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXT_TYPES, NONE, Genotype
from atrc_exp.models.contexts import RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.distillation.atrc import ATRC
from atrc_exp.models.network import Network
from atrc_exp.models.search import SearchATRC
from atrc_exp.resizing import resize


class BlockView:
    """The context blocks of a network in evaluation mode; of a search network those of its chosen types.

    Raises:
        UserError: a network without context blocks.
    """

    def __init__(self, network: Network) -> None:
        module = network.distillation
        if not isinstance(module, ATRC | SearchATRC):
            raise UserError(
                "the network has no context blocks; give a run of distillation=atrc, search or a single context type: "
                + ", ".join(name for name in CONTEXT_TYPES if name != NONE)
            )
        self.network, self.module = network, module
        self.genotype: Genotype = module.genotype if isinstance(module, ATRC) else module.genotype()
        named = [Block(t, s, self.genotype.blocks[t][s]) for t, s in self.genotype.pairs()]
        self.blocks = [block for block in named if block.context != NONE]
        """Blocks with an output, row by row; one that combines several contexts is one block."""

    def context(self, block: Block) -> RelationalContext:
        """The module of a single context."""
        rows: Any = self.module.blocks
        return rows[block.target][block.source][block.context]

    def of(self, target: str) -> list[Block]:
        """Blocks of a target that have an output."""
        return [block for block in self.blocks if block.target == target]

    @contextmanager
    def watching(self) -> Iterator[Callable[[], tuple[TaskMaps, dict[Block, Tensor]]]]:
        """Yield a function that gives what the blocks read and their outputs (B, D, h, w) in the latest pass."""
        seen: list[tuple[TaskMaps, dict[Block, Tensor]]] = []

        def keep(_: nn.Module, inputs: Any, outputs: dict[Block, Tensor]) -> None:
            seen[:] = [(inputs[1], outputs)]

        whole: nn.Module = self.module.combination if isinstance(self.module, ATRC) else self.module.blocks
        handle = whole.register_forward_hook(keep)
        try:
            yield lambda: seen[0]
        finally:
            handle.remove()

    def predict(self, target: str, features: Tensor, outputs: Mapping[Block, Tensor], size: tuple[int, int]) -> Tensor:
        """Prediction (B, c, H, W) of a target from its features (B, C, h, w) and the outputs of its blocks."""
        tasks, types = self.genotype.tasks, self.genotype.blocks[target]
        named = (outputs.get(Block(target, source, types[source])) for source in tasks)
        if isinstance(self.module, SearchATRC):  # its fusion keeps the channels of a block that is none
            zero = features.new_zeros(len(features), self.module.attention_channels, *features.shape[2:])
            contexts = [zero if output is None else output for output in named]
        else:
            contexts = [output for output in named if output is not None]
        refined = self.module.fusions[target](features, contexts)
        return resize(self.network.predictors[target](refined), size)
