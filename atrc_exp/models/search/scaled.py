"""The search at every scale of the tasks' pyramids (Sec. 3.1: "e.g., across multiple scales")."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrc_exp.genotype import rows_of, scale_of
from atrc_exp.models.contexts.maps import task_maps
from atrc_exp.models.distillation.scales import at_scale, by_task
from atrc_exp.models.search.architecture import Architecture, Mixture
from atrc_exp.models.search.supergraph import Candidates, mix


class ScaledSearch(Architecture):
    """A supergraph at every scale, in front of the heads; logits for each scale, or one set that all scales follow.

    Args:
        channels: of each map of a task's pyramid.
        separate: every scale has blocks of its own; else a block is the same pair of tasks at all scales.

    Other options are as in `SearchATRC`. `label_tasks` are rows, `semseg@0`.
    """

    multi_scale = True

    def __init__(
        self,
        tasks: tuple[str, ...],
        channels: Sequence[int],
        *,
        separate: bool,
        kernel_size: int = 9,
        border: str = "zero",
        mask_padding: bool = False,
        self_attention: bool = True,
        types: Sequence[str],
    ) -> None:
        super().__init__(tasks, self_attention=self_attention, types=types, scales=len(channels) if separate else 0)
        self.separate, self.mask_padding = separate, mask_padding
        self.label_tasks = rows_of(self.label_tasks, len(channels))
        rows = list(self.candidates.values())[: len(tasks)]  # those of one scale, which all have
        self.of_each_scale = dict(zip(self.tasks, rows, strict=True))
        self.scales = nn.ModuleList(
            Candidates(self.of_each_scale, c, kernel_size=kernel_size, border=border) for c in channels
        )

    def paths(self, target: str) -> tuple[str, ...]:
        """See `Architecture`."""
        scales = [scale_of(target)] if self.separate else range(len(self.scales))
        return tuple(f"scales.{scale}." for scale in scales)

    def forward(
        self,
        pyramids: dict[str, list[Tensor]],
        aux_logits: dict[str, Tensor],
        sample: Mixture | None = None,
        valid: Sequence[Tensor] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Refine the maps (B, channels[i], h_i, w_i) of every task; the rest as in `SearchATRC`, scale by scale.

        Args:
            aux_logits: (B, R, h_i, w_i) by row.
            valid: bool (B, 1, h_i, w_i) by scale.
        """
        chosen, weights = self.drawn(sample)
        blocks, refined = len(self.tasks) ** 2, []
        for scale, modules in enumerate(self.scales):
            assert isinstance(modules, Candidates)
            own = slice(blocks * scale, blocks * (scale + 1)) if self.separate else slice(None)
            mask = valid[scale] if valid is not None and self.mask_padding else None
            maps = task_maps(at_scale(pyramids, scale), by_task(aux_logits, scale), mask)
            share = None if weights is None else weights[own]
            refined.append(mix(modules, self.of_each_scale, self.types, maps, chosen[own], share))
        return {task: [maps[task] for maps in refined] for task in self.tasks}
