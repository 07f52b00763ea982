"""Cheapest matching of predicted to ground-truth pixels, kept optimal while predicted pixels come and go.

Rows are predicted pixels, columns ground-truth pixels. Every row owns a private outlier, so that an assignment always
exists. Prices of columns make it a proof of itself: no price is above zero, that of an unowned column is zero, and
every row has the column (or the outlier) of its lowest cost less price. New rows bid for columns and go along
shortest paths in reduced costs where bids do not settle it (Jonker and Volgenant, 1987). A column that loses its row
goes back to price zero along the shortest path of the reverse problem.
"""

import numpy as np

from .jit import compiled

FREE, OUTLIER = -1, -2  # in place of the edge of a row
BIDS = 8  # a row; price wars beyond that are cheaper settled by shortest paths
UNREACHED = np.iinfo(np.int64).max


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


@compiled("UniTuple(int64, 3)(int64[::1], int64, int32[::1], int64, int64[::1])")
def _next(heap, size, stack, level, distance):
    """The nearest column that waits, -1 if none does, and what is left of heap and stack.

    The stack holds columns as near as the present one, which the heap would sort for nothing; last in, first out finds
    the end of a long plateau without flooding it.
    """
    if level > 0:
        return stack[level - 1], size, level - 1
    while size > 0:
        key = _pop(heap, size)
        size -= 1
        column = key % distance.size
        if distance[column] == key // distance.size:
            return column, size, level
    return -1, 0, 0


@compiled(
    "int64(int32[::1], int64, int64[::1], int64[::1], int32[::1], int32[::1], int64, int64[::1], int64[::1],"
    " int32[::1])"
)
def bid(rows, n_rows, start, stop, columns, costs, outlier, price, edge, owner):
    """Let the first `n_rows` of the free `rows` take their cheapest columns at the price of their second choice.

    Rows that bids do not settle are left free at the front of `rows`; returns their number.
    """
    left, bids = 0, 0
    for i in range(n_rows):
        row = rows[i]
        while True:
            if bids == BIDS * n_rows:
                rows[left] = row
                left += 1
                break
            bids += 1
            best, second, choice = outlier, outlier, OUTLIER
            for e in range(start[row], stop[row]):
                if costs[e] > best and costs[e] >= second:  # and so are the later ones, which are further away
                    break
                column = columns[e]
                reduced = costs[e] - price[column]
                if reduced < best:
                    best, second, choice = reduced, best, e
                elif reduced < second:
                    second = reduced
                if reduced == best and owner[column] < 0:  # of equal columns one without an owner
                    choice = e
            edge[row] = choice
            if choice == OUTLIER:
                break
            column = columns[choice]
            displaced = owner[column]
            if displaced >= 0 and second == best:
                edge[row] = FREE  # taking the column would only swap the two rows
                rows[left] = row
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
    "void(int64, int64[::1], int64[::1], int32[::1], int32[::1], int64, int64[::1], int64[::1], int32[::1],"
    " int64[::1], int64[::1], int32[::1], int64[::1], int32[::1], int32[::1])"
)
def assign(
    root, start, stop, columns, costs, outlier, price, edge, owner, distance, via, via_row, heap, stack, touched
):
    """Assign the free row `root` along a shortest path to an unowned column or to the outlier of a row."""
    n_columns = owner.size
    size, level, n_touched = 0, 0, 0
    here, row, base = 0, root, 0  # base: length `here` of the path to the row, less the reduced cost of its own edge
    nearest, end_edge, end_row = UNREACHED, FREE, root
    while True:
        if base + outlier < nearest:
            nearest, end_edge, end_row = base + outlier, OUTLIER, row
        for e in range(start[row], stop[row]):
            if base + costs[e] >= nearest:
                break
            column = columns[e]
            length = base + costs[e] - price[column]
            if length >= nearest or length >= distance[column]:
                continue
            if owner[column] < 0:
                nearest, end_edge, end_row = length, e, row
                continue
            if distance[column] == UNREACHED:
                touched[n_touched] = column
                n_touched += 1
            distance[column], via[column], via_row[column] = length, e, row
            if length == here:
                stack[level] = column
                level += 1
            else:
                _push(heap, size, length * n_columns + column)
                size += 1
        column, size, level = _next(heap, size, stack, level, distance)
        if column < 0 or distance[column] >= nearest:
            break
        here, row = distance[column], owner[column]
        base = here - (costs[edge[row]] - price[column])
    for i in range(n_touched):
        column = touched[i]
        if distance[column] < nearest:
            price[column] += distance[column] - nearest
        distance[column] = UNREACHED
    while True:
        before = edge[end_row]
        edge[end_row] = end_edge
        if end_edge >= 0:
            owner[columns[end_edge]] = end_row
        if end_row == root:
            return
        column = columns[before]
        end_edge, end_row = via[column], via_row[column]


