"""Matching of boundary pixels: worked examples, dense oracles, and equality of both backends."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from atrc_exp.metrics.boundary import PROTOCOLS, count, exact_pairs, thin
from atrc_exp.metrics.boundary_benchmark import synthetic_pair
from atrc_exp.metrics.boundary_counts import load_kernels

BACKENDS = ("numba", "scipy")


def line(*columns, shape=(1, 1000)):
    mask = np.zeros(shape, bool)
    mask[0, list(columns)] = True
    return mask


def pairs(prediction, truth, radius, backend):
    """Pairs of the maximum and of the cheapest matching of maps that are already thin."""
    kernels = load_kernels(backend)
    matched, _ = kernels.maximum_matchings(prediction.astype(np.uint8), truth, 1, radius)
    outlier = 2 * math.ceil(10000 * radius) + 1
    return int(matched[0]), kernels.cheapest_matching(prediction, truth, radius, outlier)


def dense_cheapest_pairs(prediction, truth, radius, outlier):
    """The published cost with unlimited outliers at this price, solved as a dense assignment."""
    p, g = np.argwhere(prediction), np.argwhere(truth)
    distance = np.hypot(*(p[:, None] - g[None]).transpose(2, 0, 1))
    cost = np.where(distance <= radius, np.rint(100 * distance), 1e12)
    rows, columns = linear_sum_assignment(np.hstack([cost, np.full((len(p), len(p)), outlier)]))
    return int(np.count_nonzero(columns < len(g))) if len(rows) else 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("max_dist", "expected"), [(0.0075, (999, 998)), (0.011, (999, 999))])
def test_line_of_1000_shifted_by_one(backend, max_dist, expected):
    truth, prediction = line(*range(1, 1000)), line(*range(999))
    assert pairs(prediction, truth, max_dist * math.hypot(1, 1000), backend) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("length", "lost"), [(300, 0), (500, 1), (800, 1), (2000, 1)])
def test_winding_contour_shifted_by_one(backend, length, lost):
    path = []  # lanes ten rows apart, joined by short columns at alternate ends, without corner pixels
    for k in range(0, 80, 10):
        forth = k % 20 == 0
        path += [(k, x) for x in (range(1, 390) if forth else range(389, 0, -1))]
        path += [(k + i, 390 if forth else 0) for i in range(1, 10)]
    path = path[:length]
    truth, prediction = np.zeros((400, 400), bool), np.zeros((400, 400), bool)
    truth[tuple(np.transpose(path[1:]))] = True
    prediction[tuple(np.transpose(path[:-1]))] = True
    full = length - 1
    assert pairs(prediction, truth, 0.0075 * math.hypot(400, 400), backend) == (full, full - lost)


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_choice_is_undone(backend):
    # Prediction 2 is as near to truth 0 as to truth 4, the only one in reach of prediction 6.
    shape = (6, 8)
    assert pairs(line(2, 6, shape=shape), line(0, 4, shape=shape), 2.0, backend) == (2, 2)
    assert pairs(line(0, 4, shape=shape), line(2, 6, shape=shape), 2.0, backend) == (2, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_partner_each_and_a_closed_disc(backend):
    truth = line(5, shape=(3, 12))
    assert pairs(line(4, 6, shape=(3, 12)), truth, 1.0, backend) == (1, 1)
    assert pairs(line(7, shape=(3, 12)), truth, 2.0, backend) == (1, 1)
    assert pairs(line(7, shape=(3, 12)), truth, 1.99, backend) == (0, 0)
    empty = np.zeros((3, 12), bool)
    assert pairs(empty, truth, 2.0, backend) == (0, 0)
    assert pairs(truth, empty, 2.0, backend) == (0, 0)
    assert pairs(truth, truth, 0.5, backend) == (1, 1)


@pytest.mark.parametrize("seed", range(12))
def test_both_backends_equal_the_dense_assignment(seed):
    rng = np.random.default_rng(seed)
    shape, radius = (15, 18), rng.uniform(0.6, 4)
    prediction, truth = (thin(rng.random(shape) < share) for share in rng.uniform(0.05, 0.5, 2))
    expected = dense_cheapest_pairs(prediction, truth, radius, math.ceil(10000 * radius))
    for backend in BACKENDS:
        # In so small a map no augmenting path costs as much as an outlier: both have one size.
        assert pairs(prediction, truth, radius, backend) == (expected, expected)


@pytest.mark.parametrize("seed", range(12))
def test_cheapest_matching_equals_the_dense_assignment_where_it_gives_up_pairs(seed):
    rng = np.random.default_rng(seed)
    base = np.ones((1, 150), bool)
    truth, prediction = base.copy(), base.copy()
    truth[0, rng.integers(0, 150, 3)] = False
    prediction[0, rng.integers(0, 150, 3)] = False
    radius = rng.uniform(1.0, 1.3)
    expected = dense_cheapest_pairs(prediction, truth, radius, math.ceil(10000 * radius))
    found = {backend: pairs(prediction, truth, radius, backend) for backend in BACKENDS}
    assert {cheapest for _, cheapest in found.values()} == {expected}
    assert len({maximum for maximum, _ in found.values()}) == 1
    assert found["numba"][0] >= expected


@pytest.mark.parametrize("seed", range(20))
def test_cheapest_matching_equals_the_dense_assignment_with_cheap_outliers(seed):
    # So cheap that the number of pairs hangs on single distances; the half keeps it free of ties.
    rng = np.random.default_rng(100 + seed)
    shape, radius, outlier = (20, 24), rng.uniform(3, 7), int(rng.integers(60, 600)) + 0.5
    prediction, truth = (rng.random(shape) < share for share in rng.uniform(0.1, 0.5, 2))
    expected = dense_cheapest_pairs(prediction, truth, radius, outlier)
    for backend in BACKENDS:
        found = load_kernels(backend).cheapest_matching(prediction, truth, radius, int(2 * outlier))
        assert found == expected


def test_the_cheapest_matching_pairs_on_equal_cost():
    # The chain of 11 unit steps costs 1100 in the published integers.
    prediction, truth = line(*range(11), shape=(1, 12)), line(*range(1, 12), shape=(1, 12))
    for backend in BACKENDS:
        kernels = load_kernels(backend)
        found = [kernels.cheapest_matching(prediction, truth, 1.0, 2 * ow + 1) for ow in (1099, 1100)]
        assert found == [10, 11]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("shape", "max_dist"), [((70, 90), 0.02), ((91, 64), 0.0075)])
def test_backends_count_alike(protocol, shape, max_dist):
    for seed in range(2):
        maps = synthetic_pair(seed, shape, regions=9)
        fast, slow = (count(*maps, max_dist=max_dist, protocol=protocol, backend=b) for b in BACKENDS)
        assert_array_equal(fast.matched, slow.matched)
        assert_array_equal(fast.predicted, slow.predicted)
        assert fast.truth == slow.truth > 100
        for t in range(0, len(fast.matched), 9):
            assert exact_pairs(fast, t, "numba") == exact_pairs(slow, t, "scipy") <= fast.matched[t]


def test_backends_count_noise_alike():
    rng = np.random.default_rng(5)
    noise = gaussian_filter(rng.random((50, 60)), 0.7)
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    truth = rng.random((50, 60)) < 0.15
    for protocol in PROTOCOLS:
        fast, slow = (count(noise, truth, max_dist=0.04, protocol=protocol, backend=b) for b in BACKENDS)
        assert_array_equal(fast.matched, slow.matched)
        assert_array_equal(fast.predicted, slow.predicted)
        assert fast.matched.max() > 100
