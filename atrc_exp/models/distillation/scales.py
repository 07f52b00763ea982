"""ATRC at every scale of the tasks' pyramids (Sec. 3.1: "e.g., across multiple scales"), as MTI-Net distils."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from atrc_exp.genotype import Genotype, row_of, scale_of, task_of
from atrc_exp.models.distillation.atrc import ATRC


def at_scale(pyramids: Mapping[str, Sequence[Tensor]], scale: int) -> dict[str, Tensor]:
    """The maps of one scale by task."""
    return {task: maps[scale] for task, maps in pyramids.items()}


def by_task(by_row: Mapping[str, Tensor], scale: int) -> dict[str, Tensor]:
    """What belongs to the rows of one scale, by task."""
    return {task_of(row): x for row, x in by_row.items() if scale_of(row) == scale}


class ScaledATRC(nn.Module):
    """An ATRC module at every scale, in front of the heads.

    Args:
        genotype: with blocks for every scale, or for none in particular: all scales follow it then.
        channels: of each map of a task's pyramid.
        options: of `ATRC`.

    Attributes:
        genotype: with blocks for every scale in any case.
        label_tasks: rows whose label logits it reads, `semseg@0`.
    """

    multi_scale = True

    def __init__(self, genotype: Genotype, channels: Sequence[int], **options: Any) -> None:
        super().__init__()
        self.genotype = genotype if genotype.scales else genotype.on(len(channels))
        self.scales = nn.ModuleList(ATRC(self.genotype.at(i), c, **options) for i, c in enumerate(channels))
        self.label_tasks = tuple(
            row_of(t, i) for i, c in enumerate(channels) for t in self.genotype.at(i).label_tasks()
        )

    def forward(
        self,
        pyramids: dict[str, list[Tensor]],
        aux_logits: dict[str, Tensor],
        valid: Sequence[Tensor] | None = None,
        densities: dict[str, Tensor] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Refine the maps (B, channels[i], h_i, w_i) of every task; the rest as in `ATRC`, scale by scale.

        Args:
            aux_logits: (B, R, h_i, w_i) by row.
            valid: bool (B, 1, h_i, w_i) by scale.
            densities: label regions (B, R, h_i, w_i) by row.
        """
        refined = [
            module(
                at_scale(pyramids, scale),
                by_task(aux_logits, scale),
                None if valid is None else valid[scale],
                None if densities is None else by_task(densities, scale),
            )
            for scale, module in enumerate(self.scales)
        ]
        return {task: [maps[task] for maps in refined] for task in pyramids}
