"""Label contexts: attention to the prototypes of label regions (Sec. 3.2.3, Eq. 5 and 6)."""

import torch
from torch import Tensor

from atrc_exp.models.contexts.base import KeyWeights, RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.contexts.regions import region_means
from atrc_exp.models.layers import full_precision, positions


class LabelContext(RelationalContext):
    """Attention to one prototype per label region.

    T-label and S-label contexts are this module with the regions of the target or of the source task.
    """

    @staticmethod
    def masks(block: Block, maps: TaskMaps) -> tuple[Tensor | None, ...]:
        """Which regions have a pixel, where some may have none."""
        return (maps.present.get(block.regions or ""),)

    def forward(  # type: ignore[override]
        self, target: Tensor, source: Tensor, regions: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """Map (B, C, h, w) features to (B, D, h, w).

        Args:
            regions: densities (B, R, h, w) as `spatial_softmax` or `region_densities` give them.
            present: bool (B, R, 1, 1), False for regions without a pixel, which no pixel attends to; where an image has
                none at all, its output is 0. None: all are present.
        """
        return super().forward(target, region_means(source, regions), present)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor | None = None) -> Tensor:
        """Softmax attention of queries (B, D, h, w) to the keys and values (B, D, R, 1) of `present` label regions."""
        with full_precision(query.device):
            q, k, v = (positions(x) for x in (query, key, value))  # (B, D, n), (B, D, R) twice
            scores = k.transpose(1, 2) @ q * q.shape[1] ** -0.5  # (B, R, n)
            if present is None:
                weights = scores.softmax(1)
            else:
                # Their zero prototypes still enter the batch statistics of keys and values, which no mask reaches.
                absent = ~present.flatten(2)  # (B, R, 1)
                weights = scores.masked_fill(absent, torch.finfo(scores.dtype).min).softmax(1).masked_fill(absent, 0)
            out = v @ weights
        return out.view_as(query).to(query.dtype)

    def row(self, query: Tensor, key: Tensor, cell: tuple[int, int], present: Tensor | None = None) -> KeyWeights:
        """Softmax over the prototypes (D, R, 1) of the regions that have a pixel."""
        scores = query @ key.flatten(1) * len(query) ** -0.5
        allowed = torch.ones_like(scores) > 0 if present is None else present.flatten()
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(0) if allowed.any() else torch.zeros_like(scores)
        return KeyWeights(weights.unsqueeze(1))
