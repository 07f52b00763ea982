"""Single rows of the attention matrices A of Eq. 2 to 6: what one target pixel takes from every source pixel (Fig. 3).

The blocks never form these matrices. A row is computed by its context from the projections of the trained block, for
one pixel of one image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atrc_exp.models.contexts.base import RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.contexts.regions import region_means


@dataclass(frozen=True)
class AttentionRow:
    """What one pixel of the target takes from the source by one block."""

    block: Block
    weights: Tensor
    """(h, w), >= 0, of the source's positions; they and `beyond` sum to 1."""
    beyond: float
    """Weight of keys outside the map: the zero padding that takes part in local contexts with border="zero"."""
    window: tuple[slice, slice] | None
    """Rows and columns that the pixel can see, where it cannot see the whole map."""
    regions: Tensor | None
    """Weights (R,) of the prototypes, for contexts that read label regions."""
    sizes: Tensor | None
    """Sizes (R,) of these regions, as shares of the map; see `region_sizes`."""
    share: float = 1.0
    """Weight that its block gives to this context for the image; the weights of all its contexts sum to 1."""


def attention_row(context: RelationalContext, block: Block, maps: TaskMaps, cell: tuple[int, int]) -> AttentionRow:
    """Row of a block for the position (y, x) of the first image of `maps`.

    Weights apply to the values of the positions. Where the context reads label regions it attends to prototypes,
    sum_r w_r v_r, with v_r the values of the prototypes; a position's weight is then its part in them, sum_r w_r A_r,
    with A_r the density of region r.
    """
    y, x = cell
    target, source = (maps.features[task][:1] for task in (block.target, block.source))
    query = context.query(target[:, :, y : y + 1, x : x + 1])[0, :, 0, 0]  # (D,)
    masks = [None if mask is None else mask[0] for mask in context.masks(block, maps)]
    if block.regions is None:
        weights, beyond, window = context.row(query, context.key(source)[0], cell, *masks)
        return AttentionRow(block, weights, beyond, window, None, None)
    densities = maps.regions[block.regions][0]  # (R, h, w)
    key = context.key(region_means(source, densities.unsqueeze(0)))[0]  # (D, R, 1)
    shares, beyond, window = context.row(query, key, cell, *masks)
    weights = torch.einsum("r,rhw->hw", shares[:, 0], densities.to(shares))
    return AttentionRow(block, weights, beyond, window, shares[:, 0], region_sizes(densities))


def region_sizes(densities: Tensor) -> Tensor:
    """Sizes (R,) of regions given by densities (R, h, w), as shares of the map: 1 / (n sum_j A_j^2) for n positions.

    This is Kish's effective number of positions in a mean weighted by A, over n: the share of its pixels for a region
    with an even density, 1 for one that is even over the whole map, 0 for a region without pixels.
    """
    squares = densities.square().flatten(1).sum(1) * densities[0].numel()
    return torch.where(squares > 0, 1 / squares.clamp(min=torch.finfo(squares.dtype).tiny), 0)
