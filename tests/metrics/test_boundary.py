"""Boundary scores: protocols, pooling, exactness of the upper-bound method, inputs and errors."""

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import atrc_exp.metrics
from atrc_exp.errors import UserError
from atrc_exp.metrics import boundary
from atrc_exp.metrics.boundary import PROTOCOLS, count, evaluate, exact_pairs, score
from atrc_exp.metrics.boundary_benchmark import synthetic_pair
from atrc_exp.metrics.boundary_counts import load_kernels
from atrc_exp.metrics.boundary_scores import Table, average_precision, best_point, f_measure

SHAPE = (60, 80)  # diagonal 100, so that max_dist 0.02 is a radius of exactly 2 pixels
PLAIN = dataclasses.replace(PROTOCOLS["seism"], name="plain", suppress=False)


def dots(values, shape=SHAPE, dtype=np.uint8):
    """A map that is 0 but for the given {(y, x): value}."""
    array = np.zeros(shape, dtype)
    for position, value in values.items():
        array[position] = value
    return array


@pytest.fixture(scope="module")
def rooms():
    return [synthetic_pair(seed, (90, 120), regions=8) for seed in range(5)]


# ---------------------------------------------------------------- protocols


def test_threshold_lists():
    seism, mtl = PROTOCOLS["seism"].thresholds, PROTOCOLS["mtl_pytorch"].thresholds
    assert len(seism) == 101 and len(mtl) == 99
    assert seism[:3] == (0.001, 0.01, 0.02) and seism[-2:] == (0.99, 0.999)
    assert mtl[0] == 0.01 and mtl[-1] == 0.99 and seism[1:-1] == mtl


@pytest.mark.parametrize("value", [51, 102, 153, 204])
def test_equal_to_the_threshold(value):
    maps = dots({(30, 40): value}), dots({(30, 40): 1})
    threshold = value / 255  # 0.2, 0.4, 0.6, 0.8
    strict = count(*maps, max_dist=0.02, protocol=PLAIN).predicted
    inclusive = count(*maps, max_dist=0.02, protocol="mtl_pytorch").predicted
    assert_array_equal(strict, [t < threshold - 1e-9 for t in PLAIN.thresholds])
    assert_array_equal(inclusive, [t <= threshold + 1e-9 for t in PROTOCOLS["mtl_pytorch"].thresholds])


def test_probabilities_are_truncated_to_8_bits():
    probability = dots({(30, 40): 0.5}, dtype=np.float32)
    truth = dots({(30, 40): 1})
    mtl = PROTOCOLS["mtl_pytorch"]
    at_half = mtl.thresholds.index(0.5)
    assert count(probability, truth, max_dist=0.02, protocol=mtl).matched[at_half] == 0  # 127 / 255 < 0.5
    raw = dataclasses.replace(mtl, quantize=False)
    assert count(probability, truth, max_dist=0.02, protocol=raw).matched[at_half] == 1
    eight_bit = dots({(30, 40): 127})
    assert_array_equal(
        count(probability, truth, max_dist=0.02, protocol=mtl).matched,
        count(eight_bit, truth, max_dist=0.02, protocol=mtl).matched,
    )


def test_only_seism_suppresses_and_fades():
    prediction = dots({(30, 2): 255, (30, 0): 255})
    truth = dots({(30, 2): 1, (30, 0): 1})
    assert count(prediction, truth, max_dist=0.005, protocol="mtl_pytorch").matched.tolist() == [2] * 99
    seism = count(prediction, truth, max_dist=0.005)
    assert_array_equal(seism.matched, [t < 0.4 for t in PROTOCOLS["seism"].thresholds])  # 2 / 5 in column 2


def test_ground_truth_is_thinned():
    truth = np.zeros(SHAPE, np.uint8)
    truth[20:23, 10:70] = 255
    thin = boundary.thin(truth)
    counts = count(np.zeros(SHAPE, np.uint8), truth, max_dist=0.02)
    assert counts.truth == thin.sum() < 70


