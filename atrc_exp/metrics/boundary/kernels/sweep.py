"""The cheapest matchings of one image at all thresholds, each from that of the next higher one.

Images are flat arrays with a margin as wide as the matching radius, so that no kernel tests for the border.
"""

from collections.abc import Sequence

import numpy as np
from numba import types
from numpy.typing import NDArray

from ..maps import disc
from .auction import DISC, NOWHERE, Disc, pairs_shown
from .graph import FREE, GRAPH, MATCHING, SEARCH, Graph, Matching, room
from .jit import compiled
from .least import LANES
from .matching import raise_outlier, settle
from .thinning import ON, thin_pixels

# In a matching anew the first price of a pixel left alone is the last one over FIRST, and grows by the factor STEP.
FIRST, STEP = 100, 4
# Where more than one of DENSE pixels is truth, searches are long, and the number of pairs is shown by an auction. Where
# that fails or is not enough, rows are matched anew if BALANCED times the new ones are more than one side has too many:
# prices then change everywhere.
DENSE, BALANCED = 16, 1.5


@compiled(types.UniTuple(types.int64, 2)(types.int32[::1], types.uint8[::1], GRAPH, MATCHING, types.int32[::1]))
def _exchange(pixels, state, graph, matching, fresh):
    """Enter the rows that thinning has left new, drop those that it has deleted, and clear `state`.

    Returns how many rows there are, and how many are new, which are listed in `fresh`.
    """
    row_at, edge = graph.row_at, matching.edge
    alive, n_fresh = 0, 0
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
                matching.owner[graph.columns[edge[row]]] = -1
            edge[row] = FREE
    return alive, n_fresh


@compiled(types.Tuple([GRAPH, types.int64])(types.int32[::1], types.int32[::1], types.int32[::1], GRAPH, types.int64))
def _look_up(rows, pixels, numbers, graph, used):
    """Return the graph with the edges of `rows` behind its `used` ones, and how many are used then.

    Edges are looked up late, since most pixels never survive thinning.
    """
    start, stop, columns, costs = graph.start, graph.stop, graph.columns, graph.costs
    for row in rows:
        if start[row] >= 0:
            continue
        if used + graph.offsets.size > columns.size:
            columns = np.concatenate((columns, np.empty_like(columns)))
            costs = np.concatenate((costs, np.empty_like(costs)))
        start[row] = used
        for k in range(graph.offsets.size):
            column = numbers[pixels[row] + graph.offsets[k]]
            if column >= 0:
                columns[used], costs[used] = column, graph.offset_costs[k]
                used += 1
        stop[row] = used
    return Graph(graph.row_at, graph.place, graph.offsets, graph.offset_costs, start, stop, columns, costs), used


@compiled(types.void(types.int32[::1], types.int64, GRAPH, MATCHING, SEARCH))
def _match_anew(fresh, outlier, graph, matching, search):
    """Match all rows anew, at a low price of a pixel left alone first, which keeps searches short."""
    price, edge, owner = matching
    price[:], edge[:], owner[:] = 0, FREE, -1
    rows, now = graph.row_at[graph.row_at >= 0], outlier // FIRST | 1
    fresh[: rows.size], n_fresh = rows, rows.size
    while True:
        settle(fresh, n_fresh, now, graph, matching, search)
        if now == outlier:
            return
        by = min(STEP * now, outlier) - now
        n_fresh = raise_outlier(by, fresh, matching)
        now += by


@compiled(types.int64(types.int64, types.int64, GRAPH, DISC))
def _pairs_shown(alive, outlier, graph, disc):
    """Return the number of pairs where it is shown without a matching, else -1."""
    rows, columns = np.flatnonzero(graph.row_at >= 0).astype(np.int32), graph.place
    few, many = (rows, columns) if alive < columns.size else (columns, rows)
    return pairs_shown(few, many, graph.row_at.size, outlier, disc)


