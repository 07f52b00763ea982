"""The cheapest matchings of one image at all thresholds, each from that of the next higher one.

Images are flat arrays with a margin as wide as the matching radius, so that no kernel tests for the border. numba keeps
the machine code until this file changes: after a change of a kernel that it imports it has to be saved again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .jit import compiled
from .maps import disc
from .matching import FREE, OUTLIER, UNREACHED, assign, bid, can_grow, free_column
from .saturation import saturates
from .thinning import ON, thin_pixels

DENSE = 16  # a truth with more than one pixel in so many has its matchings kept at a low price
STEP = 4  # from one price of a pixel left alone to the next


@compiled("int64(int64, int32[::1], int64[::1], int64[::1], int32[::1], int32[::1], int64)")
def _look_up(pixel, numbers, offsets, offset_costs, columns, costs, used):
    """Append the columns in reach of `pixel`, nearest first, behind the `used` edges; count them all."""
    for k in range(offsets.size):
        column = numbers[pixel + offsets[k]]
        if column >= 0:
            columns[used], costs[used] = column, offset_costs[k]
            used += 1
    return used


@compiled(
    "UniTuple(int64, 3)(int32[::1], uint8[::1], int32[::1], int32[::1], int64[::1], int32[::1], int32[::1], int32[::1])"
)
def _exchange(pixels, state, row_at, columns, edge, owner, fresh, lost):
    """Enter the rows that thinning has left new, drop those that it has deleted, and clear `state`.

    Returns how many rows there are, how many are new (listed in `fresh`), and how many columns have lost their row
    (listed in `lost`).
    """
    alive, n_fresh, n_lost = 0, 0, 0
    for row in range(pixels.size):
        pixel = pixels[row]
        survives = state[pixel] & ON
        state[pixel] = 0
        alive += survives
        if survives and row_at[pixel] < 0:
            row_at[pixel] = row
            fresh[n_fresh] = row
            n_fresh += 1
        elif not survives and row_at[pixel] >= 0:
            row_at[pixel] = -1
            if edge[row] >= 0:
                column = columns[edge[row]]
                owner[column] = -1
                lost[n_lost] = column
                n_lost += 1
            edge[row] = FREE
    return alive, n_fresh, n_lost


@compiled(
    "void(int64, int32[::1], int32[::1], int64[::1], int64[::1], int64[::1], int64[::1], int32[::1], int32[::1],"
    " int64, int64[::1], int64[::1], int32[::1], int64[::1], int64[::1], int32[::1], int32[::1], int64[::1],"
    " int32[::1], int32[::1])"
)
def _raise_outlier(
    by, row_at, place, offsets, offset_costs, start, stop, columns, costs, outlier, price, edge, owner, distance, via,
    via_row, via_column, heap, stack, touched,
):  # fmt: skip
    """Make a matching that is cheapest at `outlier` cheapest at `outlier` + `by`, from the side with fewer left alone.

    Rows at their outlier are assigned anew. Or every price is lowered, too, which keeps the choice of every row, and
    the columns without a row go back to price zero.
    """
    outlier += by
    if np.count_nonzero(edge == OUTLIER) < np.count_nonzero(owner < 0):
        for row in np.flatnonzero(edge == OUTLIER):
            edge[row] = FREE
            assign(
                row, start, stop, columns, costs, outlier, price, edge, owner, distance, via, via_row, heap, stack,
                touched,
            )  # fmt: skip
    else:
        price -= by
        for column in np.flatnonzero(owner < 0):
            if price[column] < 0:
                free_column(
                    column, row_at, place, offsets, offset_costs, start, stop, columns, costs, outlier, price, edge,
                    owner, distance, via_row, via_column, heap, stack, touched,
                )  # fmt: skip


@compiled(
    "void(int32[::1], int64[::1], int32[::1], int32[::1], int64[::1], int64[::1], int64, int64, int64, int32[::1],"
    " int32[::1], boolean[:,::1], boolean[::1], int64[::1])"
)
def _sweep(
    pixels, passing, numbers, place, offsets, offset_costs, least, outlier, stride, matched, predicted, hit, found,
    halves,
):  # fmt: skip
    """Fill `matched` and `predicted` (T,) from the highest threshold down; add matched rows to `hit` (T, rows or 0).

    `found` (columns) becomes which columns are matched at the lowest threshold.

    What is kept from threshold to threshold is cheapest at the price `least` of a pixel left alone, not at `outlier`.
    The number of pairs never falls as that price rises. A cheapest matching that no path can augment has as many pairs
    as any, so it is the cheapest of them and stays so at every higher price. Where one can be augmented, a copy goes on
    to higher prices. Low prices keep searches short on dense maps, where they would be long; `least` may be `outlier`.
    Where only numbers are asked for and many pixels change, `saturates` may spare a dense map its matching.

    `pixels` are sorted by falling response; the first `passing[t]` of them pass threshold t. `numbers` has the column
    at every flat position, -1 where there is none, `place` the reverse. Rows are positions in `pixels`.
    """
    n_rows, n_columns = pixels.size, place.size
    state, row_at = np.zeros(numbers.size, np.uint8), np.full(numbers.size, -1, np.int32)
    start, stop = np.full(n_rows, -1, np.int64), np.full(n_rows, -1, np.int64)
    columns, used = np.empty(16 * n_columns + offsets.size, np.int32), 0
    costs, heap = np.empty(columns.size, np.int32), np.empty(columns.size, np.int64)
    edge, fresh = np.full(n_rows, FREE, np.int64), np.empty(n_rows, np.int32)
    price, owner = np.zeros(n_columns, np.int64), np.full(n_columns, -1, np.int32)
    distance, via = np.full(n_columns, UNREACHED, np.int64), np.empty(n_columns, np.int64)
    via_row, via_column = np.empty(n_columns, np.int32), np.empty(n_columns, np.int32)
    stack, touched, lost = (np.empty(n_columns, np.int32), np.empty(n_columns, np.int32), np.empty(n_columns, np.int32))
    steps = (outlier - 1) // max(offset_costs[-1], 1)
    previous, alive, pairs, chosen = 0, 0, 0, np.zeros(n_rows, np.bool_)
    for t in range(passing.size - 1, -1, -1):
        if passing[t] != previous:
            previous = passing[t]
            thin_pixels(state, stride, pixels[:previous])
            if least < outlier and hit.size == 0:
                passed = pixels[:previous]
                survives = (state[passed] & ON) > 0
                survivors = passed[survives]
                few, many = (survivors, place) if survivors.size < place.size else (place, survivors)
                changed = np.count_nonzero(survives != (row_at[passed] >= 0))
                if 8 * changed > alive and saturates(few, many, halves, stride, numbers.size, steps):
                    state[passed] = 0
                    alive, pairs = survivors.size, few.size
                    matched[t], predicted[t] = pairs, alive
                    continue
            alive, n_fresh, n_lost = _exchange(pixels[:previous], state, row_at, columns, edge, owner, fresh, lost)
            for i in range(n_lost):
                if price[lost[i]] < 0:
                    free_column(
                        lost[i], row_at, place, offsets, offset_costs, start, stop, columns, costs, least,
                        price, edge, owner, distance, via_row, via_column, heap, stack, touched,
                    )  # fmt: skip
            for i in range(n_fresh):
                row = fresh[i]
                if start[row] < 0:  # looked up late, since most pixels never survive thinning
                    if used + offsets.size > columns.size:
                        columns = np.concatenate((columns, np.empty_like(columns)))
                        costs = np.concatenate((costs, np.empty_like(costs)))
                        heap = np.empty(columns.size, np.int64)
                    start[row] = used
                    used = _look_up(pixels[row], numbers, offsets, offset_costs, columns, costs, used)
                    stop[row] = used
            left = bid(fresh, n_fresh, start, stop, columns, costs, least, price, edge, owner)
            for i in range(left):
                assign(
                    fresh[i], start, stop, columns, costs, least, price, edge, owner, distance, via, via_row,
                    heap, stack, touched,
                )  # fmt: skip
            kept_price, kept_edge, kept_owner = price.copy(), edge[:previous].copy(), owner.copy()
            now = least
            while now < outlier and can_grow(edge[:previous], start, stop, columns, owner, stack):
                by = min(STEP * now, outlier) - now
                _raise_outlier(
                    by, row_at, place, offsets, offset_costs, start, stop, columns, costs, now, price, edge[:previous],
                    owner, distance, via, via_row, via_column, heap, stack, touched,
                )  # fmt: skip
                now += by
            pairs = int(np.count_nonzero(owner >= 0))
            chosen[:previous] = edge[:previous] >= 0
            found[:] = owner >= 0
            price[:], edge[:previous], owner[:] = kept_price, kept_edge, kept_owner
        matched[t], predicted[t] = pairs, alive
        if hit.size > 0:
            hit[t] |= chosen


def cheapest_matchings(
    levels: NDArray[np.uint16], truths: Sequence[NDArray[np.bool_]], thresholds: int, radius: float, outlier: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Match thinned predictions with every annotator's truth at least cost, at every threshold.

    A pair at distance d <= `radius` costs 2 rint(100 d), a predicted pixel left alone costs `outlier`.

    Args:
        levels: (H, W), how many of the thresholds, counted from the lowest, a pixel passes.
        truths: (H, W) each.
        thresholds: their number T.
        radius: largest distance of a pair in pixels.

    Returns:
        Pairs, summed over the annotators; predicted pixels in a pair with any of them; predicted pixels: (T,) each.
    """
    grid = _Grid(levels, thresholds, radius, outlier)
    several = len(truths) > 1
    hit = np.zeros((thresholds, grid.pixels.size if several else 0), np.bool_)
    pairs, predicted = np.zeros((len(truths), thresholds), np.int32), np.zeros(thresholds, np.int32)
    for truth, matched in zip(truths, pairs, strict=True):
        grid.sweep(truth, matched, predicted, hit)
    total = pairs.sum(axis=0, dtype=np.int32)
    return total, np.count_nonzero(hit, axis=1).astype(np.int32) if several else total, predicted


