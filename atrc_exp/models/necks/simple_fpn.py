"""Simple feature pyramid for plain vision transformers, which have one map at one stride.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, Sec. 3 and App. A.2: the maps
are made in parallel from the last map alone, without top-down connections.
"""

import math

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.models.necks.pyramid import Neck, NeckOutput, Pyramid, Pyramids

WIDTH = 256  # channels of every map, as in the paper


class SimpleFPN(Neck):
    """Four maps from the one map of a backbone: at a quarter, a half, one and two times its stride.

    Two, one or no transposed convolutions of kernel and stride 2, which halve the channels, or a max pooling; then a
    1x1 and a 3x3 convolution, each with a layer norm over the channels.

    Args:
        channels: of the backbone's maps, of which there must be one.
        strides: of the backbone's maps in pixels.

    Attributes:
        strides: of the four maps in pixels; 3.5 to 28 for a backbone of stride 14.

    Raises:
        UserError: the backbone gives several maps, or one whose channels cannot be quartered.
    """

    def __init__(self, channels: list[int], strides: list[int]) -> None:
        if len(channels) != 1:
            raise UserError(
                f"neck=simple_fpn: makes a pyramid of one map, and the backbone gives {len(channels)}; for a plain "
                "vision transformer set backbone.out_indices=[-1], its last map, for all others neck=shared"
            )
        (width,), (stride,) = channels, strides
        if width % 4:
            raise UserError(f"neck=simple_fpn: the {width} channels of the backbone's map are no multiple of 4")
        super().__init__()
        self.channels = [WIDTH] * 4
        self.strides = [stride / 4, stride / 2, stride, 2 * stride]
        half, quarter = width // 2, width // 4
        self.levels = nn.ModuleList((
            _level(quarter, _double(width, half), LayerNorm2d(half), nn.GELU(), _double(half, quarter)),
            _level(half, _double(width, half)),
            _level(width),
            _level(width, nn.MaxPool2d(2, ceil_mode=True)),
        ))  # fmt: skip

    def forward(self, pyramids: Pyramids, image_size: tuple[int, int]) -> NeckOutput:
        """Four maps (B, 256, ceil(H / stride_i), ceil(W / stride_i)), for all tasks or, as they come, by task.

        The backbone's last cells may lie half outside the image, and the finer maps of these would lie wholly outside:
        they are cut off, since the predictions are resized to the image as if their maps ended where it does.
        """
        if isinstance(pyramids, dict):
            return NeckOutput({task: self._pyramid(maps, image_size) for task, maps in pyramids.items()}, {})
        return NeckOutput(self._pyramid(pyramids, image_size), {})

    def _pyramid(self, maps: Pyramid, image_size: tuple[int, int]) -> Pyramid:
        (x,) = maps
        return [
            _cut(level(x), [math.ceil(side / stride) for side in image_size])
            for level, stride in zip(self.levels, self.strides, strict=True)
        ]


def _cut(x: Tensor, size: list[int]) -> Tensor:
    return x[..., : size[0], : size[1]]


def _double(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, channels, kernel_size=2, stride=2)


def _level(channels: int, *rescaling: nn.Module) -> nn.Sequential:
    """Change the size, then reduce `channels` to the width of the pyramid."""
    return nn.Sequential(
        *rescaling,
        nn.Conv2d(channels, WIDTH, 1, bias=False),
        LayerNorm2d(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        LayerNorm2d(WIDTH),
    )
