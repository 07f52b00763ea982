"""Cheapest matching of predicted to ground-truth pixels, kept optimal while predicted pixels come and go.

Every row owns a private outlier, so that an assignment always exists. Prices of columns make it a proof of itself: no
price is above zero, that of an unowned column is zero, and every row has the column (or the outlier) of its lowest
cost less price. New rows bid for columns and go along shortest paths in reduced costs where bids do not settle it
(Jonker and Volgenant, 1987). A column that has lost its row keeps its price until all rows are assigned, since most
find a new one beside it; the others go back to price zero along the shortest path of the reverse problem.
"""

import numpy as np
from numba import types

from .graph import FREE, GRAPH, MATCHING, OUTLIER, SEARCH, UNREACHED, pop, push
from .jit import compiled

BIDS = 8  # a row; price wars beyond that are cheaper settled by shortest paths


@compiled("UniTuple(int64, 3)(int64[::1], int64, int32[::1], int64, int64[::1])")
def _next(heap, size, stack, level, distance):
    """Return the nearest column that waits, -1 if none does, and what is left of heap and stack.

    The stack holds columns as near as the present one, which the heap would sort for nothing; last in, first out finds
    the end of a long plateau without flooding it.
    """
    if level > 0:
        return stack[level - 1], size, level - 1
    while size > 0:
        key = pop(heap, size)
        size -= 1
        column = key % distance.size
        if distance[column] == key // distance.size:
            return column, size, level
    return -1, 0, 0


@compiled(types.UniTuple(types.int64, 2)(types.int64, types.int64, types.int64, types.int64, types.int64, SEARCH))
def _wait(column, reached, here, size, level, search):
    """Let a column that is newly `reached` wait; returns the sizes of heap and stack."""
    if reached == here:
        search.stack[level] = column
        return size, level + 1
    push(search.heap, size, reached * search.distance.size + column)
    return size + 1, level


@compiled(types.UniTuple(types.int64, 3)(types.int64, types.int64, GRAPH, MATCHING))
def _choice(row, outlier, graph, matching):
    """Return the cheapest edge of a row (or OUTLIER), its cost less the price of its column, and the second best."""
    best, second, choice = outlier, outlier, OUTLIER
    for e in range(graph.start[row], graph.stop[row]):
        cost = graph.costs[e]
        if cost > best and cost >= second:  # and so are the later ones, which are further away
            break
        column = graph.columns[e]
        reduced = cost - matching.price[column]
        if reduced < best:
            best, second, choice = reduced, best, e
        elif reduced < second:
            second = reduced
        if reduced == best and matching.owner[column] < 0:  # of equal columns one without an owner
            choice = e
    return choice, best, second


@compiled(types.int64(types.int32[::1], types.int64, types.int64, GRAPH, MATCHING))
def bid(rows, n_rows, outlier, graph, matching):
    """Let the first `n_rows` of the free `rows` take their cheapest columns at the price of their second choice.

    Rows that bids do not settle are left free at the front of `rows`; returns their number.
    """
    price, edge, owner = matching
    left, bids = 0, 0
    for i in range(n_rows):
        row = rows[i]
        while True:
            if bids == BIDS * n_rows:
                rows[left] = row
                left += 1
                break
            bids += 1
            choice, best, second = _choice(row, outlier, graph, matching)
            edge[row] = choice
            if choice == OUTLIER:
                break
            column = graph.columns[choice]
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


@compiled(types.int64(types.int64, types.int64, GRAPH))
def _edge_between(row, column, graph):
    """Return the edge of a row to a column in its reach."""
    edge = graph.start[row]
    while graph.columns[edge] != column:
        edge += 1
    return edge


