"""Boundary scores: protocols, pooling, inputs and errors."""

import dataclasses
import importlib
import json
import math
import pickle
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from small_boundaries import synthetic_pair

from atrc_exp.metrics.boundary import PROTOCOLS, BoundaryError, Protocol, count, evaluate, score
from atrc_exp.metrics.boundary.kernels.thinning import thin
from atrc_exp.metrics.boundary.scores import Table, average_precision, best_point, recall_at_half

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
    counts = count(np.zeros(SHAPE, np.uint8), truth, max_dist=0.02)
    assert counts.truth == thin(truth).sum() < 70
    assert count(np.zeros(SHAPE, np.uint8), truth, max_dist=0.02, protocol="bsds").truth == 3 * 60


def test_prediction_equal_to_truth_scores_one():
    _, truth = synthetic_pair(3, (90, 120), regions=8)
    scores = evaluate([truth.astype(np.uint8) * 255], [truth], max_dist=0.0075, protocol="mtl_pytorch")
    assert (scores.odsF, scores.oisF, scores.precision, scores.recall) == (1, 1, 1, 1)
    assert scores.threshold == 0.01


# ---------------------------------------------------------------- worked counts


def test_worked_examples():
    def scored(prediction, truth):
        maps = dots(dict.fromkeys(prediction, 255)), dots(dict.fromkeys(truth, 1))
        return evaluate([maps[0]], [maps[1]], max_dist=0.02, protocol="mtl_pytorch")

    chain = scored([(9, 12), (9, 16)], [(9, 10), (9, 14)])
    assert (chain.precision, chain.recall, chain.odsF) == (1, 1, 1)
    two_for_one = scored([(9, 9), (9, 11)], [(9, 10)])
    assert (two_for_one.precision, two_for_one.recall) == (0.5, 1)
    assert two_for_one.odsF == pytest.approx(2 / 3)
    nothing = scored([], [(9, 10)])
    assert (nothing.precision, nothing.recall, nothing.odsF, nothing.AP) == (1, 0, 0, 0)


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


def table(matched, predicted, truth, **options):
    """Counts of images with one annotator, whose matched pixels are as many on both sides."""
    return Table(matched, matched, predicted, truth, **options)


def test_ods_and_ois_by_hand():
    # Pooled: k = 10, 9, 5; P = 20, 9, 5; G = 15. F = 20/35, 18/24, 10/20.
    counts = table(MATCHED, PREDICTED, TRUTH)
    point = best_point(THRESHOLDS, counts.pooled(), interpolate=False)
    assert (point.f, point.threshold, point.precision, point.recall) == (0.75, 0.5, 1.0, 0.6)
    # Image 1: 8/17, 6/8, 0. Image 2: 12/18, 12/16, 10/15. Both take 0.5: k = 9, P = 9.
    assert counts.at_best().pooled().f() == 0.75
    # An image that prefers another threshold: image 2 has 18/20 at 0.2. Pooled there: k = 3 + 9, P = 3 + 10, G = 15.
    other = table(np.array([[4, 3, 0], [9, 6, 5]]), np.array([[12, 3, 0], [10, 6, 5]]), TRUTH)
    assert other.at_best().pooled().f().item() == pytest.approx(24 / 28)
    assert best_point(THRESHOLDS, other.pooled(), False).f == pytest.approx(max(26 / 37, 18 / 24))


def test_annotators_by_hand():
    # 3 of 4 predicted pixels match someone, 5 of 8 pixels of all annotators are matched: P = 3/4, R = 5/8.
    counts = Table(np.array([[5]]), np.array([[3]]), np.array([[4]]), np.array([8]))
    point = best_point(np.array([0.5]), counts, interpolate=False)
    assert (point.precision, point.recall) == (0.75, 0.625)
    assert point.f == pytest.approx(2 * 0.75 * 0.625 / (0.75 + 0.625))


def test_first_maximum_wins():
    equal = np.array([[2, 2, 2]])
    assert best_point(THRESHOLDS, table(equal, equal, np.array([4])), False).threshold == 0.2
    # All F are 0 without ground truth: the first threshold, with most false positives, counts.
    matched, predicted = np.array([[0, 0, 0], [5, 5, 5]]), np.array([[9, 4, 0], [5, 5, 5]])
    assert table(matched, predicted, np.array([0, 5])).at_best().pooled().f().item() == pytest.approx(10 / 19)


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


def test_recall_at_half_precision_by_hand():
    assert recall_at_half(np.array([0.4, 0.8]), np.array([0.9, 0.1])) == pytest.approx(0.9 - 0.8 / 4)
    assert recall_at_half(np.array([0.6, 0.8]), np.array([0.9, 0.1])) == 0.9


