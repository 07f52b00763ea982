"""The search network: every block holds all its candidate contexts, and mixes them (Sec. 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from atrc_exp.genotype import CONTEXTS, NONE
from atrc_exp.models.contexts.maps import Block, TaskMaps, task_maps
from atrc_exp.models.distillation.atrc import ContextBlocks, Fusion
from atrc_exp.models.search.architecture import Architecture, Mixture


class Modules(Protocol):
    """What stands on one map of every task."""

    blocks: ContextBlocks
    """All candidates."""
    fusions: nn.ModuleDict
    """By task."""


class Candidates(nn.Module):
    """The modules of all candidates on one map of every task, and the fusions behind them.

    Args:
        candidates: context types by target and source, which are tasks.
    """

    def __init__(
        self, candidates: Mapping[str, Mapping[str, Sequence[str]]], channels: int, *, kernel_size: int, border: str
    ) -> None:
        super().__init__()
        self.blocks = ContextBlocks(
            candidates, channels, kernel_size=kernel_size, border=border, affine_value_norm=False
        )
        self.fusions = nn.ModuleDict({t: Fusion(channels, len(candidates) * (channels // 2)) for t in candidates})


class SearchATRC(Architecture):
    """All candidate contexts for every ordered pair of tasks, with one architecture logit each.

    Options as in `ATRC` and `Architecture`; the search network has no dropout.
    """

    def __init__(
        self,
        tasks: tuple[str, ...],
        channels: int,
        *,
        kernel_size: int = 9,
        border: str = "zero",
        mask_padding: bool = False,
        self_attention: bool = True,
        types: Sequence[str] = CONTEXTS,
    ) -> None:
        super().__init__(tasks, self_attention=self_attention, types=types)
        self.mask_padding = mask_padding
        modules = Candidates(self.candidates, channels, kernel_size=kernel_size, border=border)
        self.blocks, self.fusions = modules.blocks, modules.fusions

    def paths(self, target: str) -> tuple[str, ...]:
        """See `Architecture`."""
        return ("",)

    def forward(
        self,
        features: dict[str, Tensor],
        aux_logits: dict[str, Tensor],
        sample: Mixture | None = None,
        valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task.

        With a `sample`, blocks mix all candidates unless it names the only one; without a sample (evaluation) they take
        the most probable candidate. Frozen blocks take theirs. A candidate of a block that is known to be frozen is not
        computed where its weight is 0: unlike in the published code it gets no gradient, no weight decay and no
        batch-norm statistics, which no output sees.

        Args:
            features: F_n (B, C, h, w) of all tasks.
            aux_logits: logits (B, R, h, w) of all tasks before the spatial softmax, not detached.
            sample: the draw of this step; training needs one.
            valid: bool (B, 1, h, w), False at padded pixels; read with `mask_padding` only.
        """
        chosen, weights = self.drawn(sample)
        maps = task_maps(features, aux_logits, valid if self.mask_padding else None)
        return mix(self, self.candidates, self.types, maps, chosen, weights)


def mix(
    modules: Modules,
    candidates: Mapping[str, Mapping[str, Sequence[str]]],
    types: Sequence[str],
    maps: TaskMaps,
    chosen: Sequence[int],
    weights: Tensor | None,
) -> dict[str, Tensor]:
    """Refine the features (B, C, h, w) of one map of every task.

    Args:
        candidates: types by target and source, which are tasks.
        types: all types, which the indices mean.
        chosen, weights: of the blocks of these targets, as `Architecture.drawn` gives them.
    """
    blocks = list(zip(chosen, ((t, s) for t, row in candidates.items() for s in row), strict=True))
    contexts = modules.blocks(
        [
            Block(target, source, name)
            for index, (target, source) in blocks
            for name in (candidates[target][source] if index < 0 else (types[index],))
            if name != NONE
        ],
        maps,
    )
    outputs: dict[str, list[Tensor]] = {target: [] for target in candidates}
    for block, (index, (target, source)) in enumerate(blocks):
        batch, channels, *size = maps.features[target].shape
        output = maps.features[target].new_zeros(batch, channels // 2, *size)  # of none
        if index >= 0:
            output = contexts.get(Block(target, source, types[index]), output)
        else:
            assert weights is not None
            for name, weight in zip(types, weights[block].unbind(), strict=True):
                context = contexts.get(Block(target, source, name))
                output = output if context is None else torch.addcmul(output, weight, context)
        outputs[target].append(output)
    return {task: modules.fusions[task](maps.features[task], outputs[task]) for task in candidates}
