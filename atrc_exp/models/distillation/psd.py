"""Pattern-structure diffusion (Zhou et al., CVPR 2020): local self-attention masks, transferred between tasks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.models.distillation.tail import tail
from atrc_exp.models.layers import at_least_float32, conv_bn_act
from atrc_exp.ops import local_attention

WINDOW = 5
RECURSIONS = 3


class StructureDiffusion(nn.Module):
    """I_t + J_t: F_t diffused within the task, then by the structures of the other tasks where they match.

    The structure A_t[p] of a pixel is the softmax of its embedding's similarities to those in its 5x5 window. I_t is
    F_t after three passes of A_t; J_t is the mean over s != t of cos(A_t[p], A_s[p]) times a pass of A_s over I_t.
    Passes run on the shared local attention, tasks along the batch; the maps A are built for the cosines only.

    Args:
        border: "zero" or "mask", see `atrc_exp.ops.local_attention`.
    """

    def __init__(self, border: str) -> None:
        super().__init__()
        self.border = border

    def forward(self, embeddings: Tensor, features: Tensor) -> Tensor:
        """Diffuse features (N, B, C, h, w) by the structures of embeddings (N, B, c, h, w), c <= C."""
        number, width = embeddings.shape[0], embeddings.shape[2]
        # Keys have as many channels as values in that operation; channels of zeros leave the similarities alone.
        keys = F.pad(embeddings, (0, 0, 0, 0, 0, features.shape[2] - width))

        def attend(key: Tensor, value: Tensor) -> Tensor:
            key = key.flatten(0, 1)
            out = local_attention(key, key, value.flatten(0, 1), WINDOW, self.border, scale=width**-0.5)
            return out.view_as(value)

        own = features
        for _ in range(RECURSIONS):
            own = attend(keys, own)
        structure = F.normalize(window_structure(embeddings.flatten(0, 1), self.border), dim=1)
        structure = structure.unflatten(0, (number, -1))
        total = own
        for shift in range(1, number):  # every task meets its shift-th next one
            match = (structure * structure.roll(-shift, 0)).sum(2, keepdim=True).to(own)
            total = total + match * attend(keys.roll(-shift, 0), own) / (number - 1)
        return total

    @staticmethod
    def published_multiply_adds(embeddings: Tensor, features: Tensor) -> int:
        """Multiply-adds where structures are built once and kept, as counted for Table 1."""
        number, _, channels = features.shape[:3]
        pixels = features.numel() // channels
        passes = (RECURSIONS + number - 1) * channels
        return WINDOW**2 * pixels * (embeddings.shape[2] + passes + 2 * (number - 1))


def window_structure(embeddings: Tensor, border: str) -> Tensor:
    """Softmax (B, WINDOW^2, h, w) of q_p . q_r / sqrt(c) over the window's pixels r, row by row, of (B, c, h, w)."""
    embeddings = at_least_float32(embeddings)
    height, width = embeddings.shape[-2:]
    radius = WINDOW // 2

    def window(x: Tensor) -> list[Tensor]:
        padded = F.pad(x, (radius,) * 4)
        return [padded[..., y : y + height, x : x + width] for y in range(WINDOW) for x in range(WINDOW)]

    scores = torch.stack([(embeddings * neighbour).sum(1) for neighbour in window(embeddings)], 1)
    scores = scores * embeddings.shape[1] ** -0.5
    if border == "mask":
        inside = torch.cat(window(embeddings.new_ones(1, 1, height, width)), 1)
        scores = scores.masked_fill(inside == 0, -torch.inf)
    return scores.softmax(1)


class PSD(nn.Module):
    """O_t = tail_t(F_t + ReLU(BN(Conv3x3(I_t + J_t)))), see `StructureDiffusion`.

    Inferred: a reconstruction that agrees with the paper's description (intra-task recursion, inter-task transfer by
    matching degree) and with the resources of Table 1, but not the only one that does; the original network is not
    public, and ATRC's authors could not reproduce it in full.

    Args:
        tasks: sources and targets.
        channels: C of the features; embeddings have C // 2.
        border: "zero" or "mask", what a window finds outside the image.
        dropout: rate of the channel dropout at the end.
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int, *, border: str = "zero", dropout: float = 0.0) -> None:
        super().__init__()
        self.tasks = tasks
        self.embeddings = nn.ModuleDict({task: nn.Sequential(*conv_bn_act(channels, channels // 2)) for task in tasks})
        self.diffusion = StructureDiffusion(border)
        self.combine = nn.ModuleDict({task: nn.Sequential(*conv_bn_act(channels, channels, 3)) for task in tasks})
        self.tails = nn.ModuleDict({task: tail(channels, dropout) for task in tasks})

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        embedded = torch.stack([embed(features[task]) for task, embed in self.embeddings.items()])
        diffused = self.diffusion(embedded, torch.stack([features[task] for task in self.tasks]))
        return {
            task: self.tails[task](features[task] + self.combine[task](x))
            for task, x in zip(self.tasks, diffused, strict=True)
        }