def test_interpolated_ods():
    # Between (P, R) = (1/2, 1) and (1, 1/2) the middle has P = R = 3/4: F = 3/4 where both ends have 2/3.
    counts = table(np.array([[4, 2]]), np.array([[8, 2]]), np.array([4]))
    thresholds = np.array([0.2, 0.4])
    plain, between = (best_point(thresholds, counts, interpolate=choice) for choice in (False, True))
    assert plain.f == pytest.approx(2 / 3)
    share = (between.threshold - 0.2) / 0.2
    assert abs(share - 0.5) == pytest.approx(0.5 / 99)  # one of the two points next to the middle
    p, r = 0.5 + share / 2, 1 - share / 2
    assert between.f == pytest.approx(2 * p * r / (p + r))


def test_interpolation_goes_to_precision_zero_where_no_prediction_is_left():
    # 145 of 160 pixels of a line are found at value 128, with 735 pixels of noise; above 128 / 255 nothing is left.
    truth = np.zeros((161, 240), bool)
    truth[80, 40:200] = True
    prediction = np.zeros(truth.shape, np.uint8)
    prediction[80, 40:185] = 128
    noise = [(y, x) for y in (*range(2, 70, 4), *range(92, 160, 4)) for x in range(4, 236, 8)][:735]
    prediction[tuple(np.transpose(noise))] = 128
    options = {"max_dist": 0.0075, "protocol": "mtl_pytorch"}
    assert len(noise) == 735
    plain, between = (evaluate([prediction], [truth], interpolate=choice, **options) for choice in (False, True))
    assert plain.odsF == pytest.approx(290 / 1040) and round(plain.odsF, 4) == 0.2788
    assert between.odsF == pytest.approx(plain.odsF)
    assert between.curve.precision[-1] == 0 and plain.curve.precision[-1] == 1


def test_the_stated_scores_of_one_line_in_noise():
    # Only 151 pairs of 923 predicted pixels, with 160 of truth, give both scores that were stated for this case.
    counts = [np.array([[151, 0]]), np.array([[923, 0]]), np.array([160])]
    thresholds = np.array([0.5, 0.51])
    ends = [table(*counts, empty_precision=precision) for precision in (0.0, 1.0)]
    zero, one = (best_point(thresholds, end, interpolate=True).f for end in ends)
    assert (round(zero, 4), round(one, 4)) == (0.2789, 0.5306)
    assert round(best_point(thresholds, ends[1], interpolate=False).f, 4) == 0.2789


def test_interpolation_never_lowers_ods(rooms):
    maps = list(zip(*rooms, strict=True))
    plain, between = (evaluate(*maps, max_dist=0.011, interpolate=choice) for choice in (False, True))
    assert between.odsF >= plain.odsF and between.oisF == plain.oisF and between.interpolate


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


def test_counts_of_a_large_image_are_small():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300)).astype(np.uint8)
    assert len(pickle.dumps(count(noise, noise > 200, max_dist=0.0075))) < 8 * 1024


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


# ---------------------------------------------------------------- protocols of one's own


def own(thresholds, **options):
    return Protocol("own", tuple(thresholds), False, True, options.pop("precision", np.float64), **options)


@pytest.mark.parametrize("number", [1, 2, 300, 1000])
def test_any_number_of_rising_thresholds_is_right(rooms, number):
    prediction, truth = rooms[0]
    thresholds = np.linspace(0.002, 0.998, number)
    found = count(prediction, truth, max_dist=0.011, protocol=own(thresholds))
    for t in np.linspace(0, number - 1, 5).astype(int):
        alone = count(prediction, truth, max_dist=0.011, protocol=own(thresholds[t : t + 1]))
        assert (found.matched[t], found.predicted[t]) == (alone.matched[0], alone.predicted[0])


@pytest.mark.parametrize(
    "thresholds", [(), (0.5, 0.4), (0.5, 0.5), (0.0, 0.5), (0.5, 1.1), (np.nan,), ("a",), ((0.1, 0.2),), (0.5, None)]
)
def test_other_thresholds_are_refused(thresholds):
    with pytest.raises(BoundaryError, match="own"):
        own(thresholds)


def test_thresholds_that_single_precision_cannot_tell_apart_are_refused():
    assert own((0.5, 0.5 + 1e-9)).thresholds
    with pytest.raises(BoundaryError, match="float32"):
        own((0.5, 0.5 + 1e-9), precision=np.float32)
    with pytest.raises(BoundaryError, match="multiplier"):
        own((0.5,), multiplier=0.5)


def test_one_threshold_cannot_be_interpolated(rooms):
    maps = list(zip(*rooms[:1], strict=True))
    assert evaluate(*maps, max_dist=0.011, protocol=own((0.5,))).odsF > 0
    with pytest.raises(BoundaryError, match="interpolate"):
        evaluate(*maps, max_dist=0.011, protocol=own((0.5,)), interpolate=True)


# ---------------------------------------------------------------- mistakes


def test_unlabelled_pixels_are_no_boundary():
    prediction = dots({(30, 40): 255})
    plain = count(prediction, dots({(30, 40): 1}), max_dist=0.02)
    marked = dots({(30, 40): 1})
    marked[:10] = 255
    assert count(prediction, marked, max_dist=0.02).truth == plain.truth == 1
    mask = dots({(30, 40): 255})  # nothing but 0 and 255: a mask as image files hold it
    assert count(prediction, mask, max_dist=0.02).truth == 1
    with pytest.raises(BoundaryError, match="unlabelled"):
        count(prediction, np.full(SHAPE, 255, np.uint8), max_dist=0.02)


