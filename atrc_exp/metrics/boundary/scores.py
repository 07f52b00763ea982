"""From pixel counts to odsF, oisF, AP and R50."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .counts import ImageCounts

INTERPOLATED = 100  # points between two neighbouring thresholds in the BSDS collectors


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
        R50: recall at precision 0.5, or at the lowest precision if that is higher.
        threshold, precision, recall: the operating point of odsF.
        images: how many were scored.
        protocol, max_dist, interpolate: how they were scored.
        curve: pooled over all images; None if not asked for.
    """

    odsF: float
    oisF: float
    AP: float
    R50: float
    threshold: float
    precision: float
    recall: float
    images: int
    protocol: str
    max_dist: float
    interpolate: bool
    curve: Curve | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return asdict(self)

    def curve_csv(self) -> str:
        """Return threshold, precision, recall and F as comma-separated values with a heading."""
        curve = self.curve
        assert curve is not None
        columns = zip(curve.threshold, curve.precision, curve.recall, curve.f, strict=True)
        return "threshold,precision,recall,f\n" + "".join(",".join(map(repr, row)) + "\n" for row in columns)


@dataclass(frozen=True)
class OperatingPoint:
    """The best point of a curve."""

    f: float
    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Table:
    """Counts of N images at T thresholds.

    Attributes:
        matched, hits, predicted: (N, T) integers, as those of `ImageCounts`.
        truth: (N,) integers.
        empty_precision: precision at a threshold that leaves no prediction.
    """

    matched: NDArray
    hits: NDArray
    predicted: NDArray
    truth: NDArray
    empty_precision: float = 1.0

    def pooled(self) -> "Table":
        """Sum the counts of all images to those of one."""
        matched, hits, predicted, truth = (
            values.sum(0, keepdims=True) for values in (self.matched, self.hits, self.predicted, self.truth)
        )
        return Table(matched, hits, predicted, truth, self.empty_precision)

    def precision_recall(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return precision and recall (N, T): (0, 1) without truth, (`empty_precision`, 0) without prediction."""
        truth = self.truth[:, None]
        empty = np.full(self.hits.shape, self.empty_precision)
        precision = np.divide(self.hits, self.predicted, out=empty, where=self.predicted > 0)
        recall = np.divide(self.matched, truth, out=np.ones(self.matched.shape), where=truth > 0)
        return np.where(truth > 0, precision, 0), recall

    def f(self) -> NDArray[np.float64]:
        """Return F = 2PR/(P+R), (N, T), computed from the integers; it is 0 where nothing matches."""
        matched, hits = self.matched.astype(np.int64), self.hits.astype(np.int64)
        return 2 * hits * matched / np.maximum(hits * self.truth[:, None] + matched * self.predicted, 1)

    def at_best(self) -> "Table":
        """Pick the counts (N, 1) of every image at its threshold of highest F, the first one if several are equal."""
        best = (np.arange(len(self.truth)), np.argmax(self.f(), axis=1))
        matched, hits, predicted = (values[best][:, None] for values in (self.matched, self.hits, self.predicted))
        return Table(matched, hits, predicted, self.truth, self.empty_precision)


def table_of(counts: Sequence[ImageCounts], empty_precision: float = 1.0) -> Table:
    """Gather the counts of images at the thresholds that they share."""
    return Table(
        matched=np.stack([c.matched for c in counts]),
        hits=np.stack([c.hits for c in counts]),
        predicted=np.stack([c.predicted for c in counts]),
        truth=np.array([c.truth for c in counts], np.int64),
        empty_precision=empty_precision,
    )


def best_point(thresholds: NDArray, table: Table, interpolate: bool) -> OperatingPoint:
    """Return the point of highest F of pooled counts (1, T), the first one if several are equal.

    With `interpolate`, precision and recall are also taken linearly between neighbouring thresholds, as the
    BSDS and structured-edge collectors do; the published multi-task numbers are not interpolated.
    """
    precision, recall = (values[0] for values in table.precision_recall())
    if not interpolate:
        f = table.f()[0]
        i = int(np.argmax(f))
        return OperatingPoint(float(f[i]), float(thresholds[i]), float(precision[i]), float(recall[i]))
    share = np.linspace(0, 1, INTERPOLATED)
    p, r, t = (values[:-1, None] * (1 - share) + values[1:, None] * share for values in (precision, recall, thresholds))
    f = 2 * p * r / np.where(p + r > 0, p + r, 1)
    i, j = divmod(int(np.argmax(f)), INTERPOLATED)
    return OperatingPoint(float(f[i, j]), float(t[i, j]), float(p[i, j]), float(r[i, j]))


def average_precision(precision: NDArray, recall: NDArray) -> float:
    """Return the area below a precision-recall curve (T,) as the BSDS collector sums it.

    Precision is interpolated linearly at recall 0, 0.01, ..., 1 inside the range of the curve and counts as 0
    outside; the 101 samples are divided by 100. A curve of one recall value has area 0.
    """
    recall, first = np.unique(recall, return_index=True)
    if recall.size < 2:
        return 0.0
    samples = np.interp(np.arange(101) / 100, recall, precision[first], left=0, right=0)
    return float(samples.sum() / 100)


def recall_at_half(precision: NDArray, recall: NDArray) -> float:
    """Return the recall at precision 0.5 on a curve (T,), linear between its points in order of precision.

    Outside the range of the curve it is the recall of the nearest end.
    """
    precision, first = np.unique(precision, return_index=True)
    return float(np.interp(0.5, precision, recall[first]))
