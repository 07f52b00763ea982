"""Cross-stitch unit (Misra et al., "Cross-Stitch Networks for Multi-task Learning", CVPR 2016, Sec. 3)."""

from functools import reduce
from operator import add

import torch
from torch import Tensor, nn


class CrossStitch(nn.Module):
    """Linear combinations of the features of all tasks, O_t = sum_s a[t, s] * F_s.

    The original stitches whole networks at several depths; in the controlled comparison of Table 1 there is one unit
    behind the task heads. Inferred, as the table cannot tell: one weight a channel (`channel`) rather than one a pair
    (`scalar`), and the initial values for more than two tasks: 0.9 for the task itself, 0.1 divided among the others,
    so that combinations start convex as the original advises.

    Args:
        tasks: sources and targets.
        channels: C of the features.
        weights: "channel" or "scalar".
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int, *, weights: str = "channel") -> None:
        super().__init__()
        self.tasks = tasks
        number = len(tasks)
        own = torch.eye(number)
        initial = 0.9 * own + 0.1 / max(number - 1, 1) * (1 - own)
        width = channels if weights == "channel" else 1
        # (N, N, C or 1): with two more dimensions of one, `Module.to(memory_format=torch.channels_last)` would fail.
        self.stitch = nn.Parameter(initial[..., None].repeat(1, 1, width))

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Parameters without weight decay, which would pull combinations towards nothing at all (inferred)."""
        return [self.stitch]

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        stitch = self.stitch[..., None, None].to(features[self.tasks[0]])
        refined = {}
        for target, row in zip(self.tasks, stitch, strict=True):
            products = [a * features[source] for source, a in zip(self.tasks, row, strict=True)]
            refined[target] = reduce(add, products)
        return refined
