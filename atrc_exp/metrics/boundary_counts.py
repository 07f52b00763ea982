"""Pixel counts of one image: from a prediction and its ground truth to matched pairs at every threshold."""

import logging
import math
import zlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from atrc_exp.errors import UserError
from atrc_exp.metrics.boundary_maps import check_probabilities, nms, quantize

log = logging.getLogger(__name__)

Map: TypeAlias = NDArray[Any]
Backend: TypeAlias = Literal["auto", "numba", "scipy"]

OUTLIER_COST = 100  # of a pixel left alone, as a multiple of the largest distance R of a pair


@dataclass(frozen=True)
class Protocol:
    """How a response map becomes one binary map for each threshold.

    Attributes:
        name: what reports call it.
        thresholds: ascending, in (0, 1), fewer than 256.
        suppress: apply non-maximum suppression first.
        inclusive: a pixel equal to the threshold is set.
        precision: floating-point type in which value / 255 is compared with the threshold.
        quantize: floor(255 p) before anything else, as when predictions are handed over as PNG.
    """

    name: str
    thresholds: tuple[float, ...]
    suppress: bool
    inclusive: bool
    precision: type[np.floating]
    quantize: bool = True


_HUNDREDTHS = tuple(i / 100 for i in range(1, 100))
PROTOCOLS = {
    "seism": Protocol("seism", (0.001, *_HUNDREDTHS, 0.999), True, False, np.float32),
    "mtl_pytorch": Protocol("mtl_pytorch", _HUNDREDTHS, False, True, np.float64),
}


@dataclass(frozen=True)
class ImageCounts:
    """Pixel counts of one image at the T thresholds of a protocol; can be pickled.

    Attributes:
        matched: (T,) int64, pairs of a maximum matching.
        predicted: (T,) int64, thinned predicted pixels.
        truth: thinned ground-truth pixels.
        max_dist, protocol: how they were counted.
        shape: (H, W).
        packed_levels, packed_truth: the maps, compressed, from which any threshold can be matched again.
    """

    matched: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: int
    max_dist: float
    protocol: Protocol
    shape: tuple[int, int]
    packed_levels: bytes
    packed_truth: bytes


def count(
    prediction: Map,
    truth: Map,
    *,
    max_dist: float,
    protocol: str | Protocol = "seism",
    backend: Backend = "auto",
) -> ImageCounts:
    """Match one prediction with its ground truth at every threshold of the protocol.

    Args:
        prediction: (H, W), uint8 floor(255 p) or floating probabilities in [0, 1].
        truth: (H, W) bool or integer, boundary where above 0; it is thinned here. It may be empty of
        boundary. max_dist: largest distance of a pair, as a fraction of the image diagonal (the published
        numbers use
            0.0075 on PASCAL-Context and 0.011 on NYUD).
        protocol: a name in `PROTOCOLS`, or one of your own.
        backend: "numba", "scipy" (equal counts, slower), or "auto" for numba where it can be imported.

    Raises:
        UserError: wrong shape or type, NaN, values outside [0, 1], unknown protocol, max_dist outside (0, 1).
    """
    rule, kernels = resolve(protocol), load_kernels(backend)
    _check(prediction, truth)
    if not 0 < max_dist < 1:
        raise UserError(f"max_dist is {max_dist}; give a fraction of the image diagonal between 0 and 1")
    levels = _levels(prediction, rule)
    thinned = kernels.thin(truth > 0)
    radius = max_dist * math.hypot(*truth.shape)
    matched, predicted = kernels.maximum_matchings(levels, thinned, len(rule.thresholds), radius)
    return ImageCounts(
        matched=matched,
        predicted=predicted,
        truth=int(np.count_nonzero(thinned)),
        max_dist=max_dist,
        protocol=rule,
        shape=truth.shape,
        packed_levels=zlib.compress(levels.tobytes(), 1),
        packed_truth=zlib.compress(np.packbits(thinned).tobytes(), 1),
    )


def exact_pairs(counts: ImageCounts, threshold: int, backend: Backend = "auto") -> int:
    """Pairs of the cheapest matching at the threshold with this position in the protocol.

    The published cost of a pair at distance d is rint(100 d), that of a pixel left alone ceil(100 * 100 R).
    Here both are doubled and the latter gets 1 more: then solutions with different numbers of pairs never
    cost the same, so that every solver finds one number. Where the published costs tie, it is the larger one.
    """
    kernels = load_kernels(backend)
    height, width = counts.shape
    levels = np.frombuffer(zlib.decompress(counts.packed_levels), np.uint8).reshape(height, width)
    bits = np.frombuffer(zlib.decompress(counts.packed_truth), np.uint8)
    truth = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
    radius = counts.max_dist * math.hypot(height, width)
    outlier = 2 * math.ceil(100 * OUTLIER_COST * radius) + 1
    return kernels.cheapest_matching(kernels.thin(levels > threshold), truth, radius, outlier)


def thin(mask: Map, backend: Backend = "auto") -> NDArray[np.bool_]:
    """Thin a mask (H, W), set where above 0, to one pixel width, as MATLAB's bwmorph(..., 'thin', Inf)."""
    return load_kernels(backend).thin(mask > 0)


def resolve(protocol: str | Protocol) -> Protocol:
    """Return the protocol of this name; raises UserError if there is none."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UserError(f"boundary protocol {protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


@cache
def load_kernels(backend: Backend) -> ModuleType:
    """Import `boundary_kernels` or `boundary_fallback`; raises UserError for a backend that there is not."""
    if backend not in get_args(Backend):
        raise UserError(f"boundary backend {backend!r} is unknown; choose one of {', '.join(get_args(Backend))}")
    if backend != "scipy":
        try:
            from atrc_exp.metrics import boundary_kernels

            return boundary_kernels
        except ImportError as error:
            if backend == "numba":
                raise UserError(f"numba cannot be imported ({error}); repair it or choose scipy") from error
            log.warning("numba cannot be imported (%s): boundaries are scored by SciPy, slowly", error)
    from atrc_exp.metrics import boundary_fallback

    return boundary_fallback


def _check(prediction: Map, truth: Map) -> None:
    if truth.ndim != 2 or truth.size == 0 or prediction.shape != truth.shape:
        raise UserError(
            f"the prediction is {prediction.shape}, the ground truth {truth.shape}; both must be (H, W),"
            " the size of the image without padding"
        )
    if prediction.dtype == np.uint8:
        pass
    elif np.issubdtype(prediction.dtype, np.floating):
        check_probabilities(prediction)
    else:
        raise UserError(f"the prediction is {prediction.dtype}; give uint8 or floating probabilities")
    if not (truth.dtype == bool or np.issubdtype(truth.dtype, np.integer)):
        raise UserError(f"the ground truth is {truth.dtype}; give bool or integers, boundary above 0")


def _levels(prediction: Map, rule: Protocol) -> NDArray[np.uint8]:
    """How many thresholds, counted from the lowest, each pixel (H, W) passes."""
    if rule.quantize and prediction.dtype != np.uint8:
        prediction = quantize(prediction)
    response = prediction.astype(rule.precision)
    if prediction.dtype == np.uint8:
        response /= 255
    if rule.suppress:
        response = nms(response)
    thresholds = np.array(rule.thresholds, dtype=rule.precision)
    levels = np.zeros(response.shape, np.uint8)
    positive = response > 0
    side: Literal["left", "right"] = "right" if rule.inclusive else "left"
    levels[positive] = np.searchsorted(thresholds, response[positive], side=side)
    return levels
