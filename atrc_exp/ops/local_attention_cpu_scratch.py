"""Scratch of the CPU kernels of local attention: its layout, and what moves between it and images.

The window of a pixel has K rows of K *taps*; tap (dy, dx) of pixel (y, x) is pixel (y + dy - radius, x + dx - radius).
Taps of a row are taken GROUP at a time; slots beyond K, which fill the last group up, have weight 0.

All scratch is 1-D, float32, and zero before anything is written to it. It keeps K rows of an image, row y at place
y % K, so that it stays in cache whatever the height:
- A *framed* map keeps all channels of a row together, each in `stride` columns, pixel x in column x + radius: the taps
  of pixels x to x + LANES - 1 start in column x. Columns that no pixel fills stay zero. An odd number of vectors a
  stride spreads a window over all sets of the cache.
- A *ring* keeps the weights of a row of queries for the gradients of keys and values, one framed row a slot, taps of a
  row from right to left. A key sees queries to its left as their taps to the right: with this order both its taps and
  their slots go up together.
Scores and weights of LANES pixels are one vector a slot, row after row.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from atrc_exp.ops.vectors import LANES, load, multiply, splat, store

GROUP = 9  # a whole row of the usual window, and with their operands no more than 16 registers
ZERO = np.float32(0)

# Options of the kernels, the only functions called from outside; numba's annotations lack them.
part = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


class Sizes(NamedTuple):
    """Sizes of the maps and of the scratch."""

    channels: int
    height: int
    width: int
    kernel_size: int
    radius: int
    slots: int  # of a row of taps
    vectors: int  # of pixels of a row
    stride: int  # columns of a framed row


@part
def sizes_of(channels, height, width, kernel_size):
    """The sizes that follow from those of the images and the window."""
    slots = -(-kernel_size // GROUP) * GROUP
    vectors = -(-width // LANES)
    stride = (vectors + 1 + -(-(slots - GROUP) // LANES) | 1) * LANES  # to where the last pixels' last group reads
    return Sizes(channels, height, width, kernel_size, kernel_size // 2, slots, vectors, stride)


@part
def scratch(count):
    """`count` zeros, the first of which starts a cache line."""
    values = np.zeros(count + LANES, np.float32)
    start = -(values.ctypes.data // 4) % LANES
    return values[start : start + count]


@part
def new_frame(sizes):
    """An empty framed map: K rows of all channels."""
    return scratch(sizes.kernel_size * sizes.channels * sizes.stride)


@part
def framed_row(y, sizes):
    """Where row y of a framed map starts."""
    return y % sizes.kernel_size * sizes.channels * sizes.stride


@part
def copy(source, start, target, at, count):
    """Copy `count` values by vectors, the last of which overlaps: the rest one by one takes longer than all others."""
    last = count - LANES
    for i in range(0, last, LANES):
        store(target, at + i, load(source, start + i))
    if last >= 0:
        store(target, at + last, load(source, start + last))
    else:
        for i in range(count):
            target[at + i] = source[start + i]


@part
def frame(source, image, y, sizes, framed):
    """Copy row y of an image of a batch (B, C, H, W) to a framed map."""
    for c in range(sizes.channels):
        start = ((image * sizes.channels + c) * sizes.height + y) * sizes.width
        copy(source, start, framed, framed_row(y, sizes) + c * sizes.stride + sizes.radius, sizes.width)


@part
def first_pixel(vector, sizes):
    """First of LANES pixels that are computed together; the last group starts earlier, to end inside the image."""
    return max(0, min(vector * LANES, sizes.width - LANES))


@part
def unframe(sums, factor, image, y, x, sizes, target):
    """Write `factor` times vectors of sums, one a channel, to the pixels of (B, C, H, W) from (y, x) on."""
    for c in range(sizes.channels):
        start = ((image * sizes.channels + c) * sizes.height + y) * sizes.width + x
        value = multiply(factor, load(sums, c * LANES))
        if sizes.width >= LANES:
            store(target, start, value)
        else:
            store(sums, c * LANES, value)
            copy(sums, c * LANES, target, start, sizes.width)


@part
def clear(vectors, count):
    """Set the first `count` vectors to zero."""
    for i in range(0, count * LANES, LANES):
        store(vectors, i, splat(ZERO))


@part
def window_rows(y, sizes):
    """The rows dy of the window at row y that lie inside the image."""
    return range(max(0, sizes.radius - y), min(sizes.kernel_size, sizes.height + sizes.radius - y))


@part
def border_rows(outside, sizes):
    """What to add to the score of a tap, by its column: a framed row of the image, and one outside it."""
    rows = scratch(2 * sizes.stride)
    for x in range(2 * sizes.stride):
        rows[x] = ZERO if sizes.radius <= x < sizes.radius + sizes.width else outside
    return rows
