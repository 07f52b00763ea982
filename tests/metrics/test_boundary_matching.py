"""Matching of boundary pixels: worked examples, dense and sparse oracles, several annotators by brute force."""

import itertools
import math

import boundary_oracle as oracle
import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter
from small_boundaries import synthetic_pair

from atrc_exp.metrics.boundary import PROTOCOLS, count
from atrc_exp.metrics.boundary.kernels.auction import pairs_shown
from atrc_exp.metrics.boundary.kernels.least import LANES, two_least
from atrc_exp.metrics.boundary.kernels.sweep import _Grid, cheapest_matchings
from atrc_exp.metrics.boundary.kernels.thinning import thin


def line(*columns, shape=(1, 1000)):
    mask = np.zeros(shape, bool)
    mask[0, list(columns)] = True
    return mask


def pairs(prediction, truth, radius, outlier=None):
    """Pairs of the cheapest matching of maps that thinning leaves as they are."""
    assert_array_equal(thin(prediction), prediction)
    outlier = 2 * math.ceil(10000 * radius) + 1 if outlier is None else outlier
    matched, hits, predicted = cheapest_matchings(prediction.astype(np.uint16), [truth], 1, radius, outlier)
    assert matched == hits and predicted == prediction.sum()
    return int(matched[0])


@pytest.mark.parametrize(("max_dist", "expected"), [(0.0075, 998), (0.011, 999)])
def test_line_of_1000_shifted_by_one(max_dist, expected):
    truth, prediction = line(*range(1, 1000)), line(*range(999))
    assert pairs(prediction, truth, max_dist * math.hypot(1, 1000)) == expected


@pytest.mark.parametrize(("length", "lost"), [(300, 0), (500, 1), (800, 1), (2000, 1)])
def test_winding_contour_shifted_by_one(length, lost):
    path = []  # lanes ten rows apart, joined by short columns at alternate ends, without corner pixels
    for k in range(0, 80, 10):
        forth = k % 20 == 0
        path += [(k, x) for x in (range(1, 390) if forth else range(389, 0, -1))]
        path += [(k + i, 390 if forth else 0) for i in range(1, 10)]
    path = path[:length]
    truth, prediction = np.zeros((400, 400), bool), np.zeros((400, 400), bool)
    truth[tuple(np.transpose(path[1:]))] = True
    prediction[tuple(np.transpose(path[:-1]))] = True
    assert pairs(prediction, truth, 0.0075 * math.hypot(400, 400)) == length - 1 - lost


def test_greedy_choice_is_undone():
    # Prediction 2 is as near to truth 0 as to truth 4, the only one in reach of prediction 6.
    shape = (6, 8)
    assert pairs(line(2, 6, shape=shape), line(0, 4, shape=shape), 2.0) == 2
    assert pairs(line(0, 4, shape=shape), line(2, 6, shape=shape), 2.0) == 2


def test_one_partner_each_and_a_closed_disc():
    truth = line(5, shape=(3, 12))
    assert pairs(line(4, 6, shape=(3, 12)), truth, 1.0) == 1
    assert pairs(line(7, shape=(3, 12)), truth, 2.0) == 1
    assert pairs(line(7, shape=(3, 12)), truth, 1.99) == 0
    empty = np.zeros((3, 12), bool)
    assert pairs(empty, truth, 2.0) == pairs(truth, empty, 2.0) == 0
    assert pairs(truth, truth, 0.5) == 1


def test_the_cheapest_matching_pairs_on_equal_cost():
    # The chain of 11 unit steps costs 1100 in the published integers.
    prediction, truth = line(*range(11), shape=(1, 12)), line(*range(1, 12), shape=(1, 12))
    assert [pairs(prediction, truth, 1.0, 2 * outlier + 1) for outlier in (1099, 1100)] == [10, 11]


# ---------------------------------------------------------------- oracles


@pytest.mark.parametrize("seed", range(0, 500, 25))
def test_500_random_pairs_equal_the_dense_assignment(seed):
    for number in range(seed, seed + 25):
        rng = np.random.default_rng(number)
        shape, radius = (15, 18), rng.uniform(0.6, 5)
        prediction, truth = (thin(rng.random(shape) < share) for share in rng.uniform(0.05, 0.6, 2))
        # The published price of a pixel left alone, or one so low that the number of pairs hangs on single distances;
        # the half keeps it free of ties.
        outlier = (math.ceil(10000 * radius) if number % 2 else int(rng.integers(60, 600))) + 0.5
        expected = oracle.dense_cheapest_pairs(prediction, truth, radius, outlier)
        assert pairs(prediction, truth, radius, int(2 * outlier)) == expected
        assert oracle.cheapest_pairs(prediction, truth, radius, int(2 * outlier)) == expected


