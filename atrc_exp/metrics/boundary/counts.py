"""Pixel counts of one image: from a prediction and its ground truth to matched pixels at every threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import BoundaryError
from .maps import check_map, check_probabilities, nms, quantize
from .protocols import Protocol, resolve

Map: TypeAlias = NDArray[Any]

OUTLIER_COST = 100  # of a pixel left alone, as a multiple of the largest distance R of a pair
UNLABELLED = 255


@dataclass(frozen=True)
class ImageCounts:
    """Pixel counts of one image at the T thresholds of a protocol; can be pickled, in about 2 KiB.

    Attributes:
        matched: (T,) int32, matched ground-truth pixels, summed over the annotators.
        hits: (T,) int32, predicted pixels that match a pixel of any annotator.
        predicted: (T,) int32, thinned predicted pixels.
        truth: ground-truth pixels, summed over the annotators.
        max_dist, protocol: how they were counted.
    """

    matched: NDArray[np.int32]
    hits: NDArray[np.int32]
    predicted: NDArray[np.int32]
    truth: int
    max_dist: float
    protocol: Protocol


def count(
    prediction: Map, truth: Map | Sequence[Map], *, max_dist: float, protocol: str | Protocol = "seism"
) -> ImageCounts:
    """Match one prediction with its ground truth at every threshold of the protocol.

    In the published program a pair at distance d costs rint(100 d), and a pixel left alone costs ceil(100 * 100 R),
    where R is the largest distance of a pair in pixels. Both costs are doubled here, and 1 is added to the second, so
    that two matchings with different numbers of pairs never cost the same and the number of pairs is unique. Where the
    published costs tie, it is the larger number.

    Args:
        prediction: (H, W), uint8 floor(255 p), uint16 of 65535 p, or floating probabilities in [0, 1].
        truth: (H, W) bool or integer, boundary where above 0, or a list of such maps, one for each annotator. If a
            map holds other values than 0 and 255, 255 marks unlabelled pixels, which count as no boundary. A map
            without any boundary is allowed.
        max_dist: largest distance of a pair, as a fraction of the image diagonal (the published numbers use
            0.0075 on PASCAL-Context and BSDS500, 0.011 on NYUD).
        protocol: a name in `PROTOCOLS`, or one of your own.

    Raises:
        BoundaryError: wrong shape or type, NaN, values outside [0, 1], unknown protocol, max_dist outside (0, 1).
    """
    from .kernels.sweep import cheapest_matchings  # numba takes a while to load

    rule, masks, radius, outlier = _prepared(prediction, truth, max_dist, protocol)
    passed = levels(prediction, rule)
    matched, hits, predicted = cheapest_matchings(passed, masks, len(rule.thresholds), radius, outlier)
    return ImageCounts(matched, hits, predicted, sum(map(np.count_nonzero, masks)), float(max_dist), rule)


def match(
    prediction: Map,
    truth: Map | Sequence[Map],
    threshold: float,
    *,
    max_dist: float,
    protocol: str | Protocol = "seism",
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the hits, misses and false alarms (H, W) of one image at one threshold.

    Hits are predicted pixels that match a pixel of any annotator, misses are pixels of any annotator without a partner,
    and false alarms are predicted pixels that match none. The function takes the arguments of `count` and raises the
    same errors.
    """
    from .kernels.sweep import cheapest_matching
    from .kernels.thinning import thin

    rule, masks, radius, outlier = _prepared(prediction, truth, max_dist, protocol)
    predicted = thin(levels(prediction, replace(rule, thresholds=(threshold,))))
    hits, missed = cheapest_matching(predicted, masks, radius, outlier)
    return hits, missed, predicted & ~hits


def _prepared(
    prediction: Map, truth: Map | Sequence[Map], max_dist: float, protocol: str | Protocol
) -> tuple[Protocol, list[NDArray[np.bool_]], float, int]:
    """Return the protocol, the truths as they are matched, the radius R and the doubled cost of a pixel left alone."""
    from .kernels.thinning import thin

    rule = resolve(protocol)
    if isinstance(max_dist, bool) or not isinstance(max_dist, Real) or not 0 < max_dist < 1:
        raise BoundaryError(f"max_dist is {max_dist!r}; give a fraction of the image diagonal between 0 and 1")
    check_prediction(prediction)
    masks = [boundary_mask(mask) for mask in (truth if isinstance(truth, list | tuple) else [truth])]
    if not masks:
        raise BoundaryError("the ground truth is an empty list; give a map or one for each annotator")
    for mask in masks:
        if mask.shape != prediction.shape:
            how = _how(prediction.shape, mask.shape)
            raise BoundaryError(
                f"the prediction is {prediction.shape}, the ground truth {mask.shape}{how}; both must be (H, W), the"
                " size of the image without padding"
            )
    radius = float(max_dist) * math.hypot(*prediction.shape)
    outlier = 2 * math.ceil(100 * OUTLIER_COST * radius) + 1
    return rule, [thin(mask) for mask in masks] if rule.thin_truth else masks, radius, outlier


def _how(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say in which way a shape looks like a mistake, if it does."""
    if shape == wanted[::-1]:
        return " (transposed)"
    factors = [own / goal for own, goal in zip(shape, wanted, strict=True)]
    return f" (scaled by {factors[0]:.3g})" if abs(factors[0] / factors[1] - 1) < 0.02 else ""


def check_prediction(prediction: Map) -> None:
    """Raise BoundaryError unless a prediction is one that `count` takes."""
    check_map(prediction, "the prediction")
    if prediction.dtype in (np.uint8, np.uint16):
        return
    if not np.issubdtype(prediction.dtype, np.floating):
        raise BoundaryError(f"the prediction is {prediction.dtype}; give uint8, uint16 or floating probabilities")
    check_probabilities(prediction)


def boundary_mask(truth: Map) -> NDArray[np.bool_]:
    """Return where one annotator has a boundary, (H, W); raises BoundaryError as `count` does."""
    check_map(truth, "the ground truth")
    if truth.dtype == bool:
        return truth
    if not np.issubdtype(truth.dtype, np.integer):
        raise BoundaryError(f"the ground truth is {truth.dtype}; give bool or integers, boundary above 0")
    unlabelled = truth == UNLABELLED
    if unlabelled.all():
        raise BoundaryError(f"the ground truth is {UNLABELLED}, unlabelled, everywhere; leave the image out")
    labelled = truth[~unlabelled]
    return (truth > 0) & ~unlabelled if labelled.any() else unlabelled


def levels(prediction: Map, rule: Protocol) -> NDArray[np.uint16]:
    """Count the thresholds, from the lowest one, that each pixel (H, W) passes."""
    if rule.quantize and np.issubdtype(prediction.dtype, np.floating):
        prediction = quantize(prediction)
    response = prediction.astype(rule.precision)
    if np.issubdtype(prediction.dtype, np.integer):
        response /= np.iinfo(prediction.dtype).max
    if rule.suppress:
        response = nms(response, rule.multiplier)
    thresholds = np.array(rule.thresholds, dtype=rule.precision)
    passed = np.zeros(response.shape, np.uint16)
    positive = response > 0
    side: Literal["left", "right"] = "right" if rule.inclusive else "left"
    passed[positive] = np.searchsorted(thresholds, response[positive], side=side)
    return passed
