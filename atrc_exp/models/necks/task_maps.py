"""Task features at every scale of a pyramid that all tasks share."""

from collections.abc import Sequence
from typing import cast

from torch import nn

from atrc_exp.models.heads import feature_head
from atrc_exp.models.necks.pyramid import Neck, NeckOutput, Pyramids, of_task


class TaskMapsNeck(Neck):
    """Features F_n of every task at every scale, by the 3x3 Conv-BN-ReLU that Sec. 3.1 has on the joined maps.

    Args:
        neck: makes the shared pyramid; None takes that of the backbone.
        channels: of the backbone's maps.
    """

    own_maps = True

    def __init__(self, neck: Neck | None, channels: list[int], tasks: Sequence[str]) -> None:
        super().__init__()
        self.neck = neck
        self.channels = channels if neck is None else neck.channels
        self.heads = nn.ModuleDict({task: nn.ModuleList(feature_head(c, c) for c in self.channels) for task in tasks})

    def forward(self, pyramids: Pyramids, image_size: tuple[int, int]) -> NeckOutput:
        """By task its maps (B, channels[i], h_i, w_i)."""
        if self.neck is not None:
            pyramids = self.neck(pyramids, image_size).pyramids
        own = {}
        for task in self.heads:
            heads = cast(nn.ModuleList, self.heads[task])
            own[task] = [head(x) for head, x in zip(heads, of_task(pyramids, task), strict=True)]
        return NeckOutput(own, {})
