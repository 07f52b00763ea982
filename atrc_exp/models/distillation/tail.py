"""What follows the residual sum of PAD-Net B and C, PAP and PSD in the controlled comparison (Table 1)."""

from torch import nn

from atrc_exp.models.layers import conv_bn_act


def tail(channels: int, dropout: float) -> nn.Sequential:
    """1x1 Conv-BN-ReLU and channel dropout, (B, C, h, w) to the same shape: ATRC's fusion without a context.

    That the rivals have it follows from the resources of Table 1. Whether they had ATRC's dropout is not known
    (inferred: the same rate).
    """
    return nn.Sequential(*conv_bn_act(channels, channels), nn.Dropout2d(dropout))
