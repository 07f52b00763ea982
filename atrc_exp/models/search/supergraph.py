"""The search network: every block holds all its candidate contexts, and mixes them (Sec. 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, NONE, Genotype, candidates, context_type, in_order
from atrc_exp.models.contexts.maps import Block, task_maps
from atrc_exp.models.distillation.atrc import ContextBlocks, Fusion


@dataclass(frozen=True)
class Mixture:
    """What a strategy draws for a training step: which candidates run, and with what weights.

    This one weights the candidates by their probabilities; a strategy that draws otherwise has a subclass.
    """

    chosen: tuple[int, ...] | None = field(default=None, kw_only=True)
    """By block the index of the only context that runs, -1 where all candidates run. It may lag behind
    `SearchATRC.frozen`, whose blocks have a one-hot mixture anyway. None reads `frozen`, and waits for the device."""

    def weights(self, logits: Tensor) -> Tensor:
        """Weights of the candidates (blocks, contexts), through which the logits get their gradient.

        Args:
            logits: (blocks, contexts), minus infinity where a block has no such candidate.
        """
        return logits.softmax(1)


class SearchATRC(nn.Module):
    """All candidate contexts for every ordered pair of tasks, with one architecture logit each.

    Blocks are numbered row by row, as `Genotype.pairs`. `arch` (blocks, contexts) holds the logits alpha (Eq. 7 writes
    log alpha), zeros at start; the S-label entry of diagonal blocks, equal to T-label there, is masked out everywhere.
    `frozen` (blocks,) is the chosen context of converged blocks, -1 for the open ones. Options as in `ATRC`; the search
    network has no dropout. Without `self_attention` none is the only candidate of diagonal blocks (App. G).

    Args:
        types: context types that blocks mix, by default the five of the paper; their order is that of the table.

    Raises:
        UserError: an unknown type, or types that leave a block without any.
    """

    arch: nn.Parameter
    frozen: Tensor
    excluded: Tensor

    def __init__(
        self,
        tasks: tuple[str, ...],
        channels: int,
        *,
        kernel_size: int = 9,
        border: str = "zero",
        mask_padding: bool = False,
        self_attention: bool = True,
        types: Sequence[str] = CONTEXTS,
    ) -> None:
        super().__init__()
        self.tasks, self.types = tuple(tasks), in_order(types)
        self.mask_padding = mask_padding
        self.attention_channels = channels // 2
        own = self.types if self_attention else tuple(name for name in self.types if name == NONE)
        self.candidates = {t: {s: candidates(t, s, own if s == t else self.types) for s in tasks} for t in tasks}
        offered = [(t, s, names) for t, row in self.candidates.items() for s, names in row.items()]
        if not all(names for *_, names in offered):
            raise UserError(f"a search of {', '.join(self.types)} leaves diagonal blocks without a type; add {NONE}")
        regions = {context_type(name).regions_of(t, s) for t, s, names in offered for name in names}
        self.label_tasks = tuple(task for task in self.tasks if task in regions)
        self.blocks = ContextBlocks(
            self.candidates, channels, kernel_size=kernel_size, border=border, affine_value_norm=False
        )
        self.fusions = nn.ModuleDict({t: Fusion(channels, len(tasks) * self.attention_channels) for t in tasks})
        self.pairs = [(t, s) for t in tasks for s in tasks]
        self.arch = nn.Parameter(torch.zeros(len(self.pairs), len(self.types)))
        self.register_buffer("frozen", torch.full((len(self.pairs),), -1))
        excluded = torch.tensor([[name not in self.candidates[t][s] for name in self.types] for t, s in self.pairs])
        self.register_buffer("excluded", excluded, persistent=False)

    def forward(
        self,
        features: dict[str, Tensor],
        aux_logits: dict[str, Tensor],
        sample: Mixture | None = None,
        valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task.

        With a `sample`, blocks mix all candidates unless it names the only one; without a sample (evaluation) they take
        the most probable candidate. Frozen blocks take theirs. A candidate of a block that is known to be frozen is not
        computed where its weight is 0: unlike in the published code it gets no gradient, no weight decay and no
        batch-norm statistics, which no output sees.

        Args:
            features: F_n (B, C, h, w) of all tasks.
            aux_logits: logits (B, R, h, w) of all tasks before the spatial softmax, not detached.
            sample: the draw of this step; training needs one.
            valid: bool (B, 1, h, w), False at padded pixels; read with `mask_padding` only.
        """
        maps = task_maps(features, aux_logits, valid if self.mask_padding else None)
        if sample is None and self.training:
            raise ValueError("the search network needs an ArchSample, or another Mixture, in training")
        weights = None if sample is None else self.one_hot_where_frozen(sample.weights(self.logits()))
        chosen = self._chosen(sample)
        contexts = self.blocks(self._computed(chosen), maps)
        outputs: dict[str, list[Tensor]] = {task: [] for task in self.tasks}
        for index, (target, source) in enumerate(self.pairs):
            batch, _, *size = features[target].shape
            output = features[target].new_zeros(batch, self.attention_channels, *size)  # of none
            if chosen[index] >= 0:
                output = contexts.get(Block(target, source, self.types[chosen[index]]), output)
            else:
                assert weights is not None
                for name, weight in zip(self.types, weights[index].unbind(), strict=True):
                    context = contexts.get(Block(target, source, name))
                    output = output if context is None else torch.addcmul(output, weight, context)
            outputs[target].append(output)
        return {task: self.fusions[task](features[task], outputs[task]) for task in self.tasks}

    def _computed(self, chosen: list[int]) -> list[Block]:
        """All candidates of open blocks and the chosen context of the others, without none."""
        return [
            Block(target, source, name)
            for index, (target, source) in zip(chosen, self.pairs, strict=True)
            for name in (self.candidates[target][source] if index < 0 else (self.types[index],))
            if name != NONE
        ]

    def logits(self) -> Tensor:
        """The logits (blocks, contexts) with gradient, minus infinity where a block has no such candidate."""
        return self.arch.masked_fill(self.excluded, -torch.inf)

    def one_hot_where_frozen(self, weights: Tensor) -> Tensor:
        """Weights (blocks, contexts) of open blocks; 1 for the context of a frozen one, without gradient."""
        contexts = torch.arange(len(self.types), device=weights.device)
        frozen = self.frozen.unsqueeze(1)
        return torch.where(frozen >= 0, (frozen == contexts).to(weights), weights)

    def _chosen(self, sample: Mixture | None) -> list[int]:
        """Context index by block, -1 where the block mixes its candidates. Which modules run is decided on the host."""
        if sample is not None and sample.chosen is not None:
            return list(sample.chosen)
        if self.frozen.is_meta:  # shapes only, as for profiling: nothing can be read, so all candidates run
            return [-1] * len(self.pairs)
        if sample is not None:
            return self.frozen.tolist()
        return torch.where(self.frozen >= 0, self.frozen, self.logits().argmax(1)).tolist()

    @torch.no_grad()
    def freeze_converged(self, gap: float) -> Tensor:
        """Freeze open blocks whose two largest probabilities differ by at least `gap`; for ever (Sec. 3.3).

        Call it before sampling in every training step, never in validation. Returns a mask
        (blocks,) of the newly frozen ones; nothing here waits for the device.
        """
        top = self.probabilities().topk(2, dim=1)
        converged = (top.values[:, 0] - top.values[:, 1] >= gap) & (self.frozen < 0)
        self.frozen.copy_(torch.where(converged, top.indices[:, 0], self.frozen))
        return converged

    @torch.no_grad()
    def take(self, path: Sequence[int]) -> None:
        """Freeze all blocks to a path, a context index for each."""
        self.frozen.copy_(torch.tensor(path))

    @property
    def decided(self) -> bool:
        """Whether all blocks are frozen; waits for the device."""
        return bool((self.frozen >= 0).all())

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Softmax of the logits (blocks, contexts), 0 for the masked entries, without gradient."""
        return self.logits().softmax(1)

    def entropy(self) -> Tensor:
        """Mean over all blocks, frozen ones included, of the entropy of the probabilities, in nats (App. A)."""
        log_p = self.logits().log_softmax(1)
        return -(log_p.exp() * log_p.masked_fill(self.excluded, 0)).sum(1).mean()

    def genotype(self) -> Genotype:
        """Frozen contexts, most probable ones elsewhere; probabilities and frozen blocks stand in the details.

        The published code writes the most probable one everywhere; the logits of a frozen block move on with the
        entropy, so that it can be another than the network has.
        """
        chosen, frozen = self._chosen(None), self.frozen.tolist()
        probabilities = self.probabilities().tolist()
        blocks: dict[str, dict[str, str]] = {task: {} for task in self.tasks}
        details: dict[str, Any] = {"probabilities": {t: {} for t in self.tasks}, "frozen": {t: {} for t in self.tasks}}
        for index, (target, source) in enumerate(self.pairs):
            blocks[target][source] = self.types[chosen[index]]
            details["frozen"][target][source] = frozen[index] >= 0
            details["probabilities"][target][source] = {
                name: probabilities[index][self.types.index(name)] for name in self.candidates[target][source]
            }
        return Genotype(self.tasks, blocks, details)
