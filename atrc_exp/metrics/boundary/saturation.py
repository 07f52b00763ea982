"""Proof, without a matching, that the cheapest one leaves no pixel of one side alone, as on dense noise."""

import numpy as np

from .jit import compiled

ROUNDS = 30  # of the fit of the shares; later ones hardly raise the least


@compiled("void(float64[::1], int32[::1], int64[::1], int64, float64[::1], float64[::1])")
def _sum_in_reach(grid, pixels, halves, stride, running, sums):
    """Fill `sums` with the sum of `grid` over the disc around each of `pixels`, whose rows are 2 `halves` + 1 wide."""
    for i in range(grid.size):
        running[i + 1] = running[i] + grid[i]
    for i in range(pixels.size):
        total = 0.0
        for k in range(halves.size):
            middle = pixels[i] + (k - halves.size // 2) * stride
            total += running[middle + halves[k] + 1] - running[middle - halves[k]]
        sums[i] = total


@compiled("boolean(float64, int64, int64)")
def _overflows(growth, steps, pixels):
    """Tell whether 1, which every step multiplies by `growth` and increases by 1, comes to more than `pixels`."""
    return growth > 1 and (growth ** (steps + 1) - 1) / (growth - 1) > pixels


@compiled("boolean(int32[::1], int32[::1], int64[::1], int64, int64, int64)")
def saturates(few, many, halves, stride, size, steps):
    """Try to prove that every cheapest matching pairs all of the `few` pixels with some of the `many`.

    A path of alternating pairs with at most `steps` new ones must cost less than a pixel left alone. Let every pixel
    of `many` give away one unit in shares to the `few` in its reach, and let each of those get at least 1 + a. Then
    any set S of the few has at least (1 + a) |S| of the many in reach. Suppose that a cheapest matching left a pixel
    of the few alone. Let S_0 be that pixel, and S_(h+1) be S_0 and the partners of all pixels in reach of S_h. For
    h < `steps` none of the latter is alone, since a path to it would make the matching cheaper. So |S_(h+1)| is at
    least 1 + (1 + a) |S_h|, and |S_steps| at least ((1 + a)^(steps + 1) - 1) / a. This must not be more than the few.

    `halves` are the half widths of the rows of the disc, `size` that of the flat array with its rows `stride` apart.
    Shares are products of a weight at either end, which are fitted in turn towards equal receipts; a power above 1
    gets there sooner. True is a proof, False says nothing.
    """
    if few.size == 0:
        return True
    if not _overflows(many.size / few.size, steps, few.size):  # no pixel gets more than the average, if all get alike
        return False
    grid, running = np.zeros(size), np.zeros(size + 1)
    weight, cover, got = np.ones(few.size), np.empty(many.size), np.empty(few.size)
    for _ in range(ROUNDS):
        grid[:] = 0
        for i in range(few.size):
            grid[few[i]] = weight[i]
        _sum_in_reach(grid, many, halves, stride, running, cover)
        grid[:] = 0
        for j in range(many.size):
            if cover[j] > 1e-6:
                grid[many[j]] = 1 / cover[j]
        _sum_in_reach(grid, few, halves, stride, running, got)
        got *= weight
        least = got.min() - 1e-6  # more than rounding
        if least <= 0:
            return False
        if _overflows(least, steps, few.size):
            return True
        weight /= got**1.8
    return False
