"""Depth RMSE: worked examples, clamping, invalid pixels and the published treatment of them."""

import math

import pytest
import torch

from atrc_exp.metrics.depth import DepthError


def maps(*rows):
    return [torch.tensor(row).view(1, 1, 1, -1) for row in rows]


def score(*batches, **options):
    metric = DepthError(**options)
    for prediction, label in batches:
        metric.update(prediction, label)
    return metric.compute()


def test_pooled_and_per_image_worked_example():
    """Errors 3, 4 in one image and 0, 0, 0, 1 in the other."""
    first = maps([4.0, 5.0], [1.0, 1.0])
    second = maps([1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0])
    result = score(first, second)
    assert result["rmse"] == pytest.approx(2.08167, abs=5e-6)
    assert result["rmse_per_image"] == pytest.approx(2.01777, abs=5e-6)
    assert result["invalid_pixels"] == 0


def test_images_of_one_batch_count_separately():
    prediction, label = torch.tensor([[4.0, 5.0], [1.0, 2.0]]).view(2, 1, 1, 2), torch.ones(2, 1, 1, 2)
    result = score((prediction, label))
    assert result["rmse_per_image"] == pytest.approx((math.sqrt(12.5) + math.sqrt(0.5)) / 2)


def test_negative_predictions_count_as_zero():
    assert score(maps([-5.0, 1.0], [2.0, 1.0]))["rmse"] == pytest.approx(math.sqrt(2))


def test_invalid_pixels_and_images_are_left_out():
    valid = maps([1.5, 99.0], [1.0, 0.0])
    empty = maps([7.0, 7.0], [0.0, math.nan])
    result = score(valid, empty)
    assert result == {"rmse": 0.5, "rmse_per_image": 0.5, "invalid_pixels": 3.0}


def test_reference_invalid_counts_a_target_of_255():
    """One invalid pixel among 10 000 whose error is 0.6 m, predicted as 3 m."""
    label, prediction = torch.full((1, 1, 100, 100), 2.4), torch.full((1, 1, 100, 100), 3.0)
    label[0, 0, 5, 5] = 0
    assert score((prediction, label))["rmse"] == pytest.approx(0.6, abs=1e-6)
    reference = score((prediction, label), reference_invalid=True)
    assert reference["rmse"] == pytest.approx(2.59, abs=5e-3)
    assert reference["invalid_pixels"] == 1


def test_reference_invalid_counts_negative_depth_as_it_is_and_nothing_that_is_not_finite():
    batch = maps([1.0, 1.0, 1.0, 1.0], [-2.0, 3.0, math.nan, math.inf])
    assert score(batch, reference_invalid=True)["rmse"] == pytest.approx(math.sqrt((9 + 4) / 2))
    assert score(batch)["rmse"] == 2


def test_both_rules_agree_on_complete_labels():
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(2, 2, 1, 6, 5, generator=generator) + 0.1
    assert score(tuple(batch)) == score(tuple(batch), reference_invalid=True)


def test_the_sum_is_kept_in_double_precision():
    """A single precision sum would no longer grow by 1 at 2^24."""
    metric = DepthError()
    metric.squared_error.fill_(2.0**24)
    metric.update(*maps([2.0], [1.0]))
    assert metric.squared_error.item() == 2**24 + 1


def test_half_precision_predictions_are_scored_wide():
    prediction, label = maps([300.0], [1.0])
    assert score((prediction.half(), label))["rmse"] == 299


def test_nothing_valid_is_undefined():
    result = score(maps([1.0], [0.0]))
    assert math.isnan(result["rmse"])
    assert math.isnan(result["rmse_per_image"])
