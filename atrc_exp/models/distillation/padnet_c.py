"""Gated message passing of PAD-Net, module C (Xu et al., "PAD-Net", CVPR 2018), the distillation unit of MTI-Net.

MTI-Net: Vandenhende et al., "MTI-Net: Multi-Scale Task Interaction Networks", ECCV 2020, Sec. 3.
"""

from torch import Tensor, nn

from atrc_exp.models.distillation.tail import tail


class GatedMessages(nn.Module):
    """F_t + sum_{s != t} sigmoid(G_{s->t} * F_s) W_{s->t} * F_s with 3x3 convolutions G and W for every ordered pair.

    A gate has all channels and is computed from the source; the convolutions have neither bias nor batch norm. Those
    that read the same source run as one, the gates of all its targets first.

    Args:
        tasks: sources and targets.
        channels: C of the features.
    """

    def __init__(self, tasks: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.tasks = tasks
        width = 2 * (len(tasks) - 1) * channels
        self.convs = nn.ModuleDict(
            {source: nn.Conv2d(channels, width, 3, padding=1, bias=False) for source in tasks if width}
        )

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the messages to features (B, C, h, w) by task."""
        refined = {task: features[task] for task in self.tasks}
        for source, conv in self.convs.items():
            targets = [task for task in self.tasks if task != source]
            gates, values = conv(features[source]).chunk(2, 1)
            messages = (gates.sigmoid() * values).chunk(len(targets), 1)
            for target, message in zip(targets, messages, strict=True):
                refined[target] = refined[target] + message
        return refined


class PADNetC(nn.Module):
    """O_t = tail_t(F_t + gated messages of the other tasks).

    One gate a target instead of one an ordered pair, another reading of PAD-Net's equation, is excluded by the
    resources of Table 1.

    Args:
        tasks: sources and targets.
        channels: C of the features.
        dropout: rate of the channel dropout at the end.
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.messages = GatedMessages(tasks, channels)
        self.tails = nn.ModuleDict({task: tail(channels, dropout) for task in tasks})

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        refined = self.messages(features)
        return {task: last(refined[task]) for task, last in self.tails.items()}
