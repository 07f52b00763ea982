"""From pixel counts to odsF, oisF and AP."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERPOLATED = 100  # points between two neighbouring thresholds in the BSDS collectors

# Exact pairs of (image, threshold) positions, in the order given.
ExactPairs = Callable[[list[tuple[int, int]]], Iterable[int]]


@dataclass(frozen=True)
class Curve:
    """Pooled precision, recall and F at every threshold."""

    threshold: list[float]
    precision: list[float]
    recall: list[float]
    f: list[float]


@dataclass(frozen=True)
class BoundaryScores:
    """Scores in [0, 1] of a set of boundary maps, with everything needed to compare them with other numbers.

    Attributes:
        odsF: F at the best threshold of the whole set (optimal dataset scale).
        oisF: F of the counts at the best threshold of every image (optimal image scale).
        AP: area below the pooled precision-recall curve, as the BSDS collector sums it.
        threshold, precision, recall: the operating point of odsF.
        images: how many were scored.
        protocol, max_dist, interpolate, exact, backend: how they were scored.
        curve: pooled over all images; None if not asked for. Where odsF and oisF do not rest on a count, the
            curve and AP have that of a maximum matching, an upper bound which the exact count nearly always
            equals.
    """

    odsF: float
    oisF: float
    AP: float
    threshold: float
    precision: float
    recall: float
    images: int
    protocol: str
    max_dist: float
    interpolate: bool
    exact: bool
    backend: str
    curve: Curve | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class OperatingPoint:
    """The best point of a curve; `support` are the positions of the thresholds whose counts it rests on."""

    f: float
    threshold: float
    precision: float
    recall: float
    support: tuple[int, ...]


def f_measure(matched: NDArray, predicted: NDArray, truth: NDArray | int) -> NDArray[np.float64]:
    """F = 2PR/(P+R) with P = matched/predicted and R = matched/truth; 0 where nothing matches."""
    return 2 * matched / np.maximum(predicted + truth, 1)


def precision_recall(
    matched: NDArray, predicted: NDArray, truth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of counts (T,); (0, 1) without ground truth, else (1, 0) without prediction."""
    if truth == 0:
        return np.zeros(matched.shape), np.ones(matched.shape)
    precision = np.divide(matched, predicted, out=np.ones(matched.shape), where=predicted > 0)
    return precision, matched / truth


def best_point(
    thresholds: NDArray, matched: NDArray, predicted: NDArray, truth: int, interpolate: bool
) -> OperatingPoint:
    """Highest F of pooled counts (T,), the first one if several are equal.

    With `interpolate`, precision and recall are also taken linearly between neighbouring thresholds, as the
    BSDS and structured-edge collectors do; the published multi-task numbers are not interpolated.
    """
    precision, recall = precision_recall(matched, predicted, truth)
    if not interpolate:
        f = f_measure(matched, predicted, truth)
        i = int(np.argmax(f))
        return OperatingPoint(float(f[i]), float(thresholds[i]), float(precision[i]), float(recall[i]), (i,))
    share = np.linspace(0, 1, INTERPOLATED)
    p, r, t = (values[:-1, None] * (1 - share) + values[1:, None] * share for values in (precision, recall, thresholds))
    f = 2 * p * r / np.where(p + r > 0, p + r, 1)
    i, j = divmod(int(np.argmax(f)), INTERPOLATED)
    return OperatingPoint(float(f[i, j]), float(t[i, j]), float(p[i, j]), float(r[i, j]), (i, i + 1))


def average_precision(precision: NDArray, recall: NDArray) -> float:
    """Area below a precision-recall curve (T,) as the BSDS collector sums it.

    Precision is interpolated linearly at recall 0, 0.01, ..., 1 inside the range of the curve and counts as 0
    outside; the 101 samples are divided by 100. A curve of one recall value has area 0.
    """
    recall, first = np.unique(recall, return_index=True)
    if recall.size < 2:
        return 0.0
    samples = np.interp(np.arange(101) / 100, recall, precision[first], left=0, right=0)
    return float(samples.sum() / 100)


class Table:
    """Counts of N images at T thresholds; maximum matchings at first, made exact where a score rests on them.

    Maximum matchings give upper bounds of the pairs of the cheapest matchings, and F grows with the pairs. So
    the best point of a curve of bounds is the exact one as soon as the counts that it rests on are exact.
    """

    def __init__(
        self,
        thresholds: NDArray,
        matched: NDArray,
        predicted: NDArray,
        truth: NDArray,
        pairs: ExactPairs | None,
    ) -> None:
        """Take `thresholds` (T,) and the integers `matched` and `predicted` (N, T) and `truth` (N,).

        `pairs` counts the pairs of the cheapest matchings; None leaves the bounds as they are.
        """
        self.thresholds, self.predicted, self.truth = thresholds, predicted, truth
        self.matched = matched.copy()
        self._pairs = pairs
        self._exact = (matched == 0) | (pairs is None)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Pooled precision, recall and F, (T,) each."""
        matched, predicted, truth = self._pooled()
        return *precision_recall(matched, predicted, truth), f_measure(matched, predicted, truth)

    def dataset_scale(self, interpolate: bool) -> OperatingPoint:
        """The operating point of odsF."""
        while True:
            point = best_point(self.thresholds, *self._pooled(), interpolate=interpolate)
            if not self._settle([(i, t) for t in point.support for i in range(self.truth.size)]):
                return point

    def image_scale(self) -> float:
        """The value of oisF."""
        images = np.arange(self.truth.size)
        while True:
            best = np.argmax(f_measure(self.matched, self.predicted, self.truth[:, None]), axis=1)
            if not self._settle(list(zip(images.tolist(), best.tolist(), strict=True))):
                break
        matched, predicted = self.matched[images, best].sum(), self.predicted[images, best].sum()
        return float(f_measure(matched, predicted, int(self.truth.sum())))

    def _pooled(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        return self.matched.sum(0), self.predicted.sum(0), int(self.truth.sum())

    def _settle(self, positions: list[tuple[int, int]]) -> bool:
        """Make these counts exact; False if they all were."""
        open_positions = [position for position in positions if not self._exact[position]]
        if self._pairs is not None:
            for position, pairs in zip(open_positions, self._pairs(open_positions), strict=True):
                self.matched[position] = pairs
                self._exact[position] = True
        return bool(open_positions)
