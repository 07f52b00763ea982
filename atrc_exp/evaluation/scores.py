"""Scores of all tasks over a set of images and all ranks, by the rules of the `evaluation` section."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from atrc_exp.config import EvaluationConfig
from atrc_exp.data.decode import read_ids
from atrc_exp.data.readers.sample import Truth
from atrc_exp.errors import UserError
from atrc_exp.evaluation.predictions import as_array
from atrc_exp.metrics import build_metrics, is_summed
from atrc_exp.metrics.boundary import (
    BoundaryError,
    BoundaryScores,
    Curve,
    ImageCounts,
    available_cores,
    count,
    partition_to_boundary,
    score,
)
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import IGNORE, Task

if TYPE_CHECKING:
    from atrc_exp.metrics.miou import MeanIoU


_BOUNDARY_KEYS = ("ods_f", "ois_f", "ap")


class Scores:
    """Takes images one by one, each on one rank; `compute` is collective.

    Attributes:
        boundaries: after `compute`, the scores of boundary tasks with their threshold curves, if any image has labels.

    Args:
        boundaries: score boundaries too, which costs a tenth of a second or more an image of 425 x 560.
        truth: `Data.truth`, which is scored against where the rules say so; else the labels are.
        pool: threads that count boundaries, for many scores at a time; whoever gives it closes it. Else each has its
            own.

    Raises:
        UserError: the rules ask for the published validity, and the labels are not there as they are stored.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        ranks: Ranks,
        rules: EvaluationConfig | None = None,
        *,
        boundaries: bool = True,
        truth: Truth | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        rules, truth = rules or EvaluationConfig(), truth or Truth()
        metrics = build_metrics(tasks, absent=rules.absent, reference_invalid=rules.reference_invalid)
        self.metrics = {name: metric.to(ranks.device) for name, metric in metrics.items()}
        scored = [task for task in tasks if boundaries and not is_summed(task)]
        self._matchers = {task.name: _BoundaryMatcher(task, ranks, rules, truth, pool) for task in scored}
        self._stored = truth.stored
        self._as_stored = [t.name for t in tasks if rules.reference_invalid and t.kind.reference_rule]
        if self._as_stored and self._stored is None:
            raise UserError(
                "evaluation.reference_invalid=true: this dataset does not deliver its labels as stored; leave it out"
            )
        self.boundaries: dict[str, BoundaryScores] = {}

    def add(self, image_id: str, predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> None:
        """Score one image: outputs (c, h, w) and labels (h, w) or (c, h, w) by task, without padding.

        Raises:
            UserError: a map of borders of another size than the image.
        """
        for name, metric in self.metrics.items():
            metric.update(predictions[name][None], self._label(name, image_id, labels[name])[None])
        for name, matcher in self._matchers.items():
            if matcher.wants(image_id):
                matcher.add(image_id, predictions[name], labels[name])

    def wants(self, task: str, image_id: str) -> bool:
        """Whether `add` looks at the prediction of this task for this image."""
        return task not in self._matchers or self._matchers[task].wants(image_id)

    def compute(self) -> dict[str, float]:
        """Scores by "<task>/<metric>", the same on every rank; NaN where nothing is labelled.

        Raises:
            UserError: none of the images for boundaries was among those added.
        """
        flat = {f"{name}/{key}": value for name, m in self.metrics.items() for key, value in m.compute().items()}
        for name, matcher in self._matchers.items():
            found = matcher.compute()
            if found is not None:
                self.boundaries[name] = found[""]
            flat |= dict.fromkeys((f"{name}/{key}" for key in _BOUNDARY_KEYS), math.nan)
            for suffix, scores in (found or {}).items():
                values = (scores.odsF, scores.oisF, scores.AP)
                keys = (f"{name}/{key}{suffix}" for key in _BOUNDARY_KEYS)
                flat |= dict(zip(keys, values, strict=True))
        return flat

    def per_class(self) -> dict[str, list[float | None]]:
        """IoU of every class by task, None for classes that never occur; collective."""
        return {name: metric.per_class() for name, metric in self._overlaps.items()}

    def confusion(self) -> dict[str, np.ndarray]:
        """Pixels by [label, prediction] (C, C) by task; collective."""
        return {name: metric.total().cpu().numpy() for name, metric in self._overlaps.items()}

    def curves(self) -> dict[str, Curve]:
        """Precision, recall and F over the thresholds by task, where it has them; after `compute`, collective."""
        from atrc_exp.metrics.saliency import MaxF

        found = {name: metric.curve() for name, metric in self.metrics.items() if isinstance(metric, MaxF)}
        found |= {name: scores.curve for name, scores in self.boundaries.items()}
        return {name: curve for name, curve in found.items() if curve is not None}

    def _label(self, task: str, image_id: str, label: Tensor) -> Tensor:
        """What an image is scored against: its label, or the stored one where the rules ask for it and there is one."""
        stored = self._stored(task, image_id) if self._stored and task in self._as_stored else None
        if stored is None:
            return label
        channels_first = stored[None] if stored.ndim == 2 else np.moveaxis(stored, 2, 0)
        return torch.as_tensor(channels_first, dtype=label.dtype, device=label.device)

    @property
    def _overlaps(self) -> dict[str, MeanIoU]:
        from atrc_exp.metrics.miou import MeanIoU

        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, MeanIoU)}