@compiled(types.void(types.int64, types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def _hand_on(column, row, root, graph, matching, search):
    """Give `column` (or the outlier, -1) to `row`, the column it leaves to the row before it, and so on to `root`."""
    while True:
        before = matching.edge[row]
        if column < 0:
            matching.edge[row] = OUTLIER
        else:
            matching.edge[row] = _edge_between(row, column, graph)
            matching.owner[column] = row
        if row == root:
            return
        column = graph.columns[before]
        row = search.via_row[column]


@compiled(types.void(types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def assign(root, outlier, graph, matching, search):
    """Assign the free row `root` along a shortest path to an unowned column or to the outlier of a row."""
    price, edge, owner = matching
    columns, costs, distance = graph.columns, graph.costs, search.distance
    size, level, n_touched = 0, 0, 0
    here, row, base = 0, root, 0  # base: length `here` of the path to the row, less the reduced cost of its own edge
    nearest, end, end_row = UNREACHED, -1, root
    while True:
        if base + outlier < nearest:
            nearest, end, end_row = base + outlier, -1, row
        for e in range(graph.start[row], graph.stop[row]):
            if base + costs[e] >= nearest:
                break
            column = columns[e]
            length = base + costs[e] - price[column]
            if length >= nearest or length >= distance[column]:
                continue
            if owner[column] < 0:
                nearest, end, end_row = length, column, row
                continue
            if distance[column] == UNREACHED:
                search.touched[n_touched] = column
                n_touched += 1
            distance[column], search.via_row[column] = length, row
            size, level = _wait(column, length, here, size, level, search)
        column, size, level = _next(search.heap, size, search.stack, level, distance)
        if column < 0 or distance[column] >= nearest:
            break
        here, row = distance[column], owner[column]
        base = here - (costs[edge[row]] - price[column])
    for i in range(n_touched):
        column = search.touched[i]
        if distance[column] < nearest:
            price[column] += distance[column] - nearest
        distance[column] = UNREACHED
    _hand_on(end, end_row, root, graph, matching, search)


@compiled(types.void(types.int64, types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def _move_on(row, column, root, graph, matching, search):
    """Give `column` to `row`, the column that the row has left to the next one, and so on until `root` has a row.

    Without a row (-1) `column` is the one that is left.
    """
    if row < 0:
        matching.owner[column] = -1
        if column == root:
            return
        row, column = search.via_row[column], search.via_column[column]
    while True:
        matching.edge[row] = _edge_between(row, column, graph)
        matching.owner[column] = row
        if column == root:
            return
        row, column = search.via_row[column], search.via_column[column]


@compiled(types.void(types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def free_column(root, outlier, graph, matching, search):
    """Bring the unowned column `root` to price zero, or find it a row.

    Along the shortest path from it, rows move one column on, until a column is left at no loss or a row leaves its
    outlier.
    """
    price, edge = matching.price, matching.edge
    offset_costs, columns, costs, distance = graph.offset_costs, graph.columns, graph.costs, search.distance
    size, level, n_touched = 0, 0, 1
    search.touched[0], distance[root] = root, 0
    column, nearest, end, end_row = root, -price[root], root, -1
    while True:
        length = distance[column]
        for k in range(offset_costs.size):
            row = graph.row_at[graph.place[column] - graph.offsets[k]]
            own = FREE if row < 0 else edge[row]
            if own >= 0:
                other = columns[own]
                reached = length + offset_costs[k] - price[column] - (costs[own] - price[other])
                if other == column or reached >= nearest or reached >= distance[other]:
                    continue
                if distance[other] == UNREACHED:
                    search.touched[n_touched] = other
                    n_touched += 1
                distance[other], search.via_row[other], search.via_column[other] = reached, row, column
                if reached - price[other] < nearest:
                    nearest, end, end_row = reached - price[other], other, -1
                size, level = _wait(other, reached, length, size, level, search)
            elif own == OUTLIER and length + offset_costs[k] - price[column] - outlier < nearest:
                nearest, end, end_row = length + offset_costs[k] - price[column] - outlier, column, row
        column, size, level = _next(search.heap, size, search.stack, level, distance)
        if column < 0 or distance[column] >= nearest:
            break
    for i in range(n_touched):
        column = search.touched[i]
        if distance[column] < nearest:
            price[column] += nearest - distance[column]
        distance[column] = UNREACHED
    _move_on(end_row, end, root, graph, matching, search)


@compiled(types.int64(types.int64, types.int32[::1], MATCHING))
def raise_outlier(by, fresh, matching):
    """Let a pixel left alone cost more by `by`; returns the number of `fresh` rows, which have to be assigned anew.

    These are the rows at their outlier. If fewer columns than rows are alone, prices fall by as much instead, which
    keeps the choice of every row, and the unowned columns have to go back to price zero.
    """
    alone = np.flatnonzero(matching.edge == OUTLIER)
    if np.count_nonzero(matching.owner < 0) < alone.size:
        matching.price[:] -= by
        return 0
    fresh[: alone.size] = alone
    matching.edge[alone] = FREE
    return alone.size


@compiled(types.void(types.int32[::1], types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def settle(fresh, n_fresh, outlier, graph, matching, search):
    """Assign the `fresh` rows and bring unowned columns to price zero, which makes the matching cheapest."""
    for row in fresh[: bid(fresh, n_fresh, outlier, graph, matching)]:
        assign(row, outlier, graph, matching, search)
    for column in range(matching.owner.size):
        if matching.owner[column] < 0 and matching.price[column] < 0:
            free_column(column, outlier, graph, matching, search)