def test_prediction_equal_to_truth_scores_one():
    _, truth = synthetic_pair(3, (90, 120), regions=8)
    scores = evaluate([truth.astype(np.uint8) * 255], [truth], max_dist=0.0075, protocol="mtl_pytorch")
    assert (scores.odsF, scores.oisF, scores.precision, scores.recall) == (1, 1, 1, 1)
    assert scores.threshold == 0.01


# ---------------------------------------------------------------- worked counts


@pytest.mark.parametrize("backend", ["numba", "scipy"])
def test_worked_examples(backend):
    def scored(prediction, truth):
        maps = dots(dict.fromkeys(prediction, 255)), dots(dict.fromkeys(truth, 1))
        return evaluate([maps[0]], [maps[1]], max_dist=0.02, protocol="mtl_pytorch", backend=backend)

    chain = scored([(9, 12), (9, 16)], [(9, 10), (9, 14)])
    assert (chain.precision, chain.recall, chain.odsF) == (1, 1, 1)
    two_for_one = scored([(9, 9), (9, 11)], [(9, 10)])
    assert (two_for_one.precision, two_for_one.recall) == (0.5, 1)
    assert two_for_one.odsF == pytest.approx(2 / 3)
    nothing = scored([], [(9, 10)])
    assert (nothing.precision, nothing.recall, nothing.odsF, nothing.AP) == (1, 0, 0, 0)
    assert nothing.backend == backend


def test_images_without_ground_truth_add_false_positives(caplog):
    good = dots({(30, 40): 255}), dots({(30, 40): 1})
    false = dots({(10, 10): 255, (50, 50): 255}), dots({})
    both = evaluate(*zip(good, false, strict=True), max_dist=0.02, protocol="mtl_pytorch")
    assert (both.precision, both.recall, both.odsF) == (pytest.approx(1 / 3), 1, 0.5)
    assert not caplog.records
    alone = evaluate([false[0]], [false[1]], max_dist=0.02)
    assert (alone.precision, alone.recall, alone.odsF, alone.oisF, alone.AP) == (0, 1, 0, 0, 0)
    assert "empty" in caplog.text


# ---------------------------------------------------------------- pooling

# Two images, three thresholds: pairs, predicted pixels, ground truth.
MATCHED = np.array([[4, 3, 0], [6, 6, 5]])
PREDICTED = np.array([[12, 3, 0], [8, 6, 5]])
TRUTH = np.array([5, 10])
THRESHOLDS = np.array([0.2, 0.5, 0.8])


def test_ods_and_ois_by_hand():
    table = Table(THRESHOLDS, MATCHED, PREDICTED, TRUTH, pairs=None)
    # Pooled: k = 10, 9, 5; P = 20, 9, 5; G = 15. F = 20/35, 18/24, 10/20.
    point = table.dataset_scale(interpolate=False)
    assert (point.f, point.threshold, point.precision, point.recall) == (0.75, 0.5, 1.0, 0.6)
    # Image 1: 8/17, 6/8, 0. Image 2: 12/18, 12/16, 10/15. Both take 0.5: k = 9, P = 9.
    assert table.image_scale() == 0.75
    # An image that prefers another threshold.
    matched, predicted = np.array([[4, 3, 0], [9, 6, 5]]), np.array([[12, 3, 0], [10, 6, 5]])
    other = Table(THRESHOLDS, matched, predicted, TRUTH, pairs=None)
    # Image 2: 18/20 at 0.2. Pooled there: k = 3 + 9, P = 3 + 10, G = 15.
    assert other.image_scale() == pytest.approx(24 / 28)
    assert other.dataset_scale(False).f == pytest.approx(max(26 / 37, 18 / 24))


