"""Necks for a dilated ResNet: a coarse map with or without atrous spatial pyramid pooling, and a fine one (Sec. 4.4).

The paper names a skip connection at stride 4 and fully convolutional heads, and no sizes. Here the coarse map gets 256
channels and the skip 48, as in DeepLabv3+.
"""

from collections.abc import Sequence

from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from atrc_exp.errors import UserError
from atrc_exp.models.layers import conv_bn_act
from atrc_exp.models.necks.pyramid import Neck, NeckOutput, Pyramids, of_task

COARSE, SKIP = 256, 48
RATES = (6, 12, 18)  # dilations for maps of stride 16 (Chen et al., Rethinking Atrous Convolution, 2017, Sec. 3.3)


class SkipNeck(Neck):
    """Maps of each task's own from the finest and the coarsest map of the backbone.

    Args:
        channels: of the backbone's maps.
        tasks: every one gets its own layers.
        aspp: make the coarse map by ASPP, with dropout 0.5 behind it, not by a 3x3 Conv-BN-ReLU. The batch norm of its
            image pooling needs more than one image in training.
    """

    own_maps = True

    def __init__(self, channels: list[int], tasks: Sequence[str], *, aspp: bool) -> None:
        if len(channels) < 2:
            raise UserError("neck=skip and neck=aspp need two maps of the backbone, backbone.out_indices=[1,4]")
        super().__init__()
        self.channels = [SKIP, COARSE]
        self.coarse = nn.ModuleDict({task: _coarse(channels[-1], aspp) for task in tasks})
        self.skip = nn.ModuleDict({task: nn.Sequential(*conv_bn_act(channels[0], SKIP)) for task in tasks})

    def forward(self, pyramids: Pyramids, image_size: tuple[int, int]) -> NeckOutput:
        """By task the maps (B, 48, h_0, w_0) and (B, 256, h_n, w_n)."""
        own = {}
        for task in self.skip:
            fine, *_, coarse = of_task(pyramids, task)
            own[task] = [self.skip[task](fine), self.coarse[task](coarse)]
        return NeckOutput(own, {})


def _coarse(channels: int, aspp: bool) -> nn.Module:
    return ASPP(channels, RATES, COARSE) if aspp else nn.Sequential(*conv_bn_act(channels, COARSE, 3))
