"""Maps of one image: 8-bit predictions, non-maximum suppression, boundaries of partitions."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from .errors import BoundaryError

TRIANGLE = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1])
REACH = 5  # pixels from the middle of the triangle to where it is zero
FRAME = 5  # pixels; responses fade to zero towards the image border


def check_map(values: NDArray, what: str) -> None:
    """Raise BoundaryError unless an array has two axes and at least one pixel."""
    if values.ndim != 2 or values.size == 0:
        raise BoundaryError(f"{what} has shape {values.shape}; give (H, W), at least one pixel")


def check_probabilities(values: NDArray) -> None:
    """Raise BoundaryError if a map holds NaN or values outside [0, 1]."""
    if not np.issubdtype(values.dtype, np.floating) or not (values.min() >= 0 and values.max() <= 1):  # NaN fails both
        raise BoundaryError("the prediction holds NaN or values outside [0, 1]; give probabilities (sigmoid)")


def quantize(probability: NDArray) -> NDArray[np.uint8]:
    """Turn floating-point probabilities (H, W) into the 8-bit map of the published protocol, floor(255 p).

    Raises BoundaryError on NaN, values outside [0, 1] and other shapes.
    """
    check_map(probability, "the prediction")
    check_probabilities(probability)
    return (probability.astype(np.result_type(probability, np.float32)) * 255).astype(np.uint8)


def nms(response: NDArray, multiplier: float = 1.01) -> NDArray[np.float32]:
    """Suppress non-maxima of an edge map (H, W) in [0, 1] across the local edge orientation.

    Orientation and suppression are those of structured edge detection (Dollár and Zitnick, 2015): a pixel
    keeps its value unless one of the two samples at distance 1 along the normal exceeds `multiplier` times that
    value. The outermost five rows and columns fade linearly to zero. Raises BoundaryError on other shapes.
    """
    check_map(response, "the edge map")
    response = np.ascontiguousarray(response, dtype=np.float32)
    height, width = response.shape
    y, x = np.nonzero(response > 0)
    value = response[y, x]
    angle = _normal_angle(response, y, x)
    dx, dy = np.cos(angle), np.sin(angle)
    highest = np.maximum(_bilinear(response, x + dx, y + dy), _bilinear(response, x - dx, y - dy))
    keep = value * np.float32(multiplier) >= highest
    kept = np.zeros_like(response)
    kept[y[keep], x[keep]] = value[keep]
    frame = min(FRAME, height // 2, width // 2)
    fades = [np.float32(i / frame) for i in range(frame)]
    for i, fade in enumerate(fades):
        kept[:, [i, width - 1 - i]] *= fade
    for i, fade in enumerate(fades):  # after all columns, as published: the order of the factors rounds corners
        kept[[i, height - 1 - i], :] *= fade
    return kept


def _normal_angle(response: NDArray[np.float32], y: NDArray, x: NDArray) -> NDArray[np.float32]:
    """Return the direction across the edge in radians [0, pi) at the pixels (y, x), from second derivatives."""
    smooth = _smoothed(response)
    along_y = _gradient(smooth, 0)
    oxx = _gradient(_gradient(smooth, 1), 1)[y, x]
    oxy = _gradient(along_y, 1)[y, x]
    oyy = _gradient(along_y, 0)[y, x]
    angle = np.arctan(oyy * np.sign(-oxy) / (oxx + np.float32(1e-5)))
    return np.mod(angle, np.float32(np.pi))


def _smoothed(response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter (H, W) by the triangle along both axes, borders mirrored, rounded as the published program rounds.

    Along an edge that follows an axis the mixed derivative is zero but for rounding, and its sign decides which way
    the edge is thinned. So the running sums of the program are repeated: first across x, scaled by both axes' weight,
    then down y. Maps too small for the running sums are convolved there and here.
    """
    if min(response.shape) <= 2 * REACH - 1:
        for axis in (0, 1):
            response = correlate1d(response, TRIANGLE / REACH**2, axis=axis, mode="reflect")
        return response
    across = _running_triangle(response.T, np.float32(1) / np.float32(REACH**4)).T
    return _running_triangle(across, np.float32(1))


def _running_triangle(values: NDArray[np.float32], scale: np.float32) -> NDArray[np.float32]:
    """Filter (N, M) along the first axis by `scale` times the triangle, as sums of second differences."""
    n = len(values)
    padded = np.pad(values, ((REACH, REACH - 1), (0, 0)), mode="symmetric")
    second = padded[: n - 1] + padded[2 * REACH :] - 2 * padded[REACH:-REACH]
    box = np.cumsum(values[:REACH], axis=0)
    first = scale * (2 * np.cumsum(box, axis=0)[-1:] - box[-1:])
    return np.cumsum(np.concatenate([first, scale * np.cumsum(second, axis=0)]), axis=0)


def _gradient(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)


def _bilinear(values: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray[np.float32]:
    """Sample (H, W) at real coordinates, clamped to [0, W - 1.001] x [0, H - 1.001] as published."""
    height, width = values.shape
    x = np.clip(x.astype(np.float32), 0, np.float32(max(width - 1.001, 0)))
    y = np.clip(y.astype(np.float32), 0, np.float32(max(height - 1.001, 0)))
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = x - left.astype(np.float32), y - top.astype(np.float32)
    flat = values.ravel()
    top, bottom = top * width, bottom * width
    gx, gy = 1 - fx, 1 - fy
    return (  # in the order in which the published program rounds
        flat[top + left] * gx * gy
        + flat[top + right] * fx * gy
        + flat[bottom + left] * gx * fy
        + flat[bottom + right] * fx * fy
    )


def partition_to_boundary(label_map: NDArray) -> NDArray[np.bool_]:
    """Return the boundary map (H, W) of an integer label map (H, W), not thinned: the ground truth of PASCAL-Context.

    4-connected regions of equal label are told apart first. A pixel is boundary when its region differs from
    the one to the East, South or South-East; the last row looks East only, the last column South only.
    """
    from skimage.measure import label

    check_map(label_map, "a label map")
    if not np.issubdtype(label_map.dtype, np.integer):
        raise BoundaryError(f"a label map is {label_map.dtype}; give integers")
    region = label(label_map.astype(np.int64), connectivity=1, background=-1)
    boundary = np.zeros(region.shape, dtype=bool)
    boundary[:, :-1] |= region[:, :-1] != region[:, 1:]
    boundary[:-1, :] |= region[:-1, :] != region[1:, :]
    boundary[:-1, :-1] |= region[:-1, :-1] != region[1:, 1:]
    return boundary


def disc(radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets (dy, dx) of the closed disc of `radius` pixels, nearest first, and their costs rint(100 d)."""
    reach = int(radius)
    dy, dx = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    squared = dy * dy + dx * dx
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= radius * radius]
    cost = np.rint(100 * np.sqrt(squared[order])).astype(np.int64)
    return dy[order], dx[order], cost
