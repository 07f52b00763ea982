"""Protocols: how a response map becomes one binary map for each threshold."""

from dataclasses import dataclass

import numpy as np

from .errors import BoundaryError


@dataclass(frozen=True)
class Protocol:
    """How a response map becomes one binary map for each threshold, and how the counts become scores.

    Attributes:
        name: what reports call it.
        thresholds: any number of rising values in (0, 1].
        suppress: apply non-maximum suppression first.
        inclusive: a pixel equal to the threshold is set.
        precision: floating-point type in which value / 255 is compared with the threshold.
        quantize: floor(255 p) before anything else, as when predictions are handed over as PNG.
        multiplier: a pixel stays if its value times this, at least 1, reaches both samples across the edge.
        thin_truth: thin the ground truth, too.
        interpolate: the rules of the BSDS collectors, see `score`.

    Raises:
        BoundaryError: thresholds that do not rise, or a value that is not allowed.
    """

    name: str
    thresholds: tuple[float, ...]
    suppress: bool
    inclusive: bool
    precision: type[np.floating]
    quantize: bool = True
    multiplier: float = 1.01
    thin_truth: bool = True
    interpolate: bool = False

    def __post_init__(self) -> None:
        where = f"boundary protocol {self.name!r}"
        try:
            values = np.array(self.thresholds, dtype=self.precision)
        except (TypeError, ValueError) as error:
            raise BoundaryError(f"{where}: thresholds must be numbers of a floating-point type ({error})") from error
        if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.floating):
            raise BoundaryError(f"{where}: thresholds have shape {values.shape}; give one or more numbers in a row")
        if not (values[0] > 0 and values[-1] <= 1 and (np.diff(values) > 0).all()):
            raise BoundaryError(f"{where}: thresholds must rise and lie in (0, 1], also as {values.dtype}")
        if not self.multiplier >= 1:
            raise BoundaryError(f"{where}: the multiplier is {self.multiplier}; give a number of at least 1")


_HUNDREDTHS = tuple(i / 100 for i in range(1, 100))
PROTOCOLS = {
    "seism": Protocol("seism", (0.001, *_HUNDREDTHS, 0.999), True, False, np.float32),
    "mtl_pytorch": Protocol("mtl_pytorch", _HUNDREDTHS, False, True, np.float64),
    "bsds": Protocol("bsds", _HUNDREDTHS, False, True, np.float64, False, thin_truth=False, interpolate=True),
}


def resolve(protocol: str | Protocol) -> Protocol:
    """Return the protocol of this name; raises BoundaryError if there is none."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise BoundaryError(f"boundary protocol {protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]
