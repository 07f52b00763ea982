"""Multi-scale distillation of MTI-Net (Vandenhende et al., "MTI-Net", ECCV 2020, Sec. 3)."""

from torch import Tensor, nn

from atrc_exp.models.distillation.padnet_c import GatedMessages
from atrc_exp.models.distillation.scales import at_scale


class MTINet(nn.Module):
    """Gated messages between the tasks at every scale, without a tail, in front of the heads.

    Args:
        tasks: sources and targets.
        channels: of each map of a task's pyramid.
    """

    label_tasks: tuple[str, ...] = ()
    multi_scale = True

    def __init__(self, tasks: tuple[str, ...], channels: list[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(GatedMessages(tasks, c) for c in channels)

    def forward(self, pyramids: dict[str, list[Tensor]], *_: object) -> dict[str, list[Tensor]]:
        """Refine {task: maps (B, channels[i], h_i, w_i)}; label logits and mask are not read."""
        scales = [messages(at_scale(pyramids, scale)) for scale, messages in enumerate(self.scales)]
        return {task: [refined[task] for refined in scales] for task in pyramids}