def cheapest_matching(
    prediction: NDArray[np.bool_], truths: Sequence[NDArray[np.bool_]], radius: float, outlier: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the pixels of the cheapest matchings of one map (H, W), which is thinned here, with every annotator's truth.

    Returns:
        Predicted pixels in a pair with any annotator (H, W); ground-truth pixels that any annotator lacks (H, W).
    """
    grid = _Grid(prediction.astype(np.uint16), 1, radius, outlier)
    hit, counts = np.zeros((1, grid.pixels.size), np.bool_), np.zeros((2, 1), np.int32)
    missed = np.zeros(prediction.shape, np.bool_)
    for truth in truths:
        missed[truth] |= ~grid.sweep(truth, counts[0], counts[1], hit)
    hits = np.zeros(prediction.shape, np.bool_)
    y, x = np.divmod(grid.pixels, grid.stride)
    hits[y - grid.margin, x - grid.margin] = hit[0]
    return hits, missed


class _Grid:
    """The predicted pixels of an image in its flat array, ready to be matched with one truth after the other."""

    def __init__(self, levels: NDArray[np.uint16], thresholds: int, radius: float, outlier: int) -> None:
        self.margin = max(1, int(radius))
        self.outlier = outlier
        flat = np.pad(levels, self.margin).ravel()
        pixels = np.flatnonzero(flat).astype(np.int32)
        self.pixels = np.ascontiguousarray(pixels[np.argsort(flat[pixels], kind="stable")[::-1]])
        passing = np.cumsum(np.bincount(flat, minlength=thresholds + 1)[::-1])[::-1][1:]
        self.passing = np.ascontiguousarray(passing)
        self.stride = levels.shape[1] + 2 * self.margin
        dy, dx, cost = disc(radius)
        self.halves = np.unique(dy, return_counts=True)[1] // 2
        self.offsets, self.costs = dy * self.stride + dx, 2 * cost

    def sweep(self, truth: NDArray[np.bool_], matched: NDArray, predicted: NDArray, hit: NDArray) -> NDArray[np.bool_]:
        """Fill the counts; return which pixels of the truth, in their order, are matched at the lowest threshold."""
        padded = np.pad(truth, self.margin).ravel()
        place = np.flatnonzero(padded).astype(np.int32)
        numbers = np.full(padded.size, -1, np.int32)
        numbers[place] = np.arange(place.size)
        found = np.zeros(place.size, np.bool_)
        least = self.outlier // 100 | 1 if DENSE * place.size > padded.size else self.outlier
        _sweep(
            self.pixels, self.passing, numbers, place, self.offsets, self.costs, least, self.outlier, self.stride,
            matched, predicted, hit, found, self.halves,
        )  # fmt: skip
        return found
