"""Global context: linear attention to every pixel of the source (Sec. 3.2.1, Eq. 3)."""

from torch import Tensor, nn

from atrc_exp.models.contexts.base import KeyWeights, RelationalContext
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.layers import full_precision, positions


class GlobalContext(RelationalContext):
    """Linear attention to every pixel of the source.

    The similarity is q . k of non-negative features (softplus), so that the sum over pixels can be taken before the
    queries come in: time and memory are linear in the number of pixels. An optional mask (B, 1, h, w) is False where
    keys are left out.
    """

    def __init__(self, channels: int, attention_channels: int, *, affine_value_norm: bool = True) -> None:
        super().__init__(channels, attention_channels, activation=nn.Softplus, affine_value_norm=affine_value_norm)

    @staticmethod
    def masks(block: Block, maps: TaskMaps) -> tuple[Tensor | None, ...]:
        """Unpadded pixels."""
        return (maps.valid,)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend with the similarity q . k, both >= 0, to the keys that the mask (B, 1, h, w) leaves."""
        with full_precision(query.device):
            q, k, v = (positions(x) for x in (query, key, value))  # (B, D, n) each
            if key_mask is not None:
                k = k * key_mask.flatten(2)
            weighted = (v @ k.transpose(1, 2)) @ q  # sum_j (q_i . k_j) v_j: (B, D, D) @ (B, D, n)
            total = k.sum(2).unsqueeze(1) @ q  # sum_j q_i . k_j: (B, 1, n)
            out = weighted / total.clamp(min=1e-12)
        return out.view_as(query).to(query.dtype)

    def row(self, query: Tensor, key: Tensor, cell: tuple[int, int], key_mask: Tensor | None = None) -> KeyWeights:
        """Similarities as shares of their sum."""
        similarities = query @ key.flatten(1)
        if key_mask is not None:
            similarities = similarities * key_mask.flatten()
        return KeyWeights((similarities / similarities.sum().clamp(min=1e-12)).view(key.shape[1:]))
