"""Cheapest matching of predicted to ground-truth pixels, kept optimal while predicted pixels come and go.

Every row owns a private outlier, so that an assignment always exists. Prices of columns make it a proof of itself: no
price is above zero, that of an unowned column is zero, and every row has the column (or the outlier) of its lowest
cost less price. New rows bid for columns and go along shortest paths in reduced costs where bids do not settle it
(Jonker and Volgenant, 1987). A column that loses its row goes back to price zero along the shortest path of the reverse
problem.
"""

from numba import types

from .graph import FREE, GRAPH, MATCHING, OUTLIER, SEARCH, UNREACHED, edge_between, flip, pop, push
from .jit import compiled

BIDS = 8  # a row; price wars beyond that are cheaper settled by shortest paths


@compiled("UniTuple(int64, 3)(int64[::1], int64, int32[::1], int64, int64[::1])")
def _next(heap, size, stack, level, distance):
    """The nearest column that waits, -1 if none does, and what is left of heap and stack.

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


@compiled(types.UniTuple(types.int64, 3)(types.int64, types.int64, GRAPH, MATCHING))
def _choice(row, outlier, graph, matching):
    """The cheapest edge of a row (or OUTLIER), its cost less the price of its column, and that of the second best."""
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


@compiled(types.void(types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def assign(root, outlier, graph, matching, search):
    """Assign the free row `root` along a shortest path to an unowned column or to the outlier of a row."""
    price, edge, owner = matching
    columns, costs = graph.columns, graph.costs
    distance, via_row, _, heap, stack, touched = search
    size, level, n_touched = 0, 0, 0
    here, row, base = 0, root, 0  # base: length `here` of the path to the row, less the reduced cost of its own edge
    nearest, end_column, end_row = UNREACHED, -1, root
    while True:
        if base + outlier < nearest:
            nearest, end_column, end_row = base + outlier, -1, row
        for e in range(graph.start[row], graph.stop[row]):
            if base + costs[e] >= nearest:
                break
            column = columns[e]
            length = base + costs[e] - price[column]
            if length >= nearest or length >= distance[column]:
                continue
            if owner[column] < 0:
                nearest, end_column, end_row = length, column, row
                continue
            if distance[column] == UNREACHED:
                touched[n_touched] = column
                n_touched += 1
            distance[column], via_row[column] = length, row
            if length == here:
                stack[level] = column
                level += 1
            else:
                push(heap, size, length * owner.size + column)
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
    if end_column >= 0:
        via_row[end_column] = end_row
        flip(end_column, root, graph, matching, via_row)
    else:
        before = edge[end_row]
        edge[end_row] = OUTLIER
        if end_row != root:
            flip(columns[before], root, graph, matching, via_row)


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
        matching.edge[row] = edge_between(row, column, graph)
        matching.owner[column] = row
        if column == root:
            return
        row, column = search.via_row[column], search.via_column[column]


@compiled(types.void(types.int64, types.int64, GRAPH, MATCHING, SEARCH))
def free_column(root, outlier, graph, matching, search):
    """Restore optimality after the column `root` has lost its row.

    Along the shortest path from it, rows move one column on, until a column is left at no loss or a row leaves its
    outlier.
    """
    price, edge, owner = matching
    offset_costs, columns, costs = graph.offset_costs, graph.columns, graph.costs
    distance, via_row, via_column, heap, stack, touched = search
    size, level, n_touched = 0, 0, 1
    touched[0] = root
    distance[root] = 0
    column, nearest, end, end_row = root, -price[root], root, -1
    while True:
        length = distance[column]
        for k in range(offset_costs.size):
            row = graph.row_at[graph.place[column] - graph.offsets[k]]
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
                    push(heap, size, reached * owner.size + other)
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
    _move_on(end_row, end, root, graph, matching, search)
