"""Cheapest and largest matchings and thinning by SciPy and scikit-image: what the compiled kernels must equal."""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from skimage.morphology import thin

from atrc_exp.metrics.boundary.counts import levels
from atrc_exp.metrics.boundary.protocols import resolve


def counted(prediction, truth, max_dist, protocol="seism"):
    """Pairs and predicted pixels (T,) and truth pixels, every threshold on its own."""
    rule = resolve(protocol)
    passed = levels(prediction, rule)
    goal = thin(truth > 0) if rule.thin_truth else truth > 0
    radius = max_dist * math.hypot(*goal.shape)
    masks = [thin(passed > t) for t in range(len(rule.thresholds))]
    pairs = [cheapest_pairs(mask, goal, radius, 2 * math.ceil(10000 * radius) + 1) for mask in masks]
    return pairs, [int(mask.sum()) for mask in masks], int(goal.sum())


def cheapest_pairs(prediction, truth, radius, outlier):
    """Pairs of the matching that costs least, a pair 2 rint(100 d) and a row left alone `outlier`; sparse."""
    distance, n_rows, n_columns = distances(prediction, truth)
    rows, columns = np.nonzero(distance <= radius)
    if rows.size == 0:
        return 0
    # One more on every entry changes no decision, since every row uses one; explicit zeros would be dropped.
    cost = 2 * np.rint(100 * distance[rows, columns]) + 1
    pairs = csr_array((cost, (rows, columns)), shape=(n_rows, n_columns))
    alone = np.arange(n_rows)
    outliers = csr_array((np.full(n_rows, outlier + 1.0), (alone, alone)), shape=(n_rows, n_rows))
    _, assigned = min_weight_full_bipartite_matching(hstack([pairs, outliers], format="csr"))
    return int(np.count_nonzero(assigned < n_columns))


def dense_cheapest_pairs(prediction, truth, radius, outlier):
    """As `cheapest_pairs`, by a dense assignment, with `outlier` in units of rint(100 d)."""
    distance, n_rows, n_columns = distances(prediction, truth)
    if n_rows == 0:
        return 0
    cost = np.where(distance <= radius, np.rint(100 * distance), 1e12)
    _, columns = linear_sum_assignment(np.hstack([cost, np.full((n_rows, n_rows), outlier)]))
    return int(np.count_nonzero(columns < n_columns))


def distances(prediction, truth):
    """Distances of all predicted to all ground-truth pixels, and how many there are."""
    p, g = np.argwhere(prediction), np.argwhere(truth)
    return np.hypot(*(p[:, None] - g[None]).transpose(2, 0, 1)), len(p), len(g)