def test_first_maximum_wins():
    equal = np.array([[2, 2, 2]])
    table = Table(THRESHOLDS, equal, equal, np.array([4]), None)
    assert table.dataset_scale(False).threshold == 0.2
    # All F are 0 without ground truth: the first threshold, with most false positives, counts.
    matched, predicted = np.array([[0, 0, 0], [5, 5, 5]]), np.array([[9, 4, 0], [5, 5, 5]])
    no_truth = Table(THRESHOLDS, matched, predicted, np.array([0, 5]), None)
    assert no_truth.image_scale() == pytest.approx(10 / 19)


def test_average_precision_by_hand():
    # Recall 0.5 with P = 1, recall 1 with P = 0.5: 51 samples from 1 down to 0.5, mean 0.75, over 100.
    assert average_precision(np.array([0.5, 1.0]), np.array([1.0, 0.5])) == pytest.approx(51 * 0.75 / 100)
    # Recall 0 to 1 at P = 1 is 1.01, the known quirk of dividing 101 samples by 100.
    assert average_precision(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(1.01)
    # Of equal recalls the first precision counts.
    repeated = average_precision(np.array([0.2, 0.5, 0.9, 1.0]), np.array([1.0, 0.5, 0.5, 0.0]))
    line = [Fraction(1) - Fraction(i, 100) for i in range(50)]  # 1 to 0.5 over recall 0 to 0.5
    line += [Fraction(1, 2) - Fraction(6, 10) * Fraction(i - 50, 100) for i in range(50, 101)]
    assert repeated == pytest.approx(float(sum(line) / 100))
    assert average_precision(np.ones(3), np.full(3, 0.4)) == 0


def test_interpolated_ods():
    # Between (P, R) = (1/2, 1) and (1, 1/2) the middle has P = R = 3/4: F = 3/4 where both ends have 2/3.
    matched, predicted = np.array([4, 2]), np.array([8, 2])
    thresholds = np.array([0.2, 0.4])
    plain = best_point(thresholds, matched, predicted, 4, interpolate=False)
    between = best_point(thresholds, matched, predicted, 4, interpolate=True)
    assert plain.f == pytest.approx(2 / 3) and plain.support == (0,)
    share = (between.threshold - 0.2) / 0.2
    assert abs(share - 0.5) == pytest.approx(0.5 / 99)  # one of the two points next to the middle
    p, r = 0.5 + share / 2, 1 - share / 2
    assert between.f == pytest.approx(2 * p * r / (p + r)) and between.support == (0, 1)


def test_interpolation_never_lowers_ods(rooms):
    maps = list(zip(*rooms, strict=True))
    plain, between = (evaluate(*maps, max_dist=0.011, interpolate=choice) for choice in (False, True))
    assert between.odsF >= plain.odsF and between.oisF == plain.oisF and between.interpolate


# ---------------------------------------------------------------- exact matchings from upper bounds


@pytest.mark.parametrize("interpolate", [False, True])
def test_upper_bounds_lead_to_the_exact_scores(interpolate):
    rng = np.random.default_rng(0)
    gave_way = 0
    for _ in range(150):
        n, t = rng.integers(1, 5), rng.integers(2, 8)
        truth = rng.integers(0, 8, n)
        predicted = np.sort(rng.integers(0, 12, (n, t)), axis=1)[:, ::-1]
        bound = rng.integers(0, 1 + np.minimum(predicted, truth[:, None]))
        exact = rng.integers(bound // 2, bound + 1)
        thresholds = np.linspace(0.1, 0.9, t)
        asked = []

        def pairs(positions, exact=exact, asked=asked):
            asked += positions
            return [int(exact[position]) for position in positions]

        table = Table(thresholds, bound, predicted, truth, pairs)
        wanted = Table(thresholds, exact, predicted, truth, None)
        found, expected = (x.dataset_scale(interpolate) for x in (table, wanted))
        assert (found.f, found.threshold, found.support) == (expected.f, expected.threshold, expected.support)
        assert table.image_scale() == wanted.image_scale()
        assert len(set(asked)) == len(asked)  # nothing is solved twice
        gave_way += expected.f < Table(thresholds, bound, predicted, truth, None).dataset_scale(interpolate).f
    assert gave_way > 50


def chain_image(rng):
    """A row of 150 pixels: one truth is missing on the left, one or more predictions elsewhere.

    A maximum matching shifts the row by one, which may cost more than a pixel left alone.
    """
    truth = np.ones((1, 150), bool)
    truth[0, rng.integers(0, 5)] = False
    prediction = np.full((1, 150), 255, np.uint8)
    prediction[0, rng.integers(145, 150)] = 0
    for level in (60, 120, 180, 240):
        prediction[0, rng.integers(0, 150)] = level
    return prediction, truth


def test_evaluate_equals_solving_every_threshold():
    rng = np.random.default_rng(1)
    images = [chain_image(rng) for _ in range(6)]
    options = {"max_dist": 0.0075, "protocol": "mtl_pytorch"}
    counts = [count(*maps, **options) for maps in images]
    exact = np.array([[exact_pairs(c, t, "scipy") for t in range(99)] for c in counts])
    assert (exact < [c.matched for c in counts]).any()
    predicted, truth = np.array([c.predicted for c in counts]), np.array([c.truth for c in counts])
    f = f_measure(exact.sum(0), predicted.sum(0), truth.sum())
    best = f_measure(exact, predicted, truth[:, None]).argmax(1)
    chosen = (np.arange(6), best)
    scores = evaluate(*zip(*images, strict=True), **options)
    assert scores.odsF == f.max() and scores.threshold == (f.argmax() + 1) / 100
    assert scores.oisF == f_measure(exact[chosen].sum(), predicted[chosen].sum(), truth.sum())
    bound = evaluate(*zip(*images, strict=True), exact=False, **options)
    assert bound.odsF > scores.odsF and not bound.exact


def test_line_of_1000_scores():
    prediction, truth = np.zeros((1, 1000), np.uint8), np.zeros((1, 1000), bool)
    prediction[0, :999], truth[0, 1:] = 255, True
    for max_dist, k in ((0.0075, 998), (0.011, 999)):
        scores = evaluate([prediction], [truth], max_dist=max_dist, protocol="mtl_pytorch")
        assert scores.odsF == pytest.approx(k / 999, abs=1e-12)


# ---------------------------------------------------------------- sets of images


def test_result_does_not_depend_on_workers_or_source(rooms, tmp_path):
    predictions, truths = zip(*rooms, strict=True)
    expected = evaluate(predictions, truths, max_dist=0.011, workers=1)
    assert 0.3 < expected.odsF <= expected.oisF < 1 and expected.images == 5
    assert evaluate(predictions, truths, max_dist=0.011, workers=3, progress=True) == expected

    for i, (prediction, truth) in enumerate(rooms):
        Image.fromarray(prediction).save(tmp_path / f"p{i}.png")
        Image.fromarray(truth.astype(np.uint8) * 255).save(tmp_path / f"t{i}.png")
    files = [[tmp_path / f"{side}{i}.png" for i in range(5)] for side in "pt"]
    assert evaluate(*files, max_dist=0.011) == expected
    lazy = ((lambda i=i: predictions[i]) for i in range(5))
    assert evaluate(lazy, (str(path) for path in files[1]), max_dist=0.011) == expected

    counts = [count(p, t, max_dist=0.011) for p, t in rooms]
    assert score(pickle.loads(pickle.dumps(counts[::-1]))) == expected


def test_tensors_are_accepted(rooms):
    torch = pytest.importorskip("torch")
    prediction, truth = rooms[0]
    assert evaluate([torch.from_numpy(prediction)], [torch.from_numpy(truth)], max_dist=0.011) == evaluate(
        [prediction], [truth], max_dist=0.011
    )


def test_as_dict_is_json(rooms):
    scores = evaluate(*zip(*rooms[:2], strict=True), max_dist=0.011)
    record = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert record["odsF"] == scores.odsF and record["protocol"] == "seism" and record["images"] == 2
    assert len(record["curve"]["f"]) == 101 and max(record["curve"]["f"]) == scores.odsF
    assert_allclose(record["curve"]["threshold"], PROTOCOLS["seism"].thresholds)
    short = evaluate(*zip(*rooms[:2], strict=True), max_dist=0.011, keep_curve=False).as_dict()
    assert short["curve"] is None and short["odsF"] == scores.odsF


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_named():
    good, truth = dots({(3, 4): 255}), dots({(3, 4): 1})
    nan = good / np.float32(255)
    nan[0, 0] = np.nan
    for bad, message in (
        ((nan, truth), "image 1: .*NaN"),
        ((good[:, :-1], truth), r"image 1: .*\(60, 79\).*\(60, 80\)"),
        ((good.astype(np.uint16), truth), "image 1: .*uint16"),
        ((good, truth.astype(float)), "image 1: .*ground truth is float64"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate([good, bad[0]], [truth, bad[1]], max_dist=0.02)
    with pytest.raises(UserError, match="image 1: there is no prediction"):
        evaluate([good], [truth, truth], max_dist=0.02)
    with pytest.raises(UserError, match="no image"):
        evaluate([], [], max_dist=0.02)
    with pytest.raises(UserError, match="choose one of seism, mtl_pytorch"):
        evaluate([good], [truth], max_dist=0.02, protocol="bsds")
    with pytest.raises(UserError, match="choose one of auto, numba, scipy"):
        evaluate([good], [truth], max_dist=0.02, backend="cuda")
    for max_dist in (0, 1.5, math.nan):
        with pytest.raises(UserError, match="fraction of the image diagonal"):
            evaluate([good], [truth], max_dist=max_dist)
    with pytest.raises(UserError, match="cannot be pooled"):
        score([count(good, truth, max_dist=m) for m in (0.01, 0.02)])


def test_inputs_are_drawn_only_a_few_ahead():
    drawn = []

    def predictions():
        for i in range(500):
            drawn.append(i)
            yield dots({(3, 4): 255}) if i else np.full(SHAPE, np.nan)

    with pytest.raises(UserError, match="image 0"):
        evaluate(predictions(), (dots({(3, 4): 1}) for _ in range(500)), max_dist=0.02, workers=2)
    assert len(drawn) < 20


# ---------------------------------------------------------------- imports and backends


def test_without_numba_scipy_takes_over(rooms, monkeypatch, caplog):
    expected = evaluate(*zip(*rooms[:1], strict=True), max_dist=0.011)
    load_kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "atrc_exp.metrics.boundary_kernels", None)
    monkeypatch.delattr(atrc_exp.metrics, "boundary_kernels", raising=False)
    try:
        found = evaluate(*zip(*rooms[:1], strict=True), max_dist=0.011)
        with pytest.raises(UserError, match="numba cannot be imported"):
            load_kernels("numba")
    finally:
        load_kernels.cache_clear()
    assert found == dataclasses.replace(expected, backend="scipy")
    assert expected.backend == "numba"
    assert "slowly" in caplog.text


def test_import_is_light():
    heavy = ["torch", "hydra", "albumentations", "wandb", "cv2", "numba", "skimage", "matplotlib", "trimesh"]
    code = f"import sys; import atrc_exp.metrics.boundary; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("error", [RuntimeError("no locator"), OSError("disk full")])
def test_kernels_compile_without_a_cache(monkeypatch, error):
    from atrc_exp import compiled

    njit = compiled.njit

    def fails_to_cache(signature, **options):
        if options.get("cache"):
            raise error
        return njit(signature, **options)

    monkeypatch.setattr(compiled, "njit", fails_to_cache)
    assert compiled.compiled("int64(int64)")(lambda x: x + 1)(41) == 42
