"""What all contexts have in common: their projections, and what the shared machinery asks of a type.

Every context maps the features of a target and a source task, (B, C, h, w) each, to what the target's pixels collect
from the source, (B, D, h, w). Projections may run in 16 bit under autocast; sums over positions and labels do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from atrc_exp.models.layers import conv_bn_act

if TYPE_CHECKING:
    from atrc_exp.models.contexts.maps import Block, TaskMaps


class KeyWeights(NamedTuple):
    """What one pixel of the target gives to every key of one image."""

    weights: Tensor
    """(h, w) of the positions, or (R, 1) of the prototypes of label regions; >= 0."""
    beyond: float = 0.0
    """Weight of keys outside the map; it and `weights` sum to 1."""
    window: tuple[slice, slice] | None = None
    """Rows and columns outside of which no position is a key of this pixel; None: the whole map is looked at."""


class RelationalContext(nn.Module):
    """Query, key and value projections that all contexts have (Sec. 3.2, Eq. 1).

    A type is a subclass with two methods, `attend(query, key, value, *masks)` and `row(query, key, cell, *masks)`.
    `attend` maps projections (B, D, h, w) to the output of the same shape; blocks of one type and network are stacked
    along B and attend in one call. `row` gives the `KeyWeights` of one position (y, x): its query is (D,), the keys are
    (D, h, w). A type that reads label regions gets prototypes as keys and values, (B, D, R, 1) and (D, R, 1).

    Args:
        channels: C of both feature maps.
        attention_channels: D of queries, keys, values and the output.
        activation: non-linearity of the second query and key layer; the first layers and the values use ReLU.
        affine_value_norm: learnable scale and shift in the last batch norm; off in the search, for a fair comparison
            between the candidates (App. A).
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments of the constructor that `build_context` fills in, beside `affine_value_norm`."""
    attend: Callable[..., Tensor]
    row: Callable[..., KeyWeights]

    def __init__(
        self,
        channels: int,
        attention_channels: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        affine_value_norm: bool = True,
    ) -> None:
        super().__init__()
        self.query = self._two_layers(channels, attention_channels, activation)
        self.key = self._two_layers(channels, attention_channels, activation)
        self.value = nn.Sequential(*conv_bn_act(channels, attention_channels, affine=affine_value_norm))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    @staticmethod
    def _two_layers(channels: int, attention_channels: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
        return nn.Sequential(
            *conv_bn_act(channels, attention_channels),
            *conv_bn_act(attention_channels, attention_channels, activation=activation),
        )

    @staticmethod
    def masks(block: Block, maps: TaskMaps) -> tuple[Tensor | None, ...]:
        """What `attend` takes beside the projections, with the batch as its first dimension; nothing by default."""
        return ()

    def forward(self, target: Tensor, source: Tensor, *masks: Tensor | None) -> Tensor:
        """Map (B, C, h, w) features to (B, D, h, w)."""
        return self.attend(self.query(target), self.key(source), self.value(source), *masks)
