"""Task heads on the joined maps of the backbone or neck (Sec. 3.1)."""

from torch import nn

from atrc_exp.models.layers import conv_bn_act, logit_conv


def feature_head(in_channels: int, channels: int) -> nn.Sequential:
    """F_n: 3x3 Conv-BN-ReLU from joined maps (B, in_channels, h, w) to the task's features (B, channels, h, w)."""
    return nn.Sequential(*conv_bn_act(in_channels, channels, 3))


def auxiliary_head(in_channels: int, regions: int) -> nn.Sequential:
    """A_n: 1x1 Conv-BN-ReLU, then 1x1 Conv to the logits of the label regions (B, regions, h, w)."""
    return nn.Sequential(*conv_bn_act(in_channels, in_channels), logit_conv(in_channels, regions))


def pointwise_head(in_channels: int, channels: int) -> nn.Sequential:
    """1x1 Conv (with bias)-BN-ReLU, the head of MTI-Net, from joined maps to (B, channels, h, w)."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
