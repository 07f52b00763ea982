"""Single rows of the attention matrices A of Eq. 2 to 6: what one target pixel takes from every source pixel (Fig. 3).

The blocks never form these matrices. A row is computed here from the definition of its context and the projections of
the trained block, for one pixel of one image.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from atrc_exp.models.contexts import LocalContext, RelationalContext, region_means
from atrc_exp.models.contexts.maps import Block, TaskMaps


@dataclass(frozen=True)
class AttentionRow:
    """What one pixel of the target takes from the source by one block."""

    block: Block
    weights: Tensor
    """(h, w), >= 0, of the source's positions; they and `beyond` sum to 1."""
    beyond: float
    """Weight of keys outside the map: the zero padding that takes part in local contexts with border="zero"."""
    regions: Tensor | None
    """Weights (R,) of the prototypes, for label contexts."""
    sizes: Tensor | None
    """Sizes (R,) of the regions of label contexts, as shares of the map; see `region_sizes`."""


def attention_row(context: RelationalContext, block: Block, maps: TaskMaps, cell: tuple[int, int]) -> AttentionRow:
    """Row of a block for the position (y, x) of the first image of `maps`.

    Global and local weights apply to the values of the positions. Label contexts attend to prototypes, sum_r w_r v_r,
    with v_r the values of the prototypes; a position's weight is then its part in them, sum_r w_r A_r, with A_r the
    density of region r.
    """
    y, x = cell
    target, source = (maps.features[task][:1] for task in (block.target, block.source))
    query = _vectors(context.query(target[:, :, y : y + 1, x : x + 1]))[:, 0]  # (D,)
    if block.regions is not None:
        return _label_row(context, block, maps, query)
    key = context.key(source)
    if block.context == "local":
        return _local_row(cast(LocalContext, context), block, key, query, cell)
    similarities = query @ _vectors(key)
    if maps.valid is not None:
        similarities = similarities * maps.valid[0].flatten()
    weights = similarities / similarities.sum().clamp(min=1e-12)
    return AttentionRow(block, weights.view(key.shape[2:]), 0.0, None, None)


def _local_row(context: LocalContext, block: Block, key: Tensor, query: Tensor, cell: tuple[int, int]) -> AttentionRow:
    """Softmax over the window; with border="zero" its positions outside the map score 0."""
    radius, size = context.kernel_size // 2, key.shape[2:]
    window = [slice(max(0, at - radius), min(n, at + radius + 1)) for at, n in zip(cell, size, strict=True)]
    inside = key[:1, :, window[0], window[1]]
    scores = query @ _vectors(inside) * len(query) ** -0.5
    missing = context.kernel_size**2 - len(scores) if context.border == "zero" else 0
    shares = torch.cat((scores, scores.new_zeros(missing))).softmax(0)
    weights = shares.new_zeros(size)
    weights[window[0], window[1]] = shares[: len(scores)].view(inside.shape[2:])
    return AttentionRow(block, weights, float(shares[len(scores) :].sum()), None, None)


def _label_row(context: RelationalContext, block: Block, maps: TaskMaps, query: Tensor) -> AttentionRow:
    assert block.regions is not None
    densities = maps.regions[block.regions][:1]  # (1, R, h, w)
    key = _vectors(context.key(region_means(maps.features[block.source][:1], densities)))  # (D, R)
    scores = query @ key * len(query) ** -0.5
    present = maps.present[block.regions][0].flatten() if block.regions in maps.present else torch.ones_like(scores) > 0
    shares = scores.masked_fill(~present, -torch.inf).softmax(0) if present.any() else torch.zeros_like(scores)
    weights = torch.einsum("r,rhw->hw", shares, densities[0].to(shares))
    return AttentionRow(block, weights, 0.0, shares, region_sizes(densities[0]))


def region_sizes(densities: Tensor) -> Tensor:
    """Sizes (R,) of regions given by densities (R, h, w), as shares of the map: 1 / (n sum_j A_j^2) for n positions.

    This is Kish's effective number of positions in a mean weighted by A, over n: the share of its pixels for a region
    with an even density, 1 for one that is even over the whole map, 0 for a region without pixels.
    """
    squares = densities.square().flatten(1).sum(1) * densities[0].numel()
    return torch.where(squares > 0, 1 / squares.clamp(min=torch.finfo(squares.dtype).tiny), 0)


def _vectors(x: Tensor) -> Tensor:
    """Projected maps (1, D, h, w) as (D, h * w)."""
    return x[0].flatten(1)