@compiled(
    "void(int64, int32[::1], int32[::1], int64[::1], int64[::1], int64[::1], int64[::1], int32[::1], int32[::1],"
    " int64, int64[::1], int64[::1], int32[::1], int64[::1], int32[::1], int32[::1], int64[::1], int32[::1],"
    " int32[::1])"
)
def free_column(
    root,
    row_at,
    place,
    offsets,
    offset_costs,
    start,
    stop,
    columns,
    costs,
    outlier,
    price,
    edge,
    owner,
    distance,
    via_row,
    via_column,
    heap,
    stack,
    touched,
):
    """Restore optimality after the column `root` has lost its row.

    Along the shortest path from it, rows move one column on, until a column is left at no loss or a row leaves its
    outlier. `row_at` names the row at each flat position, -1 where there is none, `place` the position of a column.
    """
    n_columns = owner.size
    size, level, n_touched = 0, 0, 1
    touched[0] = root
    distance[root] = 0
    column, nearest, end, end_row = root, -price[root], root, -1
    while True:
        length = distance[column]
        for k in range(offsets.size):
            row = row_at[place[column] - offsets[k]]
            if row < 0:
                continue
            own = edge[row]
            if own >= 0:
                other = columns[own]
                reached = length + offset_costs[k] - price[column] - (costs[own] - price[other])
                if other == column or reached >= nearest or reached >= distance[other]:
                    continue
                if distance[other] == UNREACHED:
                    touched[n_touched] = other
                    n_touched += 1
                distance[other], via_row[other], via_column[other] = reached, row, column
                if reached - price[other] < nearest:
                    nearest, end, end_row = reached - price[other], other, -1
                if reached == length:
                    stack[level] = other
                    level += 1
                else:
                    _push(heap, size, reached * n_columns + other)
                    size += 1
            elif own == OUTLIER:
                reached = length + offset_costs[k] - price[column] - outlier
                if reached < nearest:
                    nearest, end, end_row = reached, column, row
        column, size, level = _next(heap, size, stack, level, distance)
        if column < 0 or distance[column] >= nearest:
            break
    for i in range(n_touched):
        column = touched[i]
        if distance[column] < nearest:
            price[column] += nearest - distance[column]
        distance[column] = UNREACHED
    column = end
    if end_row < 0:
        owner[end] = -1
        if end == root:
            return
        end_row, column = via_row[end], via_column[end]
    while True:
        for e in range(start[end_row], stop[end_row]):
            if columns[e] == column:
                edge[end_row] = e
                break
        owner[column] = end_row
        if column == root:
            return
        end_row, column = via_row[column], via_column[column]


@compiled("boolean(int64[::1], int64[::1], int64[::1], int32[::1], int32[::1], int32[::1])")
def can_grow(edge, start, stop, columns, owner, stack):
    """Whether an augmenting path leads from a row at its outlier to an unowned column: else the pairs are most."""
    if np.count_nonzero(owner < 0) == 0:
        return False
    seen = np.zeros(owner.size, np.bool_)
    for root in range(edge.size):
        if edge[root] != OUTLIER:
            continue
        row, level = root, 0
        while True:
            for e in range(start[row], stop[row]):
                column = columns[e]
                if owner[column] < 0:
                    return True
                if not seen[column]:
                    seen[column] = True
                    stack[level] = column
                    level += 1
            if level == 0:
                break
            level -= 1
            row = owner[stack[level]]
    return False
