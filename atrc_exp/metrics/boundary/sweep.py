"""The cheapest matchings of one image at all thresholds, each from that of the next higher one.

Images are flat arrays with a margin as wide as the matching radius, so that no kernel tests for the border. numba keeps
the machine code until this file changes: after a change of a kernel that it imports it has to be saved again.
"""

from collections.abc import Sequence

import numpy as np
from numba import types
from numpy.typing import NDArray

from .forest import augment_all
from .graph import FREE, GRAPH, MATCHING, SEARCH, UNREACHED, Graph, Matching, Search
from .jit import compiled
from .maps import disc
from .matching import assign, bid, free_column
from .saturation import saturates
from .thinning import ON, thin_pixels

DENSE = 16  # a truth with more than one pixel in so many has its matchings kept at a low price


@compiled(types.UniTuple(types.int64, 3)(
    types.int32[::1], types.uint8[::1], GRAPH, MATCHING, types.int32[::1], types.int32[::1]
))  # fmt: skip
def _exchange(pixels, state, graph, matching, fresh, lost):
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
        if survives and graph.row_at[pixel] < 0:
            graph.row_at[pixel] = row
            fresh[n_fresh] = row
            n_fresh += 1
        elif not survives and graph.row_at[pixel] >= 0:
            graph.row_at[pixel] = -1
            if matching.edge[row] >= 0:
                column = graph.columns[matching.edge[row]]
                matching.owner[column] = -1
                lost[n_lost] = column
                n_lost += 1
            matching.edge[row] = FREE
    return alive, n_fresh, n_lost


@compiled(types.Tuple([GRAPH, types.int64])(
    types.int32[::1], types.int32[::1], types.int32[::1], GRAPH, types.int64
))  # fmt: skip
def _look_up(rows, pixels, numbers, graph, used):
    """The graph with the edges of `rows` behind its `used` ones, and how many are used then.

    Edges are looked up late, since most pixels never survive thinning.
    """
    columns, costs = graph.columns, graph.costs
    for row in rows:
        if graph.start[row] >= 0:
            continue
        if used + graph.offsets.size > columns.size:
            columns = np.concatenate((columns, np.empty_like(columns)))
            costs = np.concatenate((costs, np.empty_like(costs)))
        graph.start[row] = used
        for k in range(graph.offsets.size):
            column = numbers[pixels[row] + graph.offsets[k]]
            if column >= 0:
                columns[used], costs[used] = column, graph.offset_costs[k]
                used += 1
        graph.stop[row] = used
    return Graph(
        graph.row_at, graph.place, graph.offsets, graph.offset_costs, graph.start, graph.stop, columns, costs
    ), used  # fmt: skip


@compiled(types.UniTuple(types.int64, 2)(
    types.int32[::1], types.uint8[::1], types.int64, types.int64[::1], types.int64, types.int64, GRAPH
))  # fmt: skip
def _saturated(passed, state, alive, halves, stride, steps, graph):
    """How many pixels thinning has left, and how many pairs there are, if that is shown without a matching; else -1.

    A proof is looked for where many pixels have come and gone since `alive` ones were matched.
    """
    survives = np.zeros(passed.size, np.bool_)
    changed = 0
    for i in range(passed.size):
        survives[i] = state[passed[i]] & ON
        changed += survives[i] != (graph.row_at[passed[i]] >= 0)
    if 8 * changed <= alive:
        return -1, -1
    survivors, place = passed[survives], graph.place
    few, many = (survivors, place) if survivors.size < place.size else (place, survivors)
    if not saturates(few, many, halves, stride, state.size, steps):
        return -1, -1
    state[passed] = 0
    return survivors.size, few.size


@compiled(SEARCH(types.int64, types.int64))
def _room(n_columns, edges):
    """Room for searches in a graph."""
    return Search(
        np.full(n_columns, UNREACHED, np.int64), np.empty(n_columns, np.int32), np.empty(n_columns, np.int32),
        np.empty(edges, np.int64), np.empty(n_columns, np.int32), np.empty(n_columns, np.int32),
    )  # fmt: skip


@compiled(types.void(
    types.int32[::1], types.int64[::1], types.int32[::1], types.int32[::1], types.int64[::1], types.int64[::1],
    types.int64[::1], types.int64, types.int64, types.int64, types.int32[::1], types.int32[::1], types.boolean[:, ::1],
    types.boolean[::1],
))  # fmt: skip
def _sweep(
    pixels, passing, numbers, place, offsets, offset_costs, halves, stride, least, outlier, matched, predicted, hit,
    found,
):  # fmt: skip
    """Fill `matched` and `predicted` (T,) from the highest threshold down; add matched rows to `hit` (T, rows or 0).

    `found` (columns) becomes which columns are matched at the lowest threshold.

    What is kept from threshold to threshold is cheapest at the price `least` of a pixel left alone, not at `outlier`.
    Low prices keep searches short on dense maps, where they would be long. A copy then goes on to the price `outlier`;
    `least` may be `outlier`. Where only numbers are asked for, `saturates` may spare a dense map its matching.

    `pixels` are sorted by falling response; the first `passing[t]` of them pass threshold t. `numbers` has the column
    at every flat position, -1 where there is none, `place` the reverse. Rows are positions in `pixels`.
    """
    n_rows, n_columns, used = pixels.size, place.size, 0
    state = np.zeros(numbers.size, np.uint8)
    graph = Graph(
        np.full(numbers.size, -1, np.int32), place, offsets, offset_costs, np.full(n_rows, -1, np.int64),
        np.empty(n_rows, np.int64), np.empty(16 * n_columns, np.int32), np.empty(16 * n_columns, np.int32),
    )  # fmt: skip
    kept = Matching(np.zeros(n_columns, np.int64), np.full(n_rows, FREE, np.int64), np.full(n_columns, -1, np.int32))
    search = _room(n_columns, 0)
    fresh, lost = np.empty(n_rows, np.int32), np.empty(n_columns, np.int32)
    steps = (outlier - 1) // max(offset_costs[-1], 1)
    best, alive = kept, 0
    for t in range(passing.size - 1, -1, -1):
        if t + 1 < passing.size and passing[t] == passing[t + 1]:
            matched[t], predicted[t] = matched[t + 1], predicted[t + 1]
        else:
            passed = pixels[: passing[t]]
            thin_pixels(state, stride, passed)
            if least < outlier and hit.size == 0:
                shown, pairs = _saturated(passed, state, alive, halves, stride, steps, graph)
                if shown >= 0:
                    alive, matched[t], predicted[t] = shown, pairs, shown
                    continue
            alive, n_fresh, n_lost = _exchange(passed, state, graph, kept, fresh, lost)
            graph, used = _look_up(fresh[:n_fresh], pixels, numbers, graph, used)
            if search.heap.size < graph.columns.size:
                search = _room(n_columns, graph.columns.size)
            for column in lost[:n_lost]:
                if kept.price[column] < 0:
                    free_column(column, least, graph, kept, search)
            for row in fresh[: bid(fresh, n_fresh, least, graph, kept)]:
                assign(row, least, graph, kept, search)
            if least < outlier:
                best = Matching(kept.price.copy(), kept.edge.copy(), kept.owner.copy())
                augment_all(outlier, graph, best)
            matched[t], predicted[t] = np.count_nonzero(best.owner >= 0), alive
        if hit.size > 0:
            hit[t] |= best.edge >= 0
    found[:] = best.owner >= 0


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
            self.pixels, self.passing, numbers, place, self.offsets, self.costs, self.halves, self.stride, least,
            self.outlier, matched, predicted, hit, found,
        )  # fmt: skip
        return found
