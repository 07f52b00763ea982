"""Max F: the worked example and a direct per-threshold oracle."""

import math

import numpy as np
import pytest
import torch

from atrc_exp.metrics.saliency import MaxF


def logits(scores):
    """Two-channel logits whose softmax gives the scores to class 1."""
    scores = torch.as_tensor(scores, dtype=torch.float64)
    return torch.stack([torch.zeros_like(scores), scores.logit()], dim=1)


def score(scores, label):
    metric = MaxF()
    metric.update(logits(scores), torch.as_tensor(label))
    return metric.compute()


def test_worked_example():
    result = score([[[0.9, 0.8, 0.3, 0.1]], [[0.6, 0.4, 0.7, 0.2]]], [[[1, 1, 0, 0]], [[1, 1, 0, 0]]])
    assert result["max_f"] == pytest.approx(0.83871, abs=5e-6)
    assert result["max_f_mean_pr"] == pytest.approx(0.86667, abs=5e-6)
    assert result["max_f_mean_f"] == pytest.approx(0.86111, abs=5e-6)


def test_curve_is_that_of_the_pooled_pixels():
    metric = MaxF()
    metric.update(
        logits([[[0.9, 0.8, 0.3, 0.1]], [[0.6, 0.4, 0.7, 0.2]]]), torch.tensor([[[1, 1, 0, 0]], [[1, 1, 0, 0]]])
    )
    curve = metric.curve()
    assert curve.threshold[9] == 0.5 and len(curve.threshold) == 19
    at_half = (curve.precision[9], curve.recall[9], curve.f[9])
    assert at_half == pytest.approx((0.75, 0.75, 0.75))  # three of four predicted are right
    assert max(curve.f) == metric.compute()["max_f"]
    assert MaxF().curve() is None


def ratio(part, whole):
    return part / whole if whole else 0.0


def f_measure(precision, recall):
    return ratio(1.3 * precision * recall, 0.3 * precision + recall)


def oracle(scores, label):
    best = {"max_f": 0.0, "max_f_mean_pr": 0.0, "max_f_mean_f": 0.0}
    for threshold in np.arange(1, 20) * 0.05:
        counts = []
        for image, truth in zip(scores, label, strict=True):
            valid = truth != 255
            predicted, actual = image[valid] >= threshold, truth[valid] == 1
            counts.append(((predicted & actual).sum(), predicted.sum(), actual.sum()))
        hits, predicted, actual = np.sum(counts, axis=0)
        pr = [(ratio(h, p), ratio(h, a)) for h, p, a in counts]
        values = (
            f_measure(ratio(hits, predicted), ratio(hits, actual)),
            f_measure(*np.mean(pr, axis=0)),
            np.mean([f_measure(*pair) for pair in pr]),
        )
        best = {name: max(old, value) for (name, old), value in zip(best.items(), values, strict=True)}
    return best


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_random_maps_against_a_loop_over_thresholds(share):
    generator = np.random.default_rng(4)
    label = (generator.random((5, 9, 8)) < share).astype(np.int64)
    scores = np.clip(0.3 * label + generator.random(label.shape) * 0.7, 1e-3, 1 - 1e-3)
    label[generator.random(label.shape) < 0.2] = 255
    label[3][label[3] == 1] = 0  # an image without a salient pixel
    metric = MaxF()
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(logits(scores[part]), torch.from_numpy(label[part]))
    assert metric.compute() == pytest.approx(oracle(scores, label), abs=1e-12)


def test_a_score_equal_to_the_threshold_counts():
    """Softmax of equal logits is 0.5; at a threshold of 0.5 every pixel is predicted, above it none."""
    metric = MaxF()
    metric.update(torch.zeros(1, 2, 1, 4), torch.tensor([[[1, 1, 1, 0]]]))
    predicted = metric.predicted.tolist()
    assert predicted == [4] * 10 + [0] * 9
    assert metric.compute()["max_f"] == pytest.approx(f_measure(0.75, 1.0))


def test_images_without_a_valid_pixel_do_not_enter_the_means():
    scores = [[[0.9, 0.2]], [[0.9, 0.2]]]
    result = score(scores, [[[1, 0]], [[255, 255]]])
    assert result == {"max_f": 1.0, "max_f_mean_pr": 1.0, "max_f_mean_f": 1.0}


def test_nothing_valid_is_undefined():
    assert all(math.isnan(value) for value in score([[[0.9]]], [[[255]]]).values())


def test_labels_are_binary():
    with pytest.raises(ValueError, match="label 2"):
        score([[[0.9]]], [[[2]]])