@compiled(types.void(
    types.int32[::1], types.int64[::1], types.int32[::1], types.int32[::1], types.int64[::1], types.int64[::1],
    DISC, types.int64, types.int64, types.int32[::1], types.int32[::1], types.boolean[:, ::1], types.boolean[::1],
))  # fmt: skip
def _sweep(
    pixels, passing, numbers, place, offsets, offset_costs, disc, outlier, stride, matched, predicted, hit, found
):  # fmt: skip
    """Fill `matched` and `predicted` (T,) from the highest threshold down; add matched rows to `hit` (T, rows or 0).

    Where `hit` has rows, `found` (columns) becomes which columns are matched at the lowest threshold; else only numbers
    are wanted, and rows are not matched where an auction shows how many have a pair.

    `pixels` are sorted by falling response; the first `passing[t]` of them pass threshold t. `numbers` has the column
    at every flat position, -1 where there is none, `place` the reverse. Rows are positions in `pixels`. `disc` is that
    of `offsets`.
    """
    n_rows, n_columns, used = pixels.size, place.size, 0
    state = np.zeros(numbers.size, np.uint8)
    room_for = 16 * n_columns + offsets.size  # edges
    graph = Graph(
        np.full(numbers.size, -1, np.int32), place, offsets, offset_costs, np.full(n_rows, -1, np.int64),
        np.empty(n_rows, np.int64), np.empty(room_for, np.int32), np.empty(room_for, np.int32),
    )  # fmt: skip
    price, owner = np.zeros(n_columns, np.int64), np.full(n_columns, -1, np.int32)
    edge, fresh = np.full(n_rows, FREE, np.int64), np.empty(n_rows, np.int32)
    search, anew = room(n_columns, room_for), True
    for t in range(passing.size - 1, -1, -1):
        if t + 1 < passing.size and passing[t] == passing[t + 1]:
            matched[t], predicted[t] = matched[t + 1], predicted[t + 1]
        else:
            passed, matching = pixels[: passing[t]], Matching(price, edge[: passing[t]], owner)
            thin_pixels(state, stride, passed)
            alive, n_fresh = _exchange(passed, state, graph, matching, fresh)
            predicted[t] = alive
            dense = n_columns * DENSE > numbers.size
            balanced = dense and abs(alive - n_columns) < BALANCED * n_fresh
            if dense and (anew or balanced) and hit.size == 0:
                matched[t] = _pairs_shown(alive, outlier, graph, disc)
                if matched[t] >= 0:
                    anew = True
                    continue
            rows = graph.row_at[graph.row_at >= 0] if anew or balanced else fresh[:n_fresh]
            graph, used = _look_up(rows, pixels, numbers, graph, used)
            if search.heap.size < graph.columns.size:
                search = room(n_columns, graph.columns.size)
            if anew or balanced:
                _match_anew(fresh, outlier, graph, matching, search)
            else:
                settle(fresh, n_fresh, outlier, graph, matching, search)
            matched[t], anew = np.count_nonzero(owner >= 0), False
        if hit.size > 0:
            hit[t] |= edge >= 0
    found[:] = owner >= 0


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
        self.offsets, self.costs = dy * self.stride + dx, 2 * cost
        reach = int(radius)
        width = -(-(2 * reach + 1) // LANES) * LANES
        square, rows = np.full((2 * reach + 1, width), NOWHERE, np.int32), dy[dx == 0]
        square[dy + reach, dx + reach] = self.costs
        shift = rows[:, None] * self.stride - reach + np.arange(0, width, LANES)
        self.disc = Disc(shift.ravel(), square[rows + reach].reshape(-1, LANES))

    def sweep(self, truth: NDArray[np.bool_], matched: NDArray, predicted: NDArray, hit: NDArray) -> NDArray[np.bool_]:
        """Fill the counts; return which pixels of the truth, in their order, are matched at the lowest threshold."""
        padded = np.pad(truth, self.margin).ravel()
        place = np.flatnonzero(padded).astype(np.int32)
        numbers = np.full(padded.size, -1, np.int32)
        numbers[place] = np.arange(place.size)
        found = np.zeros(place.size, np.bool_)
        _sweep(
            self.pixels, self.passing, numbers, place, self.offsets, self.costs, self.disc, self.outlier,
            self.stride, matched, predicted, hit, found,
        )  # fmt: skip
        return found
