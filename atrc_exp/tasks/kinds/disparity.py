"""Disparity maps in pixels, 0 where there is no label; as depth, but over a range of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from atrc_exp.tasks.kinds.depth import RATIOS, Depth
from atrc_exp.tasks.kinds.kind import EMPTY, Bins, Doubt, Measure

if TYPE_CHECKING:
    import numpy as np

    from atrc_exp.tasks import Task


class Disparity(Depth):
    """Everything that is not positive and finite is invalid; label regions are logarithmic bins of `Task.range`."""

    name = "disparity"
    bins = Bins(None, logarithmic=True)
    reference_rule = False
    unit = "px"
    any_unit = True  # inverse depth behaves in the same way
    encodings = ("values",)
    metrics: ClassVar[Mapping[str, Measure]] = {"rmse": Measure("range_errors", False), **RATIOS}
    stored_form = "an array (height, width) in the unit of the labels, as numpy.save writes it"

    def magnify(self, label: np.ndarray, scale: float) -> None:
        """See `Kind`: distances in the image grow with it."""
        import numpy as np

        label *= np.float32(scale)

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        values = label[label > 0]
        near, far = self.span(task)
        if not values.size:
            yield EMPTY
        elif ((values < near) | (values > far)).mean() > 0.5:
            detail = f"{values.min():.4g} to {values.max():.4g}"
            cure = f"are dataset.folders.labels.{task.name}.scale and dataset.task_table.{task.name}.range right?"
            yield Doubt(f"more values outside {near:g} to {far:g} than inside", cure, 0.5, detail)
