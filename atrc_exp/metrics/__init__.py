"""Metrics, one file a kind of task, as `torchmetrics.Metric` with exact sum states that add up over ranks.

torchmetrics takes seconds to import, so the classes are imported where they are built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from atrc_exp.tasks import Task

if TYPE_CHECKING:
    from torchmetrics import Metric


def build_metrics(tasks: Iterable[Task], *, absent: str = "zero", reference_invalid: bool = False) -> dict[str, Metric]:
    """Metrics by task; tasks that are not scored image by image (boundaries) are left out.

    Each takes `update(prediction (B, c, H, W), label)` at image size without padding, and its `compute()` is a flat
    dictionary of floats with the headline under `task.metric`; NaN where no pixel was valid.

    Args:
        absent: what a class that never occurs does to mIoU, see `MeanIoU`.
        reference_invalid: count unlabelled depth as the published code does, see `DepthError`.
    """
    from atrc_exp.metrics.depth import DepthError
    from atrc_exp.metrics.miou import MeanIoU
    from atrc_exp.metrics.normals import NormalsError
    from atrc_exp.metrics.saliency import MaxF

    builders = {
        "miou": lambda task: MeanIoU(task.channels, absent=absent),
        "rmse": lambda task: DepthError(reference_invalid=reference_invalid),
        "mean_error": lambda task: NormalsError(),
        "max_f": lambda task: MaxF(),
    }
    return {task.name: builders[task.metric](task) for task in tasks if task.metric in builders}
