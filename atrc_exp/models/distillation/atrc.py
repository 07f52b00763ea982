"""The ATRC module with fixed context types (Sec. 3.1, Fig. 2a)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from atrc_exp.genotype import NONE, Genotype
from atrc_exp.models.contexts import RelationalContext, build_context, shared
from atrc_exp.models.contexts.combine import Combination
from atrc_exp.models.contexts.maps import Block, TaskMaps, labelled_maps, task_maps
from atrc_exp.models.layers import conv_bn_act


class Fusion(nn.Module):
    """Fuse the outputs of a target's blocks with its own features (Sec. 3.1).

    The batch norm of the context branch starts at zero, so that training starts from the network without contexts.
    """

    def __init__(self, channels: int, context_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.context: nn.Sequential | None = None
        if context_channels:
            conv, norm, _ = conv_bn_act(context_channels, channels)
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
            self.context = nn.Sequential(conv, norm)
        self.refine = nn.Sequential(*conv_bn_act(2 * channels if context_channels else channels, channels))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor, contexts: list[Tensor]) -> Tensor:
        """Refine (B, C, h, w) `features` by the `contexts`, (B, D, h, w) each."""
        if self.context is not None:
            features = torch.cat((features, self.context(torch.cat(contexts, 1))), 1)
        return self.dropout(self.refine(features))


class ContextBlocks(nn.ModuleDict):
    """Context modules `[target][source][context]` for all `candidates[target][source]` but none, which has none.

    Modules attend in channels // 2 channels; other options as in `contexts.build_context`. With `share_work`, on from
    the start, what blocks have in common is computed once (`contexts.shared`); without it each block runs by itself, as
    the paper counts multiply-adds.
    """

    share_work = True

    def __init__(
        self,
        candidates: Mapping[str, Mapping[str, Sequence[str]]],
        channels: int,
        *,
        kernel_size: int,
        border: str,
        affine_value_norm: bool = True,
    ) -> None:
        options: dict[str, Any] = {"kernel_size": kernel_size, "border": border, "affine_value_norm": affine_value_norm}

        def modules(names: Sequence[str]) -> nn.ModuleDict:
            return nn.ModuleDict(
                {name: build_context(name, channels, channels // 2, **options) for name in names if name != NONE}
            )

        super().__init__(
            {t: nn.ModuleDict({s: modules(names) for s, names in row.items()}) for t, row in candidates.items()}
        )

    def forward(self, blocks: Sequence[Block], maps: TaskMaps) -> dict[Block, Tensor]:
        """Outputs (B, D, h, w) of the named blocks, which have modules; the others are not touched."""
        # By key, not as attributes: the compiler cannot guard a module whose name, "global", is a word of Python.
        rows: Any = self
        contexts = {block: cast(RelationalContext, rows[block.target][block.source][block.context]) for block in blocks}
        if self.share_work:
            return shared.attend(contexts, maps)
        return {block: _by_itself(block, context, maps) for block, context in contexts.items()}


def _by_itself(block: Block, context: RelationalContext, maps: TaskMaps) -> Tensor:
    regions = () if block.regions is None else (maps.regions[block.regions],)
    masks = context.masks(block, maps)
    return context(maps.features[block.target], maps.features[block.source], *regions, *masks)


class ATRC(nn.Module):
    """Refine the features of every task by the contexts that a genotype names.

    Args:
        genotype: context types of every block; the order of its tasks is the order of the concatenation.
        channels: C of the task features; blocks attend in C // 2 channels.
        kernel_size: window of the local contexts.
        border: "zero" or "mask", see `LocalContext`.
        dropout: rate of the channel dropout behind the fusion.
        mask_padding: leave padded pixels out of label regions, of the keys of contexts that take such a mask, and of
            what a gate reads. Off in the published results, whose mask looked for the fill value after it had been
            normalised away.
        combine: "static" or "gate", how the outputs of several contexts of a block become one, see `contexts.combine`.
        temperature: of the gate.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        *,
        kernel_size: int = 9,
        border: str = "zero",
        dropout: float = 0.05,
        mask_padding: bool = False,
        combine: str = "static",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.genotype = genotype
        self.label_tasks = genotype.label_tasks()
        self.mask_padding = mask_padding
        names = {t: {s: genotype.types(t, s) for s in genotype.tasks} for t in genotype.tasks}
        self.blocks = ContextBlocks(names, channels, kernel_size=kernel_size, border=border)
        connected = {t: sum(map(bool, row.values())) for t, row in names.items()}
        self.fusions = nn.ModuleDict(
            {task: Fusion(channels, connected[task] * (channels // 2), dropout) for task in genotype.tasks}
        )
        self.combination = Combination(genotype, channels, combine, temperature)

    def forward(
        self,
        features: dict[str, Tensor],
        aux_logits: dict[str, Tensor],
        valid: Tensor | None = None,
        densities: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task.

        Args:
            features: F_n (B, C, h, w) of all tasks.
            aux_logits: logits (B, R, h, w) of the `label_tasks` before the spatial softmax, not detached.
            valid: bool (B, 1, h, w), False at padded pixels; read with `mask_padding` only.
            densities: label regions (B, R, h, w) of the `label_tasks` from labels (App. E), instead of the logits.
        """
        valid = valid if self.mask_padding else None
        if densities is None:
            maps = task_maps(features, aux_logits, valid)
        else:
            maps = labelled_maps(features, densities, valid)
        parts = itertools.chain.from_iterable(self.combination.parts.values())
        contexts = self.combination(self.blocks(list(parts), maps), maps)
        return {
            target: fusion(features[target], [x for block, x in contexts.items() if block.target == target])
            for target, fusion in self.fusions.items()
        }
