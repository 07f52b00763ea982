"""What context blocks read and how they are named."""

from typing import NamedTuple

from torch import Tensor

from atrc_exp.genotype.contexts import context_type, parted
from atrc_exp.models.contexts.regions import spatial_softmax


class Block(NamedTuple):
    """One context of an ordered pair of tasks, or all of them as the genotype joins them."""

    target: str
    source: str
    context: str

    @property
    def regions(self) -> str | None:
        """The task whose label regions a single context reads."""
        return context_type(self.context).regions_of(self.target, self.source)

    @property
    def parts(self) -> tuple["Block", ...]:
        """One for each context of a block that has several; of any other, itself."""
        return tuple(self._replace(context=name) for name in parted(self.context))


class TaskMaps(NamedTuple):
    """What context blocks read, by task."""

    features: dict[str, Tensor]
    """(B, C, h, w)."""
    regions: dict[str, Tensor]
    """Densities (B, R, h, w) of the label regions."""
    valid: Tensor | None
    """Unpadded pixels (B, 1, h, w); None: all are."""
    present: dict[str, Tensor]
    """Regions (B, R, 1, 1) that have a pixel, of tasks where some may have none."""


def task_maps(features: dict[str, Tensor], logits: dict[str, Tensor], valid: Tensor | None) -> TaskMaps:
    """Normalise the label logits once, for all blocks that read them."""
    return TaskMaps(features, {task: spatial_softmax(x, valid) for task, x in logits.items()}, valid, {})


def labelled_maps(features: dict[str, Tensor], densities: dict[str, Tensor], valid: Tensor | None) -> TaskMaps:
    """The maps for regions that come from labels: those without a pixel are marked."""
    present = {task: density.amax((2, 3), keepdim=True) > 0 for task, density in densities.items()}
    return TaskMaps(features, densities, valid, present)
