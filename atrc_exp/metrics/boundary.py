"""Boundary detection scores (odsF, oisF, AP) of a set of images, without MATLAB.

The protocol is that of the multi-task literature: 8-bit predictions, non-maximum suppression, thinning,
one-to-one matching of predicted to ground-truth pixels within a distance, F at the best of some hundred
thresholds (Martin, Fowlkes and Malik, 2004; Pont-Tuset and Marques, 2016). The published matching program
joins each pixel to six *random* outlier nodes only and so misses a few pairs; here the ideal optimum of its
cost is counted, never less.

Work is spread over threads: kernels, NumPy, SciPy's filters and PNG decoding run without the interpreter
lock. Threads, unlike processes, neither fork a process in which torch runs threads nor import the caller's
script again.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from atrc_exp.errors import UserError
from atrc_exp.metrics.boundary_counts import (
    PROTOCOLS,
    Backend,
    ImageCounts,
    Map,
    Protocol,
    count,
    exact_pairs,
    load_kernels,
    thin,
)
from atrc_exp.metrics.boundary_maps import load_png, nms, partition_to_boundary, quantize
from atrc_exp.metrics.boundary_scores import BoundaryScores, Curve, Table, average_precision

__all__ = [
    "PROTOCOLS",
    "Backend",
    "BoundaryScores",
    "ImageCounts",
    "Protocol",
    "available_cores",
    "count",
    "evaluate",
    "exact_pairs",
    "load_kernels",
    "load_png",
    "nms",
    "partition_to_boundary",
    "quantize",
    "score",
    "thin",
]

log = logging.getLogger(__name__)

Source: TypeAlias = Map | str | Path | Callable[[], Map]


def evaluate(
    predictions: Iterable[Source],
    truths: Iterable[Source],
    *,
    max_dist: float,
    protocol: str | Protocol = "seism",
    interpolate: bool = False,
    exact: bool = True,
    workers: int | None = None,
    progress: bool = False,
    keep_curve: bool = True,
    backend: Backend = "auto",
) -> BoundaryScores:
    """Score the boundary maps of any number of images; the result does not depend on `workers`.

    Args:
        predictions: for each image an array as for `count`, the path of an 8-bit grey PNG, or a function
            without arguments that returns an array. Read lazily, a few at a time.
        truths: the ground truth of each, in the same order and the same forms.
        max_dist, protocol, backend: see `count`.
        interpolate: search odsF between thresholds, too (BSDS collectors); the published numbers do not.
        exact: count the cheapest matchings, not maximum ones, wherever odsF and oisF rest on them.
        workers: threads; by default as many as this process may use cores.
        progress: show a progress bar.
        keep_curve: return precision, recall and F at every threshold.

    Raises:
        UserError: as `count` and `load_png`, with the position of the image (from 0); fewer of one side than
            of the other; no image at all.
    """

    def counted(item: tuple[int, tuple[Source | None, Source | None]]) -> ImageCounts:
        position, (prediction, truth) = item
        try:
            if prediction is None or truth is None:
                missing = "prediction" if prediction is None else "ground truth"
                raise UserError(f"there is no {missing}; give as many predictions as ground truths")
            maps = _loaded(prediction), _loaded(truth)
            return count(*maps, max_dist=max_dist, protocol=protocol, backend=backend)
        except UserError as error:
            raise UserError(f"image {position}: {error}") from error

    load_kernels(backend)  # here, not in a thread: compiling takes seconds and all threads would wait for it
    pairs = enumerate(zip_longest(predictions, truths))
    total = next((len(side) for side in (predictions, truths) if isinstance(side, Sized)), None)
    counts = list(_mapped(counted, pairs, workers, "boundaries" if progress else None, total))
    return score(
        counts,
        interpolate=interpolate,
        exact=exact,
        workers=workers,
        progress=progress,
        keep_curve=keep_curve,
        backend=backend,
    )


def score(
    counts: Sequence[ImageCounts],
    *,
    interpolate: bool = False,
    exact: bool = True,
    workers: int | None = None,
    progress: bool = False,
    keep_curve: bool = True,
    backend: Backend = "auto",
) -> BoundaryScores:
    """Pool the counts of many images, in any order; arguments as those of `evaluate`.

    Raises:
        UserError: no image, or images counted with different distances or protocols.
    """
    if not counts:
        raise UserError("no image to score; give at least one prediction with its ground truth")
    max_dist, protocol = counts[0].max_dist, counts[0].protocol
    if any((c.max_dist, c.protocol) != (max_dist, protocol) for c in counts):
        raise UserError("counts of different max_dist or protocol cannot be pooled; count all images alike")

    def pairs(positions: list[tuple[int, int]]) -> Iterator[int]:
        return _mapped(
            lambda position: exact_pairs(counts[position[0]], position[1], backend),
            positions,
            workers,
            "exact matching" if progress else None,
            len(positions),
        )

    table = Table(
        thresholds=np.array(protocol.thresholds),
        matched=np.stack([c.matched for c in counts]),
        predicted=np.stack([c.predicted for c in counts]),
        truth=np.array([c.truth for c in counts]),
        pairs=pairs if exact else None,
    )
    if not table.truth.any():
        log.warning("the ground truth of all %d images is empty: all boundary scores are 0", len(counts))
    ods, ois = table.dataset_scale(interpolate), table.image_scale()
    precision, recall, f = table.curve()
    curve = Curve(list(protocol.thresholds), precision.tolist(), recall.tolist(), f.tolist())
    return BoundaryScores(
        odsF=ods.f,
        oisF=ois,
        AP=average_precision(precision, recall),
        threshold=ods.threshold,
        precision=ods.precision,
        recall=ods.recall,
        images=len(counts),
        protocol=protocol.name,
        max_dist=max_dist,
        interpolate=interpolate,
        exact=exact,
        backend=load_kernels(backend).NAME,
        curve=curve if keep_curve else None,
    )


def _loaded(source: Source) -> Map:
    if isinstance(source, str | Path):
        return load_png(source)
    return np.asarray(source() if callable(source) else source)


def _mapped(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int | None,
    title: str | None,
    total: int | None,
) -> Iterator[Any]:
    """Apply `function` in `workers` threads, in the order of `items`, drawn a few ahead."""
    from rich.progress import Progress

    workers = workers or available_cores()
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(workers) as pool, Progress(disable=title is None) as bar:
        task = bar.add_task(title or "", total=total)
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
                bar.advance(task)
        while waiting:
            yield waiting.popleft().result()
            bar.advance(task)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