class _BoundaryMatcher:
    """Counts boundary pixels of the 8-bit predictions in threads, while the network works on the next images."""

    def __init__(
        self,
        task: Task,
        ranks: Ranks,
        rules: EvaluationConfig,
        truth: Truth,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        self.task, self.ranks, self.rules = task, ranks, rules
        self.borders = truth.borders if rules.boundary_truth != "labels" else None
        self.ids = frozenset(read_ids(Path(rules.boundary_ids))) if rules.boundary_ids else None
        self.counts: dict[str, list[ImageCounts]] = {}
        self.unlabelled = 0
        self.waiting: deque[tuple[str, str, Future[ImageCounts]]] = deque()
        self.workers = max(1, available_cores() // ranks.world)
        self.owns_pool = pool is None
        self.pool = pool or ThreadPoolExecutor(self.workers)

    def wants(self, image_id: str) -> bool:
        """Whether this image is one of those to score."""
        return self.ids is None or image_id in self.ids

    def add(self, image_id: str, prediction: Tensor, label: Tensor) -> None:
        if bool((label == IGNORE).all()):  # says nothing about the predictions
            self.unlabelled += 1
            return
        from atrc_exp.metrics.boundary.kernels import sweep  # noqa: F401  threads would all wait to compile it

        for suffix, truth in self._truths(image_id, label).items():
            counting = self.pool.submit(
                count,
                as_array(self.task, prediction),
                truth,
                max_dist=self.task.max_distance,
                protocol=self.rules.boundary_protocol,
            )
            self.waiting.append((suffix, image_id, counting))
        while len(self.waiting) >= 4 * self.workers:  # bounds the images in memory
            self._collect()

    def _truths(self, image_id: str, label: Tensor) -> dict[str, np.ndarray]:
        """Boundary maps (h, w) by the suffix that their scores have."""
        if self.borders is not None:
            truth = self.borders(image_id) != 0
            bands = truth  # borders of a partition already
        else:
            truth = ((label != 0) & (label != IGNORE)).cpu().numpy()
            bands = partition_to_boundary(truth.astype(np.uint8))
        return {
            "partition": {"": bands},
            "both": {"": truth, "_partition": bands},
        }.get(self.rules.boundary_truth, {"": truth})

    def _collect(self) -> None:
        suffix, image_id, counting = self.waiting.popleft()
        try:
            self.counts.setdefault(suffix, []).append(counting.result())
        except BoundaryError as error:
            raise UserError(f"{self.task.name} of image {image_id}: {error}") from error

    def compute(self) -> dict[str, BoundaryScores] | None:
        """Scores over all ranks by their suffix, the headline under ""; None where all images were unlabelled."""
        while self.waiting:
            self._collect()
        if self.owns_pool:
            self.pool.shutdown()
        parts = self.ranks.gather((self.counts, self.unlabelled))

        def pooled() -> dict[str, BoundaryScores] | None:
            gathered: dict[str, list[ImageCounts]] = {}
            for counts, _ in parts:
                for suffix, own in counts.items():
                    gathered.setdefault(suffix, []).extend(own)
            if gathered:
                interpolate = self.rules.boundary_interpolate
                return {suffix: score(all_, interpolate=interpolate) for suffix, all_ in gathered.items()}
            if any(unlabelled for _, unlabelled in parts):
                return None
            raise UserError(f"{self.task.name}: no image to score; evaluation.boundary_ids must name validation images")

        return self.ranks.on_main(pooled)
