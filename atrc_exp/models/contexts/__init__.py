"""Relational contexts: attention of target pixels to one definition of "context" in a source task (Sec. 3.2).

Every context maps the features of a target and a source task, (B, C, h, w) each, to what the target's pixels collect
from the source, (B, D, h, w). Projections may run in 16 bit under autocast; sums over positions and labels do not.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.models.layers import at_least_float32, conv_bn_act, full_precision, positions
from atrc_exp.ops import local_attention


class RelationalContext(nn.Module):
    """Query, key and value projections that all contexts have (Sec. 3.2, Eq. 1).

    Args:
        channels: C of both feature maps.
        attention_channels: D of queries, keys, values and the output.
        activation: non-linearity of the second query and key layer; the first layers and the values use ReLU.
        affine_value_norm: learnable scale and shift in the last batch norm; off in the search, for a fair comparison
            between the candidates (App. A).
    """

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


class GlobalContext(RelationalContext):
    """Linear attention to every pixel of the source (Sec. 3.2.1, Eq. 3).

    The similarity is q . k of non-negative features (softplus), so that the sum over pixels can be taken before the
    queries come in: time and memory are linear in the number of pixels.
    """

    def __init__(self, channels: int, attention_channels: int, *, affine_value_norm: bool = True) -> None:
        super().__init__(channels, attention_channels, activation=nn.Softplus, affine_value_norm=affine_value_norm)

    def forward(self, target: Tensor, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) features to (B, D, h, w); `source_mask` (B, 1, h, w) is False where keys are left out."""
        return global_attention(self.query(target), self.key(source), self.value(source), source_mask)


class LocalContext(RelationalContext):
    """Softmax attention to the `kernel_size` x `kernel_size` source pixels around a target pixel (Sec. 3.2.2, Eq. 4).

    `border` says what the window finds outside the image: "zero" keys and values that take part in the softmax, as in
    the published code, or nothing ("mask", Eq. 4 to the letter).
    """

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

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Map (B, C, h, w) features to (B, D, h, w)."""
        query, key, value = self.query(target), self.key(source), self.value(source)
        return local_attention(query, key, value, self.kernel_size, self.border)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, border={self.border}"


class LabelContext(RelationalContext):
    """Attention to one prototype per label region (Sec. 3.2.3, Eq. 5 and 6).

    T-label and S-label contexts are this module with the regions of the target or of the source task.
    """

    def forward(self, target: Tensor, source: Tensor, regions: Tensor, present: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) features to (B, D, h, w).

        Args:
            regions: densities (B, R, h, w) as `spatial_softmax` or `region_densities` give them.
            present: bool (B, R, 1, 1), False for regions without a pixel, which no pixel attends to; where an image has
                none at all, its output is 0. None: all are present.
        """
        prototypes = region_means(source, regions)
        return label_attention(self.query(target), self.key(prototypes), self.value(prototypes), present)


def global_attention(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """Attend with the similarity q . k, both >= 0, to the keys that the mask (B, 1, h, w) leaves; all (B, D, h, w)."""
    with full_precision(query.device):
        q, k, v = (positions(x) for x in (query, key, value))  # (B, D, n) each
        if key_mask is not None:
            k = k * key_mask.flatten(2)
        weighted = (v @ k.transpose(1, 2)) @ q  # sum_j (q_i . k_j) v_j: (B, D, D) @ (B, D, n)
        total = k.sum(2).unsqueeze(1) @ q  # sum_j q_i . k_j: (B, 1, n)
        out = weighted / total.clamp(min=1e-12)
    return out.view_as(query).to(query.dtype)


def label_attention(query: Tensor, key: Tensor, value: Tensor, present: Tensor | None = None) -> Tensor:
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


def spatial_softmax(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Turn label logits (B, R, h, w) into one probability density over the positions per label (Sec. 3.2.3).

    Positions where `valid` (B, 1, h, w) is False get density 0; an image without valid positions gets an even density.
    """
    with full_precision(logits.device):
        logits = at_least_float32(logits)
        if valid is not None:
            logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
        return logits.flatten(2).softmax(2).view_as(logits)


def region_densities(regions: Tensor, number: int, size: tuple[int, int] | torch.Size) -> Tensor:
    """Densities (B, number, h, w) of labelled regions: even over the pixels of a region, 0 elsewhere (App. E).

    They take the place of the spatial softmax of predicted regions. A region without pixels is 0 everywhere.

    Args:
        regions: region (B, H, W) of every pixel; values outside of 0..number - 1 are in none.
        size: (h, w), to which the regions are brought by nearest neighbour.
    """
    nearest = F.interpolate(regions.unsqueeze(1).float(), size=size, mode="nearest")
    members = (nearest == torch.arange(number, device=regions.device).view(1, -1, 1, 1)).float()
    return members / members.sum((2, 3), keepdim=True).clamp(min=1)


def region_means(source: Tensor, regions: Tensor) -> Tensor:
    """Prototypes (B, C, R, 1): means of `source` (B, C, h, w) under the densities `regions` (B, R, h, w)."""
    with full_precision(source.device):
        features = positions(source)  # (B, C, n)
        densities = positions(regions).to(features).transpose(1, 2)  # (B, n, R)
        return (features @ densities).unsqueeze(3)


def build_context(
    name: str,
    channels: int,
    attention_channels: int,
    *,
    kernel_size: int = 9,
    border: str = "zero",
    affine_value_norm: bool = True,
) -> RelationalContext:
    """Build the context `name` of `genotype.CONTEXTS`; "none" has no module."""
    if name == "global":
        return GlobalContext(channels, attention_channels, affine_value_norm=affine_value_norm)
    if name == "local":
        return LocalContext(
            channels, attention_channels, kernel_size=kernel_size, border=border, affine_value_norm=affine_value_norm
        )
    if name in ("tlabel", "slabel"):
        return LabelContext(channels, attention_channels, affine_value_norm=affine_value_norm)
    raise ValueError(f"no context module '{name}'; there are global, local, tlabel and slabel")
