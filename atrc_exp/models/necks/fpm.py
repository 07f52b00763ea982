"""Initial task predictions and feature propagation (FPM) of MTI-Net (Vandenhende et al., ECCV 2020).

From the coarsest scale to the finest, every task makes features and an initial prediction of each scale; between two
scales a feature propagation module mixes the features of all tasks and hands them to the next finer scale.
"""

from collections.abc import Mapping

import torch
from timm.layers import SqueezeExcite
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from atrc_exp.models.layers import logit_conv
from atrc_exp.models.necks.pyramid import Neck, NeckOutput, Pyramids, of_task
from atrc_exp.resizing import resize

_SQUEEZE = 16  # channels over bottleneck channels of the squeeze-excitation


class FPM(Neck):
    """Task features and initial predictions at every scale, propagated from coarse to fine.

    Sizes are matched by resizing; the published code enlarges by 2, which fits only multiples of 32.

    Args:
        channels: of the backbone's maps; those of a task's features are the same.
        outputs: channels of the initial prediction by task, those of the final one.
        softmax: how the mask is normalised, see `FeaturePropagation`.
    """

    own_maps = True

    def __init__(self, channels: list[int], outputs: Mapping[str, int], *, softmax: str = "authors") -> None:
        super().__init__()
        self.tasks = tuple(outputs)
        self.channels, self.initial_scales = channels, len(channels)
        coarser = [*channels[1:], 0]
        self.features = nn.ModuleList(
            nn.ModuleDict({task: nn.Sequential(basic_block(c + extra, c), basic_block(c, c)) for task in outputs})
            for c, extra in zip(channels, coarser, strict=True)
        )
        self.initial = nn.ModuleList(
            nn.ModuleDict({task: logit_conv(c, width) for task, width in outputs.items()}) for c in channels
        )
        self.propagation = nn.ModuleList(FeaturePropagation(c, self.tasks, softmax) for c in channels[1:])

    def forward(self, pyramids: Pyramids, image_size: tuple[int, int]) -> NeckOutput:
        """Features f_i of every task and scale as the task's pyramid, and in training their initial predictions."""
        features: dict[str, list[Tensor]] = {task: [] for task in self.tasks}
        initial: dict[str, list[Tensor]] = {task: [] for task in self.tasks if self.training}
        propagated: dict[str, Tensor] = {}
        for scale in reversed(range(len(self.channels))):
            current = {}
            for task in self.tasks:
                x = of_task(pyramids, task)[scale]
                if propagated:
                    x = torch.cat((x, resize(propagated[task], x.shape[-2:])), 1)
                current[task] = self.features[scale].get_submodule(task)(x)
                features[task].insert(0, current[task])
                if self.training:
                    initial[task].insert(0, self.initial[scale].get_submodule(task)(current[task]))
            if scale > 0:
                propagated = self.propagation[scale - 1](current)
        return NeckOutput(features, initial)


class FeaturePropagation(nn.Module):
    """Mix the features of all tasks at one scale; every task gets its own share of the mixture.

    Args:
        channels: c of every task's features.
        tasks: order of the concatenation.
        softmax: over what the mask of the N * c concatenated channels is normalised: "paper", the same channel of all
            tasks; "authors", N neighbouring channels of the concatenation, which belong to one task. The second is what
            the published code does and what the published results used.
    """

    def __init__(self, channels: int, tasks: tuple[str, ...], softmax: str) -> None:
        super().__init__()
        self.tasks, self.softmax = tasks, softmax
        joined = len(tasks) * channels
        self.mask = nn.Sequential(
            basic_block(joined, joined // 4),
            basic_block(joined // 4, joined // 4),
            nn.Conv2d(joined // 4, joined, 1),
        )
        self.shared = basic_block(joined, channels)
        bottleneck = max(1, channels // _SQUEEZE)
        self.excitations = nn.ModuleDict({task: SqueezeExcite(channels, rd_channels=bottleneck) for task in tasks})

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Propagate features (B, c, h, w) by task: SE_t(mixture) + features_t."""
        joined = torch.cat([features[task] for task in self.tasks], 1)
        mixture = self.shared(self._normalised(self.mask(joined)) * joined)
        return {task: self.excitations[task](mixture) + features[task] for task in self.tasks}

    def _normalised(self, mask: Tensor) -> Tensor:
        """Softmax of (B, N * c, h, w), channels task by task."""
        if self.softmax == "paper":
            return mask.unflatten(1, (len(self.tasks), -1)).softmax(1).flatten(1, 2)
        return mask.unflatten(1, (-1, len(self.tasks))).softmax(2).flatten(1, 2)


def basic_block(in_channels: int, channels: int) -> BasicBlock:
    """Residual block of two 3x3 convolutions; its shortcut is a 1x1 Conv-BN where the number of channels changes."""
    shortcut = None
    if in_channels != channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
    return BasicBlock(in_channels, channels, downsample=shortcut)
