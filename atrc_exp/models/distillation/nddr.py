"""NDDR layer (Gao et al., "NDDR-CNN", CVPR 2019, Sec. 3) = PAD-Net A (Xu et al., "PAD-Net", CVPR 2018)."""

import torch
from torch import Tensor, nn

from atrc_exp.models.layers import conv_bn_act

OWN = 0.9  # initial weight of the target's own features; the rest is divided among the others


class NDDR(nn.Module):
    """NDDR layer, the same as PAD-Net A: O_t = ReLU(BN(Conv1x1_t(concat_s F_s))), the target's own features included.

    The convolution starts as a weighted mean over tasks. The original's shares, 0.9 and 0.1, are for two tasks; the
    0.1 is divided among the others here (inferred), and batch norm keeps PyTorch's momentum for an equal comparison
    (0.05 in the original code).

    Args:
        tasks: sources, in the order of the concatenation, and targets.
        channels: C of the features.
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.layers = nn.ModuleDict({t: nn.Sequential(*conv_bn_act(len(tasks) * channels, channels)) for t in tasks})
        share = (1 - OWN) / max(len(tasks) - 1, 1)
        for target in tasks:
            blocks = [torch.eye(channels) * (OWN if source == target else share) for source in tasks]
            conv = self.layers.get_submodule(f"{target}.0")
            conv.weight = nn.Parameter(torch.cat(blocks, 1)[..., None, None])

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        together = torch.cat([features[task] for task in self.tasks], 1)
        return {task: layer(together) for task, layer in self.layers.items()}
