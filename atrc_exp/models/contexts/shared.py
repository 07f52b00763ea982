"""The outputs of all context blocks of a network, with what they share computed once.

The blocks are those of Sec. 3.2 and so are their outputs; only the order of the work differs from one block at a time:

1. Projections that read the same map become one: queries of all blocks of a target, and keys and values of all blocks
   of a source, read the features of that task; keys and values of blocks that read label regions take the prototypes of
   these regions instead.
2. The prototypes of all regions in a source are one product.
3. Attention is one call for all blocks with the same module and the same regions, stacked along the batch.

Weights and running statistics stay in the modules of the blocks, under their names in the state dict.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from atrc_exp.genotype.contexts import context_type
from atrc_exp.models.contexts.base import RelationalContext
from atrc_exp.models.contexts.joint_conv_bn import conv_bn_of_each, conv_bn_of_one
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.contexts.regions import region_means

Contexts = Mapping[Block, RelationalContext]
ROLES = ("query", "key", "value")


class Projection(NamedTuple):
    """One of the three projections of a block."""

    block: Block
    role: str


Projected = dict[Projection, Tensor]
"""Results of projections (B, D, n), over the n positions or labels that they read; queries and keys before their
last activation."""


def attend(contexts: Contexts, maps: TaskMaps) -> dict[Block, Tensor]:
    """Outputs (B, D, h, w) of all blocks, equal to those of each context module called by itself."""
    projected = _project_features(contexts, maps) | _project_prototypes(contexts, maps)
    size = next(iter(maps.features.values())).shape[2:]
    outputs: dict[Block, Tensor] = {}
    for blocks in _groups(contexts):
        first = blocks[0]
        query, key, value = (_stack(contexts, blocks, role, projected) for role in ROLES)
        read = size if first.regions is None else (-1, 1)
        masks = (_repeat(mask, len(blocks)) for mask in contexts[first].masks(first, maps))
        out = contexts[first].attend(query.unflatten(2, size), key.unflatten(2, read), value.unflatten(2, read), *masks)
        outputs |= zip(blocks, out.view(len(blocks), -1, out.shape[1], *size), strict=True)
    return {block: outputs[block] for block in contexts}  # in the order asked for


def _groups(contexts: Contexts) -> list[list[Block]]:
    """Blocks that attend together: those with the same module, hence the same settings, and the same regions."""
    groups: dict[tuple[str | None, str | None], list[Block]] = {}
    for block in contexts:
        groups.setdefault((context_type(block.context).module, block.regions), []).append(block)
    return list(groups.values())


def _stack(contexts: Contexts, blocks: list[Block], role: str, projected: Projected) -> Tensor:
    """One projection of several blocks, (blocks * B, D, n), activated."""
    stacked = torch.cat([projected.pop(Projection(block, role)) for block in blocks])
    return stacked if role == "value" else _layers(contexts, Projection(blocks[0], role))[-1](stacked)


def _repeat(mask: Tensor | None, blocks: int) -> Tensor | None:
    return None if mask is None else mask.repeat(blocks, *(1 for _ in mask.shape[1:]))


def _project_features(contexts: Contexts, maps: TaskMaps) -> Projected:
    """Project the features of every task for all blocks that read them."""
    projected: Projected = {}
    for task, features in maps.features.items():
        readers = [Projection(block, "query") for block in contexts if block.target == task]
        sources = [block for block in contexts if block.source == task and block.regions is None]
        readers += [Projection(block, role) for block in sources for role in ("key", "value")]
        if readers:
            projected |= _project(contexts, readers, features.flatten(2))
    return projected


def _project_prototypes(contexts: Contexts, maps: TaskMaps) -> Projected:
    """Project the prototypes of every label map for all blocks that read them."""
    means = _prototypes(contexts, maps)
    projected: Projected = {}
    for regions in maps.regions:
        blocks = [block for block in contexts if block.regions == regions]
        readers = [Projection(block, role) for block in blocks for role in ("key", "value")]
        if readers:
            # Sorted as `_project` will sort them, so that every reader gets its input.
            readers.sort(key=lambda reader: reader.role)
            inputs = torch.stack([means[regions, reader.block.source] for reader in readers], 1)
            projected |= _project(contexts, readers, inputs)
    return projected


def _prototypes(contexts: Contexts, maps: TaskMaps) -> dict[tuple[str, str], Tensor]:
    """Means (B, C, R) of a source's features under the densities of a task's regions, by (regions, source)."""
    means = {}
    for source, features in maps.features.items():
        wanted = {block.regions: 0 for block in contexts if block.source == source}
        names = [name for name in wanted if name is not None]
        if names:
            densities = [maps.regions[name] for name in names]
            products = region_means(features, torch.cat(densities, 1)).squeeze(3)
            parts = products.split([density.shape[1] for density in densities], 2)
            means.update({(name, source): part for name, part in zip(names, parts, strict=True)})
    return means


def _layers(contexts: Contexts, projection: Projection) -> nn.Sequential:
    """Conv-BN-activation, twice for queries and keys, once for values."""
    return getattr(contexts[projection.block], projection.role)


def _project(contexts: Contexts, readers: Sequence[Projection], x: Tensor) -> Projected:
    """Apply projections to the map that all of them read (B, C, n), or each to its own part of (B, readers, C, n).

    In the latter case those of two layers, queries and keys, come first.
    """
    readers = sorted(readers, key=lambda reader: reader.role == "value")
    layers = [_layers(contexts, reader) for reader in readers]
    deep = [sequence for sequence in layers if len(sequence) > 3]
    first = (conv_bn_of_one if x.dim() == 3 else conv_bn_of_each)([sequence[:2] for sequence in layers], x)
    first = layers[0][2](first)
    sizes = [cast(nn.Conv2d, sequence[0]).out_channels for sequence in layers]
    hidden, *results = first.split([sum(sizes[: len(deep)]), *sizes[len(deep) :]], 1)
    if deep:
        hidden = hidden.unflatten(1, (len(deep), -1))
        second = conv_bn_of_each([sequence[3:5] for sequence in deep], hidden)
        results = [*second.split([sequence[3].out_channels for sequence in deep], 1), *results]
    return dict(zip(readers, results, strict=True))