def test_mistakes_are_named():
    good, truth = dots({(3, 4): 255}), dots({(3, 4): 1})
    nan = good / np.float32(255)
    nan[0, 0] = np.nan
    for bad, message in (
        ((nan, truth), "image 1: .*NaN"),
        ((good[:, :-1], truth), r"image 1: .*\(60, 79\).*\(60, 80\)"),
        ((good.astype(np.int16), truth), "image 1: .*int16"),
        ((good, truth.astype(float)), "image 1: .*ground truth is float64"),
        ((good[0], truth[0]), r"image 1: .*\(80,\)"),
        ((good[None], truth[None]), r"image 1: .*\(1, 60, 80\)"),
        ((good[:0], truth[:0]), r"image 1: .*\(0, 80\)"),
        ((good, []), "image 1: .*empty list"),
    ):
        with pytest.raises(BoundaryError, match=message):
            evaluate([good, bad[0]], [truth, bad[1]], max_dist=0.02)
    with pytest.raises(BoundaryError, match="image 1: there is no prediction"):
        evaluate([good], [truth, truth], max_dist=0.02)
    with pytest.raises(BoundaryError, match="no image"):
        evaluate([], [], max_dist=0.02)
    with pytest.raises(BoundaryError, match="choose one of seism, mtl_pytorch"):
        evaluate([good], [truth], max_dist=0.02, protocol="other")
    for max_dist in (0, 1.5, math.nan, "0.01", None, True):
        with pytest.raises(BoundaryError, match="fraction of the image diagonal"):
            evaluate([good], [truth], max_dist=max_dist)
    for workers in (-1, 0, 2.5, "2", True):
        with pytest.raises(BoundaryError, match="workers"):
            evaluate([good], [truth], max_dist=0.02, workers=workers)
    with pytest.raises(BoundaryError, match="cannot be pooled"):
        score([count(good, truth, max_dist=m) for m in (0.01, 0.02)])


def test_paths_that_are_no_list_or_no_file_are_named(tmp_path):
    truth = [dots({(3, 4): 1})]
    (tmp_path / "folder.png").mkdir()
    for predictions, message in (
        ("a.png", "give a list"),
        (tmp_path / "a.png", "give a list"),
        (7, "give a list"),
        ([tmp_path / "folder.png"], "is a folder"),
        ([tmp_path / "none.png"], "is missing"),
        ([str(tmp_path)], "is a folder"),
    ):
        with pytest.raises(BoundaryError, match=message):
            evaluate(predictions, truth, max_dist=0.02)
    with pytest.raises(BoundaryError, match="give a list"):
        evaluate(truth, "a.png", max_dist=0.02)


def test_inputs_are_drawn_only_a_few_ahead():
    drawn = []

    def predictions():
        for i in range(500):
            drawn.append(i)
            yield dots({(3, 4): 255}) if i else np.full(SHAPE, np.nan)

    with pytest.raises(BoundaryError, match="image 0"):
        evaluate(predictions(), (dots({(3, 4): 1}) for _ in range(500)), max_dist=0.02, workers=2)
    assert len(drawn) < 20


# ---------------------------------------------------------------- imports


def test_import_is_light():
    heavy = ["torch", "hydra", "albumentations", "wandb", "cv2", "numba", "skimage", "matplotlib", "trimesh"]
    code = f"import sys; import atrc_exp.metrics.boundary; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("error", [RuntimeError("no locator"), OSError("disk full")])
def test_kernels_compile_without_a_cache(monkeypatch, error):
    from atrc_exp.metrics.boundary.kernels import jit

    njit = jit.njit

    def fails_to_cache(*signature, **options):
        if options.get("cache"):
            raise error
        return njit(*signature, **options)

    monkeypatch.setattr(jit, "njit", fails_to_cache)
    assert jit.compiled("int64(int64)")(lambda x: x + 1)(41) == 42


def test_kernels_are_compiled_anew_when_one_that_they_call_changes(tmp_path, monkeypatch):
    from atrc_exp.metrics.boundary.kernels import jit

    folder = tmp_path / "some_kernels"
    folder.mkdir()
    shutil.copy(jit.__file__, folder / "jit.py")
    head = 'from .jit import compiled\n{}\n@compiled("int64(int64)")\ndef {}(x):\n    return {}\n'
    (folder / "outer.py").write_text(head.format("from .inner import inner", "outer", "inner(x) + 1"))
    monkeypatch.syspath_prepend(tmp_path)
    for body, expected in (("x", 42), ("x * 10", 411)):
        (folder / "inner.py").write_text(head.format("", "inner", body))
        for name in ("outer", "inner", "jit"):
            sys.modules.pop(f"some_kernels.{name}", None)
        importlib.invalidate_caches()
        assert importlib.import_module("some_kernels.outer").outer(41) == expected
