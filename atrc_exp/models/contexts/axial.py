"""Axial context: attention to the row and the column of a pixel.

Ho et al., "Axial Attention in Multidimensional Transformers", 2019, attend along one axis in each layer, rows and
columns in turn. A block has a single attention, so both axes share one softmax here, and the pixel itself, where they
cross, counts once: the criss-cross form of Huang et al., "CCNet", ICCV 2019. ATRC's authors have no such context.
"""

import torch
from torch import Tensor

from atrc_exp.models.contexts.base import KeyWeights, RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.layers import full_precision, positions


class AxialContext(RelationalContext):
    """Softmax attention to the h + w - 1 source pixels in the row and the column of a target pixel.

    The similarity is q . k / sqrt(D), as in local contexts. An optional mask (B, 1, h, w) is False where keys are left
    out; a pixel that has none left in its row and column gets 0. Time and memory grow with h w (h + w).
    """

    @staticmethod
    def masks(block: Block, maps: TaskMaps) -> tuple[Tensor | None, ...]:
        """Unpadded pixels."""
        return (maps.valid,)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend to the keys that the mask (B, 1, h, w) leaves."""
        height, width = query.shape[2:]
        with full_precision(query.device):
            q, k, v = (positions(x).unflatten(2, (height, width)) for x in (query, key, value))  # (B, D, h, w) each
            rows = torch.einsum("bdyx,bdyj->byxj", q, k)  # (B, h, w, w)
            columns = torch.einsum("bdyx,bdix->byxi", q, k)  # (B, h, w, h)
            scores = torch.cat((rows, columns), 3) * q.shape[1] ** -0.5
            absent = _absent(height, width, key_mask, q.device)
            weights = scores.masked_fill(absent, torch.finfo(scores.dtype).min).softmax(3)
            if key_mask is not None:  # without one, no pixel is left alone
                weights = weights.masked_fill(absent, 0)
            along, across = weights.split((width, height), 3)
            out = torch.einsum("byxj,bdyj->bdyx", along, v) + torch.einsum("byxi,bdix->bdyx", across, v)
        return out.to(query.dtype)

    def row(self, query: Tensor, key: Tensor, cell: tuple[int, int], key_mask: Tensor | None = None) -> KeyWeights:
        """Softmax over the row and the column of the cell."""
        y, x = cell
        cross = torch.zeros(key.shape[1:], dtype=torch.bool, device=key.device)
        cross[y], cross[:, x] = True, True
        if key_mask is not None:
            cross &= key_mask[0]
        scores = torch.einsum("d,dhw->hw", query, key) * len(query) ** -0.5
        weights = torch.zeros_like(scores)
        weights[cross] = scores[cross].softmax(0)
        return KeyWeights(weights)


def _absent(height: int, width: int, key_mask: Tensor | None, device: torch.device) -> Tensor:
    """Keys (B or 1, h, w, w + h) that take no part: the pixel itself in its column, being in its row, and padding."""
    itself = torch.eye(height, dtype=torch.bool, device=device).unsqueeze(1).expand(-1, width, -1)  # (h, w, h)
    absent = torch.cat((itself.new_zeros(height, width, width), itself), 2).unsqueeze(0)
    if key_mask is None:
        return absent
    padding = ~key_mask[:, 0]  # (B, h, w)
    along = padding.unsqueeze(2).expand(-1, -1, width, -1)
    across = padding.mT.unsqueeze(1).expand(-1, height, -1, -1)
    return absent | torch.cat((along, across), 3)