def test_rows_with_few_gaps_equal_the_dense_assignment_where_it_gives_up_pairs():
    gave_up = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth, prediction = np.ones((1, 150), bool), np.ones((1, 150), bool)
        truth[0, rng.integers(0, 150, 3)] = False
        prediction[0, rng.integers(0, 150, 3)] = False
        radius = rng.uniform(1.0, 1.3)
        expected = oracle.dense_cheapest_pairs(prediction, truth, radius, math.ceil(10000 * radius) + 0.5)
        assert pairs(prediction, truth, radius) == expected
        gave_up += expected < min(truth.sum(), prediction.sum())
    assert gave_up > 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("shape", "max_dist"), [((70, 90), 0.02), ((91, 64), 0.0075)])
def test_every_threshold_equals_an_assignment_of_its_own(protocol, shape, max_dist):
    prediction, truth = synthetic_pair(1, shape, regions=9)
    found = count(prediction, truth, max_dist=max_dist, protocol=protocol)
    matched, predicted, pixels = oracle.counted(prediction, truth, max_dist, protocol)
    assert_array_equal(found.matched, matched)
    assert_array_equal(found.hits, matched)
    assert_array_equal(found.predicted, predicted)
    assert found.truth == pixels > 100


@pytest.mark.parametrize("seed", range(4))
def test_noise_equals_an_assignment_of_its_own_at_every_threshold(seed):
    # Thinned noise has pixels come and go at every threshold.
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.random((24, 30)), 0.5)
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    truth = rng.random((24, 30)) < (0.05, 0.15, 0.3, 0.5)[seed]
    for protocol in PROTOCOLS:
        found = count(noise, truth, max_dist=0.07, protocol=protocol)
        matched, predicted, _ = oracle.counted(noise, truth, 0.07, protocol)
        assert_array_equal(found.matched, matched)
        assert_array_equal(found.predicted, predicted)
        assert found.matched.max() > 20


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_dense_noise_has_the_number_of_pairs_of_its_matching(share):
    # The truth is dense, so an auction shows the pairs of one annotator; those of several are matched.
    rng = np.random.default_rng(0)
    noise, truth = rng.integers(0, 256, (32, 40)).astype(np.uint8), rng.random((32, 40)) < share
    counted = count(noise, truth, max_dist=0.05, protocol="mtl_pytorch")
    matched = count(noise, [truth, truth], max_dist=0.05, protocol="mtl_pytorch")
    assert_array_equal(matched.hits, counted.matched)
    assert_array_equal(matched.matched, 2 * counted.matched)
    expected, _, _ = oracle.counted(noise, truth, 0.05, "mtl_pytorch")
    assert_array_equal(counted.matched, expected)


def shown(prediction, truth, radius, outlier):
    """The number of pairs that the auction shows, -1 for none."""
    grid = _Grid(prediction.astype(np.uint16), 1, radius, outlier)
    masks = [np.pad(mask, grid.margin).ravel() for mask in sorted((prediction, truth), key=np.sum)]
    few, many = (np.flatnonzero(mask).astype(np.int32) for mask in masks)
    return pairs_shown(few, many, masks[0].size, outlier, grid.disc)


@pytest.mark.parametrize("radius", [2.0, 3.3, 5.0])
def test_pairs_are_shown_where_the_dense_assignment_has_as_many(radius):
    found = {True: [], False: []}  # by whether the smaller side is matched as a whole
    for seed in range(60):
        rng = np.random.default_rng(seed)
        share = rng.uniform(0.3, 0.7)  # dense and about as many of both
        prediction, truth = (rng.random((14, 22)) < share for _ in range(2))
        prediction[:, :4] &= rng.random((14, 4)) < 0.8  # pairs have to move to the left
        outlier = 2 * math.ceil(10000 * radius) + 1 if seed % 3 == 0 else 2 * int(rng.integers(200, 3000)) + 1
        expected = oracle.dense_cheapest_pairs(prediction, truth, radius, outlier / 2)
        pairs = shown(prediction, truth, radius, outlier)
        assert pairs == shown(truth, prediction, radius, outlier)
        assert pairs in (-1, expected)
        found[expected == min(prediction.sum(), truth.sum())].append(pairs >= 0)
    assert np.sum(found[True]) >= 0.5 * len(found[True]) > 2
    assert len(found[False]) > 5


