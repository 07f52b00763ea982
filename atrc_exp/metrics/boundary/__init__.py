"""Boundary detection scores (odsF, oisF, AP) of a set of images, without MATLAB.

The protocol is that of the multi-task literature: 8-bit predictions, non-maximum suppression, thinning,
one-to-one matching of predicted to ground-truth pixels within a distance, F at the best of some hundred
thresholds (Martin, Fowlkes and Malik, 2004; Pont-Tuset and Marques, 2016). The published matching program
joins each pixel to six *random* outlier nodes only and so misses a few pairs; here the ideal optimum of its
cost is counted at every threshold.

The package imports nothing of the framework around it. It is installed without PyTorch as `atrc_boundary` by
`pip install ./boundary`, and its command is `atrc-boundary` or `python -m` with the package's name.

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

from .counts import ImageCounts, Map, count, match
from .errors import BoundaryError
from .maps import nms, partition_to_boundary, quantize
from .protocols import PROTOCOLS, Protocol
from .scores import BoundaryScores, Curve, average_precision, best_point, recall_at_half, table_of

__all__ = [
    "PROTOCOLS",
    "BoundaryError",
    "BoundaryScores",
    "Curve",
    "ImageCounts",
    "Protocol",
    "available_cores",
    "count",
    "evaluate",
    "match",
    "nms",
    "partition_to_boundary",
    "quantize",
    "score",
]

log = logging.getLogger(__name__)

Source: TypeAlias = Map | str | Path | Callable[[], Map]
Truth: TypeAlias = Source | Sequence[Map]


def evaluate(
    predictions: Iterable[Source],
    truths: Iterable[Truth],
    *,
    max_dist: float,
    protocol: str | Protocol = "seism",
    interpolate: bool | None = None,
    workers: int | None = None,
    progress: bool = False,
    keep_curve: bool = True,
) -> BoundaryScores:
    """Score the boundary maps of any number of images; the result does not depend on `workers`.

    Args:
        predictions: for each image an array as for `count`, the path of a file as for `read_prediction`, or a
            function without arguments that returns an array. Read lazily, a few at a time.
        truths: the ground truth of each, in the same order and the same forms; the maps of several annotators as a
            list of arrays or in a `.mat` file.
        max_dist: see `count`.
        protocol: see `count`.
        interpolate: see `score`.
        workers: threads, at least 1; by default as many as this process may use cores.
        progress: show a progress bar.
        keep_curve: return precision, recall and F at every threshold.

    Raises:
        BoundaryError: as `count` and the readers of files, with the position of the image (from 0); fewer of one side
            than of the other; no image at all; a single path instead of a list.
    """
    from .files import read_prediction, read_truth

    def loaded(source: Truth, read: Callable[[Path], Any]) -> Any:
        if isinstance(source, str | Path):
            return read(Path(source))
        source = source() if callable(source) else source
        return [np.asarray(mask) for mask in source] if isinstance(source, list | tuple) else np.asarray(source)

    def counted(item: tuple[int, tuple[Source | None, Truth | None]]) -> ImageCounts:
        position, (prediction, truth) = item
        try:
            if prediction is None or truth is None:
                missing = "prediction" if prediction is None else "ground truth"
                raise BoundaryError(f"there is no {missing}; give as many predictions as ground truths")
            maps = loaded(prediction, read_prediction), loaded(truth, read_truth)
            return count(*maps, max_dist=max_dist, protocol=protocol)
        except BoundaryError as error:
            raise BoundaryError(f"image {position}: {error}") from error

    for name, side in (("predictions", predictions), ("truths", truths)):
        if isinstance(side, str | Path):
            raise BoundaryError(f"{name} is the one path {str(side)!r}; give a list of paths, one for each image")
        if not isinstance(side, Iterable):
            raise BoundaryError(f"{name} is {type(side).__name__}; give a list with an entry for each image")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise BoundaryError(f"workers is {workers!r}; give a number of threads, at least 1, or None for one a core")
    from .kernels import sweep  # noqa: F401  here, since all threads would wait seconds for one to compile it

    pairs = enumerate(zip_longest(predictions, truths))
    total = next((len(side) for side in (predictions, truths) if isinstance(side, Sized)), None)
    counts = list(_mapped(counted, pairs, workers or available_cores(), progress, total))
    return score(counts, interpolate=interpolate, keep_curve=keep_curve)


def score(counts: Sequence[ImageCounts], *, interpolate: bool | None = None, keep_curve: bool = True) -> BoundaryScores:
    """Pool the counts of many images, in any order.

    Args:
        interpolate: follow the BSDS collectors, which look for odsF between the thresholds, too, and give precision 0
            to a threshold that leaves no prediction; the published multi-task numbers do neither. None is what the
            protocol says.
        keep_curve: return precision, recall and F at every threshold.

    Raises:
        BoundaryError: no image, images counted with different distances or protocols, or one threshold alone to
            interpolate.
    """
    if not counts:
        raise BoundaryError("no image to score; give at least one prediction with its ground truth")
    max_dist, protocol = counts[0].max_dist, counts[0].protocol
    if any((c.max_dist, c.protocol) != (max_dist, protocol) for c in counts):
        raise BoundaryError("counts of different max_dist or protocol cannot be pooled; count all images alike")
    interpolate = protocol.interpolate if interpolate is None else interpolate
    if interpolate and len(protocol.thresholds) < 2:
        raise BoundaryError("one threshold leaves nothing to interpolate; give two or more, or interpolate=False")
    table = table_of(counts, empty_precision=0.0 if interpolate else 1.0)
    if not table.truth.any():
        log.warning("the ground truth of all %d images is empty: all boundary scores are 0", len(counts))
    pooled = table.pooled()
    ods = best_point(np.array(protocol.thresholds), pooled, interpolate)
    (precision,), (recall,) = pooled.precision_recall()
    curve = Curve(list(protocol.thresholds), precision.tolist(), recall.tolist(), pooled.f()[0].tolist())
    return BoundaryScores(
        odsF=ods.f,
        oisF=float(table.at_best().pooled().f().item()),
        AP=average_precision(precision, recall),
        R50=recall_at_half(precision, recall),
        threshold=ods.threshold,
        precision=ods.precision,
        recall=ods.recall,
        images=len(counts),
        protocol=protocol.name,
        max_dist=max_dist,
        interpolate=interpolate,
        curve=curve if keep_curve else None,
    )


def _mapped(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int, progress: bool, total: int | None
) -> Iterator[Any]:
    """Apply `function` in `workers` threads, in the order of `items`, drawn a few ahead."""
    from rich.progress import Progress

    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(workers) as pool, Progress(disable=not progress) as bar:
        task = bar.add_task("boundaries", total=total)
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
                bar.advance(task)
        while waiting:
            yield waiting.popleft().result()
            bar.advance(task)


def available_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
