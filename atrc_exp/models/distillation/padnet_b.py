"""Message passing of PAD-Net, module B (Xu et al., "PAD-Net", CVPR 2018)."""

from torch import Tensor, nn

from atrc_exp.models.distillation.tail import tail
from atrc_exp.models.layers import conv_bn_act


class PADNetB(nn.Module):
    """O_t = tail_t(F_t + sum_{s != t} phi_{s->t}(F_s)), phi a 3x3 Conv-BN-ReLU for every ordered pair.

    The convolutions that read the same source run as one. Batch norm and ReLU of the messages are inferred from the
    resources of Table 1; the original equation has a plain convolution (`plain`).

    Args:
        tasks: sources and targets.
        channels: C of the features.
        plain: messages without batch norm and ReLU.
        dropout: rate of the channel dropout at the end.
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int, *, plain: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        others = len(tasks) - 1
        layers = 1 if plain else 3
        self.messages = nn.ModuleDict(
            {s: nn.Sequential(*conv_bn_act(channels, others * channels, 3)[:layers]) for s in tasks if others}
        )
        self.tails = nn.ModuleDict({task: tail(channels, dropout) for task in tasks})

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        refined = {task: features[task] for task in self.tails}
        for source, layer in self.messages.items():
            targets = [task for task in self.tails if task != source]
            for target, message in zip(targets, layer(features[source]).chunk(len(targets), 1), strict=True):
                refined[target] = refined[target] + message
        return {task: last(refined[task]) for task, last in self.tails.items()}
