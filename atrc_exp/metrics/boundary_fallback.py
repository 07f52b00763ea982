"""Thinning and matching of boundary pixels with scikit-image and SciPy, where numba is missing.

Same functions and equal results as `boundary_kernels`, which documents them; many times slower.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack
from scipy.sparse.csgraph import maximum_flow, min_weight_full_bipartite_matching
from skimage.morphology import thin as _thin

from atrc_exp.metrics.boundary_maps import disc

NAME = "scipy"


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """See `boundary_kernels.thin`."""
    return _thin(mask)


def maximum_matchings(
    levels: NDArray[np.uint8], truth: NDArray[np.bool_], thresholds: int, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `boundary_kernels.maximum_matchings`."""
    matched, predicted = np.zeros(thresholds, np.int64), np.zeros(thresholds, np.int64)
    previous = 0
    for t in range(thresholds - 1, -1, -1):
        passing = levels > t
        count = int(np.count_nonzero(passing))
        if count == previous:
            if count:
                matched[t], predicted[t] = matched[t + 1], predicted[t + 1]
            continue
        thinned = thin(passing)
        matched[t], predicted[t] = _maximum_matching(thinned, truth, radius), np.count_nonzero(thinned)
        previous = count
    return matched, predicted


def _maximum_matching(prediction: NDArray[np.bool_], truth: NDArray[np.bool_], radius: float) -> int:
    """Size of the largest matching, as a flow of unit capacities.

    Not `maximum_bipartite_matching`: its search never marks dead ends and can take exponential time (SciPy
    1.17).
    """
    rows, columns, _, n_rows, n_columns = _candidates(prediction, truth, radius)
    if rows.size == 0:
        return 0
    source, sink = n_rows + n_columns, n_rows + n_columns + 1
    tails = np.concatenate([np.full(n_rows, source), rows, n_rows + np.arange(n_columns)])
    heads = np.concatenate([np.arange(n_rows), n_rows + columns, np.full(n_columns, sink)])
    capacity = np.ones(tails.size, np.int32)
    graph = csr_array((capacity, (tails, heads)), shape=(sink + 1, sink + 1))
    return int(maximum_flow(graph, source, sink, method="dinic").flow_value)


def cheapest_matching(prediction: NDArray[np.bool_], truth: NDArray[np.bool_], radius: float, outlier: int) -> int:
    """See `boundary_kernels.cheapest_matching`."""
    rows, columns, cost, n_rows, n_columns = _candidates(prediction, truth, radius)
    if rows.size == 0:
        return 0
    # One more on every entry changes no decision, since every row uses one; explicit zeros would be dropped.
    pairs = csr_array((2.0 * cost + 1, (rows, columns)), shape=(n_rows, n_columns))
    alone = np.arange(n_rows)
    outliers = csr_array((np.full(n_rows, outlier + 1.0), (alone, alone)), shape=(n_rows, n_rows))
    _, assigned = min_weight_full_bipartite_matching(hstack([pairs, outliers], format="csr"))
    return int(np.count_nonzero(assigned < n_columns))


def _candidates(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], radius: float
) -> tuple[NDArray, NDArray, NDArray, int, int]:
    """All pairs within `radius` as row, column and cost rint(100 d), and the numbers of rows and columns."""
    margin = int(radius)
    y, x = np.nonzero(prediction)
    numbers = np.full(np.add(truth.shape, 2 * margin), -1)
    n_columns = int(np.count_nonzero(truth))
    numbers[margin : margin + truth.shape[0], margin : margin + truth.shape[1]][truth] = np.arange(n_columns)
    dy, dx, cost = disc(radius)
    found = numbers[y[:, None] + dy + margin, x[:, None] + dx + margin]
    rows, which = np.nonzero(found >= 0)
    return rows, found[rows, which], cost[which], y.size, n_columns
