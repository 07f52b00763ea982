"""The architecture of a search: logits of the candidates of every block, what freezes, what is chosen (Sec. 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, NONE, Genotype, candidates, context_type, in_order, rows_of, task_of


@dataclass(frozen=True)
class Mixture:
    """What a strategy draws for a training step: which candidates run, and with what weights.

    This one weights the candidates by their probabilities; a strategy that draws otherwise has a subclass.
    """

    chosen: tuple[int, ...] | None = field(default=None, kw_only=True)
    """By block the index of the only context that runs, -1 where all candidates run. It may lag behind
    `Architecture.frozen`, whose blocks have a one-hot mixture anyway. None reads `frozen`, and waits for the device."""

    def weights(self, logits: Tensor) -> Tensor:
        """Weights of the candidates (blocks, contexts), through which the logits get their gradient.

        Args:
            logits: (blocks, contexts), minus infinity where a block has no such candidate.
        """
        return logits.softmax(1)


class Architecture(nn.Module):
    """One logit for each candidate of every block; search networks are subclasses that hold the candidates.

    Blocks are numbered row by row, as `Genotype.pairs`. `arch` (blocks, contexts) holds the logits alpha (Eq. 7 writes
    log alpha), zeros at start; the S-label entry of diagonal blocks, equal to T-label there, is masked out everywhere.
    `frozen` (blocks,) is the chosen context of converged blocks, -1 for the open ones.

    Args:
        self_attention: without it none is the only candidate of diagonal blocks (App. G).
        types: context types that blocks mix, by default the five of the paper; their order is that of the table.
        scales: number of scales that have blocks of their own; 0 for blocks that are for no scale in particular.

    Attributes:
        pairs: (target, source) of every block; targets are rows of the genotype.
        candidates: types by target and source.
        label_tasks: tasks whose label regions some candidate reads.

    Raises:
        UserError: an unknown type, or types that leave a block without any.
    """

    arch: nn.Parameter
    frozen: Tensor
    excluded: Tensor

    def __init__(
        self, tasks: tuple[str, ...], *, self_attention: bool = True, types: Sequence[str] = CONTEXTS, scales: int = 0
    ) -> None:
        super().__init__()
        self.tasks, self.types = tuple(tasks), in_order(types)
        own = self.types if self_attention else tuple(name for name in self.types if name == NONE)
        self.candidates = {
            t: {s: candidates(t, s, own if s == task_of(t) else self.types) for s in tasks}
            for t in rows_of(tasks, scales)
        }
        offered = [(t, s, names) for t, row in self.candidates.items() for s, names in row.items()]
        if not all(names for *_, names in offered):
            raise UserError(f"a search of {', '.join(self.types)} leaves diagonal blocks without a type; add {NONE}")
        regions = {context_type(name).regions_of(task_of(t), s) for t, s, names in offered for name in names}
        self.label_tasks = tuple(task for task in self.tasks if task in regions)
        self.pairs = [(t, s) for t, s, _ in offered]
        self.arch = nn.Parameter(torch.zeros(len(self.pairs), len(self.types)))
        self.register_buffer("frozen", torch.full((len(self.pairs),), -1))
        excluded = torch.tensor([[name not in names for name in self.types] for *_, names in offered])
        self.register_buffer("excluded", excluded, persistent=False)

    def paths(self, target: str) -> tuple[str, ...]:
        """Where below this module the blocks of a target lie: prefixes of `blocks.<task>` and `fusions.<task>`."""
        raise NotImplementedError

    def drawn(self, sample: Mixture | None) -> tuple[list[int], Tensor | None]:
        """Context index by block, -1 where the block mixes its candidates; and their weights (blocks, contexts).

        Raises:
            ValueError: no sample in training.
        """
        if sample is None and self.training:
            raise ValueError("the search network needs an ArchSample, or another Mixture, in training")
        weights = None if sample is None else self.one_hot_where_frozen(sample.weights(self.logits()))
        return self._chosen(sample), weights

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
        blocks: dict[str, dict[str, str]] = {row: {} for row in self.candidates}
        details: dict[str, Any] = {"probabilities": {r: {} for r in blocks}, "frozen": {r: {} for r in blocks}}
        for index, (target, source) in enumerate(self.pairs):
            blocks[target][source] = self.types[chosen[index]]
            details["frozen"][target][source] = frozen[index] >= 0
            details["probabilities"][target][source] = {
                name: probabilities[index][self.types.index(name)] for name in self.candidates[target][source]
            }
        return Genotype(self.tasks, blocks, details)
