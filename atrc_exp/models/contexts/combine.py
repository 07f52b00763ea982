"""Blocks with several contexts: one output made of theirs (Sec. 3.3, "in a static or even dynamic fashion").

Either way it is a weighted mean, which starts as the plain one. Weights that add up to 1 lose nothing: how large the
output of each context is, and how much of all of them enters the target, is learned by the batch norm of its values and
by the fusion. What is left to learn is the share of each, and a share can be read off.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.genotype import Genotype
from atrc_exp.models.contexts.maps import Block, TaskMaps


class StaticWeights(nn.Module):
    """Weights of a block's contexts that are the same for every image: the softmax of one logit each."""

    def __init__(self, channels: int, contexts: int, temperature: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(contexts))

    def forward(self, features: Tensor, valid: Tensor | None) -> Tensor:
        """Weights (1, contexts)."""
        return self.logits.softmax(0).unsqueeze(0)


class Gate(nn.Module):
    """Weights of a block's contexts by image, as of mixtures of experts (Jacobs et al., Neural Computation 3, 1991).

    They are the softmax of a linear map of the target's mean features, over a temperature.
    """

    def __init__(self, channels: int, contexts: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.linear = nn.Linear(channels, contexts)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, valid: Tensor | None) -> Tensor:
        """Weights (B, contexts) from features (B, C, h, w), of the pixels (B, 1, h, w) that are valid if those tell."""
        if valid is None:
            mean = features.mean((2, 3))
        else:
            mean = (features * valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        return (self.linear(mean) / self.temperature).softmax(1)


COMBINATIONS = {"static": StaticWeights, "gate": Gate}
"""Choices of `distillation.combine`."""


class Combination(nn.ModuleDict):
    """The weights `[target][source]` of all blocks that have several contexts.

    Args:
        channels: C of the task features.
        kind: one of `COMBINATIONS`.
        temperature: of the gate, > 0.
    """

    def __init__(self, genotype: Genotype, channels: int, kind: str, temperature: float) -> None:
        blocks = [Block(t, s, genotype.blocks[t][s]) for t, s in genotype.pairs() if genotype.types(t, s)]
        parts = {block: block.parts for block in blocks}
        rows: dict[str, nn.ModuleDict] = {}
        for block, contexts in parts.items():
            if len(contexts) > 1:
                weights = COMBINATIONS[kind](channels, len(contexts), temperature)
                rows.setdefault(block.target, nn.ModuleDict())[block.source] = weights
        super().__init__(rows)
        self.parts = parts
        """All blocks that have contexts, row by row, with their contexts one by one."""

    def forward(self, outputs: Mapping[Block, Tensor], maps: TaskMaps) -> dict[Block, Tensor]:
        """Outputs (B, D, h, w) of the blocks, from those of every context of theirs."""
        return {b: self._combined(b, [outputs[part] for part in parts], maps) for b, parts in self.parts.items()}

    def shares(self, block: Block, maps: TaskMaps) -> Tensor:
        """Weights (B, contexts), or (1, contexts) for all images, of the contexts of a block that has several."""
        rows: Any = self
        return rows[block.target][block.source](maps.features[block.target], maps.valid)

    def _combined(self, block: Block, outputs: list[Tensor], maps: TaskMaps) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        shares = self.shares(block, maps).to(outputs[0])
        combined = torch.zeros_like(outputs[0])
        for share, output in zip(shares.unbind(1), outputs, strict=True):
            combined = torch.addcmul(combined, share.view(-1, 1, 1, 1), output)
        return combined
