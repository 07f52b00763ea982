"""Local context: attention to the window around a pixel (Sec. 3.2.2, Eq. 4)."""

import torch
from torch import Tensor

from atrc_exp.models.contexts.base import KeyWeights, RelationalContext
from atrc_exp.ops import local_attention


class LocalContext(RelationalContext):
    """Softmax attention to the `kernel_size` x `kernel_size` source pixels around a target pixel.

    `border` says what the window finds outside the image: "zero" keys and values that take part in the softmax, as in
    the published code, or nothing ("mask", Eq. 4 to the letter).
    """

    settings = ("kernel_size", "border")

    def __init__(
        self,
        channels: int,
        attention_channels: int,
        *,
        kernel_size: int = 9,
        border: str = "zero",
        affine_value_norm: bool = True,
    ) -> None:
        super().__init__(channels, attention_channels, affine_value_norm=affine_value_norm)
        self.kernel_size, self.border = kernel_size, border

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend to the window of every position."""
        return local_attention(query, key, value, self.kernel_size, self.border)

    def row(self, query: Tensor, key: Tensor, cell: tuple[int, int]) -> KeyWeights:
        """Softmax over the window; with border="zero" its positions outside the map score 0."""
        radius, size = self.kernel_size // 2, key.shape[1:]
        rows, columns = (slice(max(0, at - radius), min(n, at + radius + 1)) for at, n in zip(cell, size, strict=True))
        inside = key[:, rows, columns]
        scores = query @ inside.flatten(1) * len(query) ** -0.5
        missing = self.kernel_size**2 - len(scores) if self.border == "zero" else 0
        shares = torch.cat((scores, scores.new_zeros(missing))).softmax(0)
        weights = shares.new_zeros(size)
        weights[rows, columns] = shares[: len(scores)].view(inside.shape[1:])
        return KeyWeights(weights, float(shares[len(scores) :].sum()), (rows, columns))

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, border={self.border}"