def test_pairs_are_shown_where_whole_regions_have_no_partner():
    # The prediction has many pixels on the left, the truth on the right: prices climb to the highest of all.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ramp = np.linspace(0, 1, 30)
        prediction, truth = rng.random((12, 30)) < 1 - ramp, rng.random((12, 30)) < ramp
        expected = oracle.dense_cheapest_pairs(prediction, truth, 3.0, 30000.5)
        assert expected < 0.9 * min(prediction.sum(), truth.sum())
        assert shown(prediction, truth, 3.0, 60001) == expected


def test_pairs_are_not_shown_where_the_last_one_costs_more_than_it_saves():
    # The chain of 11 unit steps costs 2200.
    prediction, truth = line(*range(11), shape=(1, 12)), line(*range(1, 12), shape=(1, 12))
    assert shown(prediction, truth, 1.0, 2199) == -1
    assert shown(prediction, truth, 1.0, 5001) == 11


def test_least_two_of_a_disc_are_those_of_the_sorted_differences():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        chunks = int(rng.integers(1, 9))
        duals = rng.integers(-20, 20, 400).astype(np.int32)
        costs = rng.integers(0, 40, (chunks, LANES)).astype(np.int32)
        shift = rng.integers(-150, 150, chunks)
        at = 200 + shift[:, None] + np.arange(LANES)
        differences = (costs - duals[at]).ravel()
        first, second = np.argsort(differences, kind="stable")[:2]
        expected = (at.ravel()[first], differences[first], differences[second])
        assert compiled_two_least(duals, 200, shift, costs) == expected


@njit
def compiled_two_least(duals, at, shift, costs):
    """An intrinsic can be called by compiled code only."""
    return two_least(duals, at, shift, costs)


# ---------------------------------------------------------------- several annotators


def optimal_hit_sets(prediction, truth, radius):
    """Sets of predicted pixels in a pair, of every matching of least cost, by trying all matchings."""
    p, g = np.argwhere(prediction), np.argwhere(truth)
    alone = math.ceil(10000 * radius) + 0.5
    best, sets = math.inf, set()
    for partners in itertools.product(range(-1, len(g)), repeat=len(p)):
        used = [j for j in partners if j >= 0]
        if len(set(used)) < len(used):
            continue
        lengths = [math.hypot(*(p[i] - g[j])) for i, j in enumerate(partners) if j >= 0]
        if any(length > radius for length in lengths):
            continue
        cost = sum(round(100 * length) for length in lengths) + alone * (len(p) - len(used))
        if cost < best:
            best, sets = cost, set()
        if cost == best:
            sets.add(frozenset(i for i, j in enumerate(partners) if j >= 0))
    return sets


@pytest.mark.parametrize("protocol", ["seism", "bsds"])
def test_annotators_are_united_for_precision_and_summed_for_recall(protocol):
    rule, compared, below = PROTOCOLS[protocol], 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        prediction = np.zeros((18, 20), np.uint8)
        prediction[6:12:2, 6:14:3] = rng.choice([0, 0, 0, 255], (3, 3))
        truths = [np.zeros((18, 20), bool) for _ in range(3)]
        for truth in truths:
            truth[5:13:2, 6:14:2] = rng.random((4, 4)) < 0.2
        found = count(prediction, truths, max_dist=2.3 / math.hypot(18, 20), protocol=rule)
        if not 0 < np.count_nonzero(prediction) <= 5 or max(truth.sum() for truth in truths) > 5:
            continue
        sets = [optimal_hit_sets(prediction, truth, 2.3) for truth in truths]
        unions = {len(frozenset().union(*choice)) for choice in itertools.product(*sets)}
        assert found.hits[0] in unions
        assert found.matched[0] == sum(len(next(iter(options))) for options in sets)
        assert found.truth == sum(truth.sum() for truth in truths)
        compared += 1
        below += found.hits[0] < found.matched[0]
    assert compared > 5 and below > 2


def test_the_union_counts_a_predicted_pixel_once():
    prediction = np.zeros((10, 30), np.uint8)
    prediction[5, [5, 15, 25]] = 255
    left, right = line(5, 15, shape=(10, 30)), line(15, shape=(10, 30))
    truths = [np.roll(mask, 5, axis=0) for mask in (left, right)]
    found = count(prediction, truths, max_dist=0.01, protocol="bsds")
    assert (found.matched[0], found.hits[0], found.predicted[0], found.truth) == (3, 2, 3, 3)
    one = count(prediction, truths[:1], max_dist=0.01, protocol="bsds")
    same = count(prediction, truths[0], max_dist=0.01, protocol="bsds")
    assert_array_equal(one.matched, same.matched)
    assert_array_equal(one.hits, one.matched)
