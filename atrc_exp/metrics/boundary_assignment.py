"""Cheapest matching of predicted to ground-truth boundary pixels by shortest augmenting paths, with numba.

The algorithm of Jonker and Volgenant (1987): rows bid for columns first, the rows left over are assigned
along shortest paths in reduced costs. Every row owns a private outlier column, so that an assignment always
exists. SciPy's `min_weight_full_bipartite_matching` solves the same problem but holds the interpreter lock.
"""

import numpy as np

from atrc_exp.compiled import compiled

FREE, OUTLIER = -1, -2  # in place of the edge of a row
BIDS = 8  # a row; price wars beyond that are cheaper settled by shortest paths


@compiled("void(int64[::1], int64, int64)")
def _push(heap, size, key):
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
def _pop(heap, size):
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


@compiled("int64(int64[::1], int32[::1], int64[::1], int64, int64[::1], int64[::1], int32[::1], int32[::1])")
def _bid(start, columns, costs, outlier, price, edge, owner, free):
    """Let rows take their cheapest column at the price that their second choice sets; count those left over.

    Prices are at most zero and stay zero on columns that nobody owns, which keeps the duals feasible.
    """
    n_rows = start.size - 1
    left, bids = 0, 0
    for first in range(n_rows):
        row = first
        while True:
            if bids == BIDS * n_rows:
                free[left] = row
                left += 1
                break
            bids += 1
            best, second, choice = outlier, outlier, OUTLIER
            for e in range(start[row], start[row + 1]):
                reduced = costs[e] - price[columns[e]]
                if reduced < best:
                    best, second, choice = reduced, best, e
                elif reduced < second:
                    second = reduced
            edge[row] = choice
            if choice == OUTLIER:
                break
            column = columns[choice]
            displaced = owner[column]
            if displaced >= 0 and second == best:
                edge[row] = FREE  # taking the column would only swap the two rows
                free[left] = row
                left += 1
                break
            price[column] -= second - best
            owner[column] = row
            if displaced < 0:
                break
            edge[displaced] = FREE
            row = displaced
    return left


@compiled(
    "void(int64, int64[::1], int32[::1], int64[::1], int64, int64[::1], int64[::1], int32[::1],"
    " int64[::1], int64[::1], int32[::1], int64[::1], int32[::1])"
)
def _assign(root, start, columns, costs, outlier, price, edge, owner, distance, via, via_row, heap, touched):
    """Assign the free row `root` along a shortest path to an unowned column or to the outlier of a row."""
    n_columns = owner.size
    unreached = np.iinfo(np.int64).max
    size, n_touched = 0, 0
    row, base = root, 0  # base: length of the path to the row, less the reduced cost of its own edge
    nearest, end_edge, end_row = unreached, FREE, root
    while True:
        if base + outlier < nearest:
            nearest, end_edge, end_row = base + outlier, OUTLIER, row
        for e in range(start[row], start[row + 1]):
            column = columns[e]
            length = base + costs[e] - price[column]
            if length >= nearest or length >= distance[column]:
                continue
            if owner[column] < 0:
                nearest, end_edge, end_row = length, e, row
                continue
            if distance[column] == unreached:
                touched[n_touched] = column
                n_touched += 1
            distance[column], via[column], via_row[column] = length, e, row
            _push(heap, size, length * n_columns + column)
            size += 1
        while size > 0:
            key = _pop(heap, size)
            size -= 1
            column = key % n_columns
            if distance[column] == key // n_columns:
                break
        else:
            break
        if distance[column] >= nearest:
            break
        row = owner[column]
        base = distance[column] - (costs[edge[row]] - price[column])
    for i in range(n_touched):
        column = touched[i]
        if distance[column] < nearest:
            price[column] += distance[column] - nearest
        distance[column] = unreached
    while True:
        before = edge[end_row]
        edge[end_row] = end_edge
        if end_edge >= 0:
            owner[columns[end_edge]] = end_row
        if end_row == root:
            return
        column = columns[before]
        end_edge, end_row = via[column], via_row[column]


@compiled("int64(int32[::1], int32[::1], int64, int64[::1], int64[::1], int64)")
def count_assigned(pixels, numbers, n_columns, offsets, offset_costs, outlier):
    """Number of pairs of the cheapest assignment.

    Args:
        pixels: flat positions of the predicted pixels.
        numbers: number of the ground-truth pixel at each flat position, -1 where there is none.
        n_columns: number of ground-truth pixels.
        offsets, offset_costs: flat offsets of the possible partners of a pixel, nearest first, and their
        costs. outlier: cost of leaving a predicted pixel alone.
    """
    edges = 0
    for i in range(pixels.size):
        for k in range(offsets.size):
            edges += numbers[pixels[i] + offsets[k]] >= 0
    start = np.zeros(pixels.size + 1, np.int64)
    columns, costs = np.empty(edges, np.int32), np.empty(edges, np.int64)
    e = 0
    for i in range(pixels.size):
        for k in range(offsets.size):
            column = numbers[pixels[i] + offsets[k]]
            if column >= 0:
                columns[e], costs[e] = column, offset_costs[k]
                e += 1
        start[i + 1] = e
    price, owner = np.zeros(n_columns, np.int64), np.full(n_columns, -1, np.int32)
    edge, free = np.full(pixels.size, FREE, np.int64), np.empty(pixels.size, np.int32)
    left = _bid(start, columns, costs, outlier, price, edge, owner, free)
    distance = np.full(n_columns, np.iinfo(np.int64).max, np.int64)
    via, via_row = np.empty(n_columns, np.int64), np.empty(n_columns, np.int32)
    heap, touched = np.empty(edges + 1, np.int64), np.empty(n_columns, np.int32)
    for i in range(left):
        _assign(free[i], start, columns, costs, outlier, price, edge, owner, distance, via, via_row, heap, touched)
    return np.count_nonzero(edge >= 0)
