"""Cheapest matching at a high price of a pixel left alone, from that at a lower one, by a forest of shortest paths.

From all rows at their outlier one search starts at once, and every column that it reaches belongs to the tree of one of
them. Whenever it reaches an unowned column, that is the shortest of all augmenting paths: it is taken, its tree is
dissolved, and its neighbours grow into the room. The other trees stay valid, since the prices of the dissolved one
fall as far as it was flooded. So a path costs the search of one tree and not of everything that is nearer than its
end, which on balanced dense maps would be the whole image.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .graph import GRAPH, MATCHING, OUTLIER, UNREACHED, flip, pop, push
from .jit import compiled


class Forest(NamedTuple):
    """One element a column: length of its path, row and root of it, whether its row has grown, and room for a list."""

    distance: NDArray[np.int64]
    via_row: NDArray[np.int32]
    root: NDArray[np.int32]
    grown: NDArray[np.bool_]
    columns: NDArray[np.int32]


_FOREST = types.NamedTuple(
    [types.int64[::1], types.int32[::1], types.int32[::1], types.boolean[::1], types.int32[::1]], Forest
)
_HEAP = types.Tuple([types.int64[::1], types.int64])


@compiled(_HEAP(types.int64[::1], types.int64, types.int64))
def _pushed(heap, size, key):
    """The heap with one key more, and its size."""
    if size == heap.size:
        heap = np.concatenate((heap, np.empty_like(heap)))
    push(heap, size, key)
    return heap, size + 1


@compiled(_HEAP(*4 * [types.int64], GRAPH, MATCHING, _FOREST, types.int64[::1], types.int64))
def _grow(row, root, base, outlier, graph, matching, forest, heap, size):
    """Reach columns from a row; `base` is the length of its path less the reduced cost of its own edge."""
    for e in range(graph.start[row], graph.stop[row]):
        if base + graph.costs[e] >= outlier:
            break
        column = graph.columns[e]
        length = base + graph.costs[e] - matching.price[column]
        if length < forest.distance[column] and length < outlier:
            forest.distance[column], forest.via_row[column], forest.root[column] = length, row, root
            heap, size = _pushed(heap, size, length * matching.owner.size + column)
    return heap, size


@compiled(types.int64(types.int64, types.int64, GRAPH, MATCHING, _FOREST))
def _dissolve(root, length, graph, matching, forest):
    """Lower the prices of a tree to where `length` floods it, forget it, and list its columns; returns their number."""
    listed, done, row = 0, 0, root
    while True:
        for e in range(graph.start[row], graph.stop[row]):
            column = graph.columns[e]
            if forest.root[column] == root and forest.distance[column] != UNREACHED:
                if forest.grown[column]:
                    matching.price[column] += forest.distance[column] - length
                forest.distance[column] = UNREACHED
                forest.columns[listed] = column
                listed += 1
        while done < listed and not forest.grown[forest.columns[done]]:
            done += 1
        if done == listed:
            return listed
        forest.grown[forest.columns[done]] = False
        row = matching.owner[forest.columns[done]]
        done += 1


@compiled(_HEAP(types.int64, types.int64, GRAPH, MATCHING, _FOREST, types.int64[::1], types.int64))
def _reach(column, outlier, graph, matching, forest, heap, size):
    """Reach a column that its tree has left from the nearest row of the others, if there is one."""
    nearest = outlier
    for k in range(graph.offsets.size):
        cost = graph.offset_costs[k] - matching.price[column]
        if cost >= nearest:
            break
        row = graph.row_at[graph.place[column] - graph.offsets[k]]
        if row < 0:
            continue
        own, base, root = matching.edge[row], 0, row
        if own >= 0:
            other = graph.columns[own]
            if not forest.grown[other]:
                continue
            base = forest.distance[other] - (graph.costs[own] - matching.price[other])
            root = forest.root[other]
        if base + cost < nearest:
            nearest = base + cost
            forest.distance[column], forest.via_row[column], forest.root[column] = nearest, row, root
    if nearest < outlier:
        heap, size = _pushed(heap, size, nearest * matching.owner.size + column)
    return heap, size


@compiled(types.void(types.int64, GRAPH, MATCHING))
def augment_all(outlier, graph, matching):
    """Make a matching cheapest at the price `outlier` that is so at a lower one. Its prices are of no use afterwards.

    A row at its outlier never has a better end of its path than an unowned column: to send another row to its outlier
    instead saves nothing, since the matching is cheapest at the lower price.
    """
    price, edge, owner = matching
    n = owner.size
    unowned = np.count_nonzero(owner < 0)
    forest = Forest(
        np.full(n, UNREACHED, np.int64), np.empty(n, np.int32), np.full(n, -1, np.int32), np.zeros(n, np.bool_),
        np.empty(n, np.int32),
    )  # fmt: skip
    heap, size = np.empty(n, np.int64), 0
    roots = np.flatnonzero(edge == OUTLIER) if unowned > 0 else np.empty(0, np.int64)
    for root in roots:
        heap, size = _grow(root, root, 0, outlier, graph, matching, forest, heap, size)
    while size > 0 and unowned > 0:
        key = pop(heap, size)
        size -= 1
        length, column = key // n, key % n
        if forest.grown[column] or forest.distance[column] != length:
            continue
        row, root = owner[column], forest.root[column]
        if row >= 0:
            forest.grown[column] = True
            base = length - (graph.costs[edge[row]] - price[column])
            heap, size = _grow(row, root, base, outlier, graph, matching, forest, heap, size)
            continue
        gone = _dissolve(root, length, graph, matching, forest)
        flip(column, root, graph, matching, forest.via_row)
        unowned -= 1
        for i in range(gone):
            heap, size = _reach(forest.columns[i], outlier, graph, matching, forest, heap, size)
