"""Depth maps in metres, 0 where there is no label; their label regions are logarithmic bins (App. A, App. D)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from atrc_exp.errors import UserError
from atrc_exp.tasks.kinds.kind import EMPTY, Bins, Doubt, Kind, Look, Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task
    from atrc_exp.tasks.classification import TriangularCode

DEPTH_BINS = 40
DEPTH_RANGE = (0.7, 10.0)  # metres; the auxiliary classes are logarithmic bins of it
_EDGES = (0.01, 1000.0, 101)  # metres; of the histogram of depths, whose ends take what is outside
_METRES = (0.01, 100.0)  # depths outside are in another unit


RATIOS = {
    "mae": Measure("range_errors", False),
    "abs_rel": Measure("range_errors", False, ""),
    "sq_rel": Measure("range_errors", False),
    "log_rmse": Measure("range_errors", False, ""),
    "delta_1": Measure("range_errors", True, "%"),
    "delta_2": Measure("range_errors", True, "%"),
    "delta_3": Measure("range_errors", True, "%"),
}
"""Headlines that compare positive values by their difference and their ratio."""


def depth_bins(depth: Tensor, span: tuple[float, float] = DEPTH_RANGE, bins: int = DEPTH_BINS) -> Tensor:
    """Logarithmic bin (int64) of depths in metres; those outside `span` fall into the first or last."""
    near, far = span
    position = (depth / near).log() * (bins / math.log(far / near))
    return position.floor_().clamp_(0, bins - 1).long()


def decode_depth(logits: Tensor, span: tuple[float, float] = DEPTH_RANGE) -> Tensor:
    """Depths (B, 1, H, W) in metres: the bins' centres in log space, weighted by the probabilities (B, R, H, W)."""
    import torch

    near, far = span
    bins = logits.shape[1]
    steps = (torch.arange(bins, dtype=torch.float64, device=logits.device) + 0.5) / bins
    log_centres = math.log(near) + steps.to(logits) * math.log(far / near)
    return torch.einsum("r,brhw->bhw", log_centres, logits.softmax(1)).exp().unsqueeze(1)


def histogram_edges() -> np.ndarray:
    """Edges in metres of the histogram of depths over a dataset; the first and last bin take what is outside."""
    import numpy as np

    return np.geomspace(*_EDGES)


class Depth(Kind):
    """Arrays (H, W), tensors (B, 1, H, W); everything that is not positive and finite is invalid."""

    name = "depth"
    bins = Bins(DEPTH_RANGE, logarithmic=True)
    reference_rule = True
    unit = "m"
    encodings = ("metres",)
    losses: ClassVar[Mapping[str, tuple[str, ...]]] = {"l1": (), "l2": (), "berhu": (), "silog": ()}
    classification_loss = "region_cross_entropy"
    metrics: ClassVar[Mapping[str, Measure]] = {"rmse": Measure("depth_error", False), **RATIOS}
    stored_as = "array"
    stored_form = "an array (height, width) in metres, as numpy.save writes it"

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """See `Kind`."""
        return 1, regions

    def magnify(self, label: np.ndarray, scale: float) -> None:
        """See `Kind`: what is magnified seems nearer."""
        import numpy as np

        label /= np.float32(scale)

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        import numpy as np

        metres = label[label > 0]
        if not metres.size:
            yield EMPTY
            return
        low, high = float(metres.min()), float(metres.max())
        detail = f"{low:.4g} to {high:.4g} m"
        near, far = self.span(task)
        if high <= 1:
            cure = "are they scaled to [0, 1]?" if high > 0.1 else f"is folders.labels.{task.name}.scale too small?"
            yield Doubt("no depth above 1 m", f"{cure} Metres are wanted", 1.0, detail)
        elif low < _METRES[0] or high > _METRES[1]:
            middle = float(np.median(metres))
            cure = (
                f"are values without a label among them? folders.labels.{task.name}.invalid lists those of one's own "
                "dataset"
            )
            for unit, scale, least in (("centimetres", "0.01", 30.0), ("millimetres", "0.001", 600.0)):
                if middle >= least:
                    cure = (
                        f"are they {unit}? folders.labels.{task.name}.scale={scale} makes metres of one's own dataset"
                    )
            yield Doubt("depths that cannot be metres", cure, detail=detail)
        elif ((metres < near) | (metres > far)).mean() > 0.5:
            cure = f"the label regions of depth are bins between {near:g} and {far:g} m, and tell the others not apart"
            yield Doubt(f"more depths outside {near:g} to {far:g} m than inside", cure, 0.5, detail)

    def statistics(self, task: Task, label: np.ndarray) -> dict[str, Any]:
        """See `Kind`."""
        import numpy as np

        values = label[label > 0]
        if not values.size:
            return {}
        edges = histogram_edges()
        return {
            "valid": values.size,
            "range": (float(values.min()), float(values.max())),
            "total": np.array([values.sum(dtype=np.float64), 0.0, 0.0]),
            "histogram": np.histogram(values.clip(edges[0], edges[-1]), edges)[0],
        }

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """See `Kind`: from dark (near) to bright on a logarithmic scale."""
        import numpy as np

        span = span or self.span(task)
        return Look(np.ma.masked_equal(label, 0).clip(*span), "magma", span, logarithmic=True)

    def finish(self, task: Task, label: Tensor) -> Tensor:
        """See `Kind`."""
        return label.unsqueeze(-3)

    def valid(self, label: Tensor) -> Tensor:
        """See `Kind`."""
        return ((label > 0) & label.isfinite()).squeeze(1)

    def regions(self, task: Task, label: Tensor, codebook: Tensor | None) -> Tensor:
        """See `Kind`."""
        return depth_bins(label.squeeze(1), self.span(task), task.regions)

    def region_names(self, task: Task, class_names: Sequence[str] | None) -> list[str]:
        """See `Kind`."""
        near, far = self.span(task)
        edges = [near * (far / near) ** (index / task.regions) for index in range(task.regions + 1)]
        digits = max(2, 1 - math.floor(math.log10(near)))
        return [f"{low:.{digits}f}–{high:.{digits}f} {task.value_unit}" for low, high in pairwise(edges)]

    def from_regions(self, task: Task, logits: Tensor, code: TriangularCode | None) -> Tensor:
        """See `Kind`."""
        return decode_depth(logits, self.span(task))

    def random(self, task: Task, images: int, height: int, width: int) -> Tensor:
        """See `Kind`."""
        import torch

        return torch.empty(images, 1, height, width).uniform_(*self.span(task))

    def store(self, prediction: Tensor) -> Tensor:
        """See `Kind`."""
        return prediction[0].float()

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """See `Kind`."""
        import torch

        values = torch.tensor(array).float()
        if not values.isfinite().all():
            raise UserError("holds NaN or infinite values")
        return values[None]

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """See `Kind`."""
        return Look(stored.clip(min=0), "viridis", unit=task.value_unit)

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `Kind`."""
        import torch

        from atrc_exp.tasks.kinds.colours import coloured, grey_out

        valid = label[0] > 0
        low, high = (label[0][valid].min(), label[0][valid].max()) if valid.any() else (torch.tensor(0.0), 1.0)
        above, below = ((depth[0].float() - low) / max(float(high - low), 1e-6) for depth in (label, prediction))
        return grey_out(coloured(above, "viridis"), valid), coloured(below, "viridis")
