"""A look into a trained network: what its context blocks read and give, and predictions from changed block outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXT_TYPES, NONE, Genotype, row_of, scale_of, task_of
from atrc_exp.models.contexts import RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.distillation.atrc import ATRC
from atrc_exp.models.distillation.scales import ScaledATRC
from atrc_exp.models.necks.pyramid import join
from atrc_exp.models.network import Network
from atrc_exp.models.search import Architecture
from atrc_exp.resizing import resize


class BlockView:
    """The context blocks of a network in evaluation mode; of a search network those of its chosen types.

    Where the blocks stand at every scale of a pyramid their targets are rows, `semseg@0`, whether or not the scales
    follow one genotype.

    Raises:
        UserError: a network without context blocks.
    """

    def __init__(self, network: Network) -> None:
        module = network.distillation
        if not isinstance(module, ATRC | ScaledATRC | Architecture):
            raise UserError(
                "the network has no context blocks; give a run of distillation=atrc, search or a single context type: "
                + ", ".join(name for name in CONTEXT_TYPES if name != NONE)
            )
        self.network, self.module = network, module
        self.multi_scale: bool = getattr(module, "multi_scale", False)
        scales: Any = module.scales if self.multi_scale else [module]
        self.scales: list[Any] = list(scales)
        """What stands on one map of every task: `blocks` and `fusions`."""
        genotype = module.genotype() if isinstance(module, Architecture) else module.genotype
        each_alike = self.multi_scale and not genotype.scales
        self.genotype: Genotype = genotype.on(len(self.scales)) if each_alike else genotype
        named = [Block(t, s, self.genotype.blocks[t][s]) for t, s in self.genotype.pairs()]
        self.blocks = [block for block in named if block.context != NONE]
        """Blocks with an output, row by row; one that combines several contexts is one block."""

    def context(self, block: Block) -> RelationalContext:
        """The module of a single context."""
        rows: Any = self.scales[scale_of(block.target)].blocks
        return rows[task_of(block.target)][block.source][block.context]

    def shares(self, block: Block, maps: TaskMaps) -> list[float]:
        """Weights that a block gives to its contexts for the first image of the `maps` of its scale; they sum to 1."""
        if len(block.parts) == 1:
            return [1.0]
        module = self.scales[scale_of(block.target)]
        return module.combination.shares(block._replace(target=task_of(block.target)), maps)[0].tolist()

    def of(self, task: str) -> list[Block]:
        """Blocks of a task, at all scales, that have an output."""
        return [block for block in self.blocks if task_of(block.target) == task]

    @contextmanager
    def watching(self) -> Iterator[Callable[[], tuple[list[TaskMaps], dict[Block, Tensor]]]]:
        """Yield a function that gives what blocks read, by scale, and their outputs (B, D, h, w) in the latest pass."""
        read: dict[int, TaskMaps] = {}
        given: dict[int, dict[Block, Tensor]] = {}

        def keep(scale: int, _: nn.Module, inputs: Any, outputs: dict[Block, Tensor]) -> None:
            read[scale], given[scale] = inputs[1], outputs

        def seen() -> tuple[list[TaskMaps], dict[Block, Tensor]]:
            outputs = {
                block._replace(target=self._row(block.target, scale)): output
                for scale, each in given.items()
                for block, output in each.items()
            }
            return [read[scale] for scale in range(len(self.scales))], outputs

        whole = [each.combination if isinstance(each, ATRC) else each.blocks for each in self.scales]
        handles = [each.register_forward_hook(partial(keep, scale)) for scale, each in enumerate(whole)]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _row(self, task: str, scale: int) -> str:
        return row_of(task, scale) if self.multi_scale else task

    def predict(
        self, task: str, features: Sequence[Tensor], outputs: Mapping[Block, Tensor], size: tuple[int, int]
    ) -> Tensor:
        """Prediction (B, c, H, W) of a task from its features (B, C, h, w), by scale, and the outputs of its blocks."""
        refined = [self._refined(task, scale, x, outputs) for scale, x in enumerate(features)]
        (joined,) = join({task: refined}, [task]).values()
        head = self.network.heads[task] if self.multi_scale else nn.Identity()
        return resize(self.network.predictors[task](head(joined)), size)

    def _refined(self, task: str, scale: int, features: Tensor, outputs: Mapping[Block, Tensor]) -> Tensor:
        row = self._row(task, scale)
        named = (outputs.get(Block(row, source, context)) for source, context in self.genotype.blocks[row].items())
        if isinstance(self.module, Architecture):  # its fusion keeps the channels of a block that is none
            batch, channels, *size = features.shape
            zero = features.new_zeros(batch, channels // 2, *size)
            contexts = [zero if output is None else output for output in named]
        else:
            contexts = [output for output in named if output is not None]
        return self.scales[scale].fusions[task](features, contexts)
