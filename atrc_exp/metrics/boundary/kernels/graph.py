"""What the kernels of matching share: the graph of an image, a matching, the state of a search, and a heap."""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .jit import compiled

FREE, OUTLIER = -1, -2  # in place of the edge of a row
UNREACHED = np.iinfo(np.int64).max

_INT32, _INT64 = types.int32[::1], types.int64[::1]


class Graph(NamedTuple):
    """Rows are predicted pixels, columns are ground-truth pixels, and edges are pairs in reach of each other.

    Attributes:
        row_at: row at every position of the flat image, -1 where there is none.
        place: position of every column.
        offsets, offset_costs: the disc of reach, nearest first.
        start, stop: the edges of every row, nearest first; `start` is -1 where they have not been looked up.
        columns, costs: of every edge.
    """

    row_at: NDArray[np.int32]
    place: NDArray[np.int32]
    offsets: NDArray[np.int64]
    offset_costs: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    columns: NDArray[np.int32]
    costs: NDArray[np.int32]


class Matching(NamedTuple):
    """Which pairs are made, and the prices of the columns that prove them cheapest.

    Attributes:
        edge: of every row, or FREE or OUTLIER.
        owner: row of every column, -1 for none.
    """

    price: NDArray[np.int64]
    edge: NDArray[np.int64]
    owner: NDArray[np.int32]


class Search(NamedTuple):
    """Room for searches, one element a column; `distance` is UNREACHED everywhere between two of them."""

    distance: NDArray[np.int64]
    via_row: NDArray[np.int32]
    via_column: NDArray[np.int32]
    heap: NDArray[np.int64]
    stack: NDArray[np.int32]
    touched: NDArray[np.int32]


GRAPH = types.NamedTuple([_INT32, _INT32, _INT64, _INT64, _INT64, _INT64, _INT32, _INT32], Graph)
MATCHING = types.NamedTuple([_INT64, _INT64, _INT32], Matching)
SEARCH = types.NamedTuple([_INT64, _INT32, _INT32, _INT64, _INT32, _INT32], Search)


@compiled(SEARCH(types.int64, types.int64))
def room(n_columns, n_edges):
    """Make room for searches in a graph."""
    return Search(
        np.full(n_columns, UNREACHED, np.int64), np.empty(n_columns, np.int32), np.empty(n_columns, np.int32),
        np.empty(n_edges, np.int64), np.empty(n_columns, np.int32), np.empty(n_columns, np.int32),
    )  # fmt: skip


@compiled("void(int64[::1], int64, int64)")
def push(heap, size, key):
    """Add `key` to a binary heap of `size` keys."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if heap[parent] <= key:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = key


@compiled("int64(int64[::1], int64)")
def pop(heap, size):
    """Remove and return the smallest of `size` keys."""
    smallest = heap[0]
    key = heap[size - 1]
    hole, child = 0, 1
    while child < size - 1:
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[hole] = heap[child]
        hole, child = child, 2 * child + 1
    heap[hole] = key
    return smallest
