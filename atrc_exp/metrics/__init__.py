"""Metrics, one file a kind of task, as `torchmetrics.Metric` with exact sum states that add up over ranks.

torchmetrics takes seconds to import, so the classes are imported where they are built. The kind of label says
direction and unit of a headline (`Kind.metrics`); its measures name their entry of `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atrc_exp.tasks import Task

if TYPE_CHECKING:
    from torchmetrics import Metric


@dataclass(frozen=True)
class Rules:
    """How metrics count what published codes count differently."""

    absent: str = "zero"
    """What a class that never occurs does to mIoU, see `MeanIoU`."""
    reference_invalid: bool = False
    """Count unlabelled depth as the published code does, see `DepthError`."""


def _miou(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.miou import MeanIoU

    return MeanIoU(task.channels, absent=rules.absent)


def _binary_f(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.binary import BinaryF

    return BinaryF()


def _value_errors(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.values import ValueErrors

    return ValueErrors(task)


def _structural_similarity(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.values import StructuralSimilarity

    return StructuralSimilarity(task)


def _range_errors(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.values import RangeErrors

    return RangeErrors(task)


def _depth_error(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.depth import DepthError

    return DepthError(reference_invalid=rules.reference_invalid)


def _angular_error(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.normals import NormalsError

    return NormalsError()


def _max_f(task: Task, rules: Rules) -> Metric:
    from atrc_exp.metrics.saliency import MaxF

    return MaxF()


METRICS: dict[str, Callable[[Task, Rules], Metric]] = {
    "miou": _miou,
    "depth_error": _depth_error,
    "angular_error": _angular_error,
    "max_f": _max_f,
    "binary_f": _binary_f,
    "value_errors": _value_errors,
    "structural_similarity": _structural_similarity,
    "range_errors": _range_errors,
}
"""Makers of metrics, by `Measure.scorer`. Boundaries have none: they are matched image by image in threads."""


def build_metrics(tasks: Iterable[Task], *, absent: str = "zero", reference_invalid: bool = False) -> dict[str, Metric]:
    """Metrics by task; tasks that are not scored by sums over pixels (boundaries) are left out.

    Each takes `update(prediction (B, c, H, W), label)` at image size without padding, and its `compute()` is a flat
    dictionary of floats with the headline under `task.metric`; NaN where no pixel was valid. For the options see
    `Rules`.
    """
    rules = Rules(absent, reference_invalid)
    return {task.name: METRICS[task.measure.scorer](task, rules) for task in tasks if is_summed(task)}


def is_summed(task: Task) -> bool:
    """Whether a task's score is a sum over pixels; else its boundaries are matched."""
    return task.measure.scorer in METRICS
