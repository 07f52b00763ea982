"""Angular errors against NumPy and known angles."""

import math

import numpy as np
import pytest
import torch

from atrc_exp.metrics.normals import NormalsError, angular_error


def at_angles(degrees):
    """Predictions that are off the label (0, 0, 1) by the given angles, (1, 3, 1, n) each."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    prediction = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()]).view(1, 3, 1, -1)
    label = torch.zeros_like(prediction)
    label[:, 2] = 1
    return prediction, label


def score(*batches):
    metric = NormalsError()
    for prediction, label in batches:
        metric.update(prediction, label)
    return metric.compute()


def test_known_angles():
    result = score(at_angles([0.0, 10.0, 20.0, 29.0, 90.0, 180.0]))
    assert result["mean_error"] == pytest.approx(329 / 6)
    assert result["rmse"] == pytest.approx(math.sqrt((100 + 400 + 841 + 8100 + 32400) / 6))
    assert result["median"] == pytest.approx(24.5, abs=5e-4)
    assert result["within_11.25"] == pytest.approx(100 * 2 / 6)
    assert result["within_22.5"] == pytest.approx(100 * 3 / 6)
    assert result["within_30"] == pytest.approx(100 * 4 / 6)


def test_random_vectors_against_numpy_with_the_arccosine():
    generator = np.random.default_rng(0)
    prediction, label = generator.normal(size=(2, 4, 3, 13, 11))
    label[:, :, :3] = 0
    valid = np.any(label != 0, axis=1)
    cosine = (prediction * label).sum(1)[valid]
    cosine /= np.linalg.norm(prediction, axis=1)[valid] * np.linalg.norm(label, axis=1)[valid]
    errors = np.degrees(np.arccos(cosine))
    batches = [(torch.from_numpy(prediction[i : i + 2]), torch.from_numpy(label[i : i + 2])) for i in (0, 2)]
    result = score(*batches)
    assert result["mean_error"] == pytest.approx(errors.mean(), abs=1e-9)
    assert result["rmse"] == pytest.approx(math.sqrt((errors**2).mean()), abs=1e-9)
    assert result["median"] == pytest.approx(np.median(errors), abs=5e-4)
    for limit in (11.25, 22.5, 30):
        assert result[f"within_{limit:g}"] == pytest.approx(100 * (errors < limit).mean())
    assert result["invalid_pixels"] == 4 * 3 * 11


@pytest.mark.parametrize("angles", [[1.0], [1.0, 3.0], [5.0, 1.0, 3.0], [1.0, 2.0, 80.0, 100.0], [7.0] * 4])
def test_median_of_odd_and_even_numbers_of_pixels(angles):
    assert score(at_angles(angles))["median"] == pytest.approx(np.median(angles), abs=5.1e-4)


def test_a_zero_prediction_is_ninety_degrees_off():
    _, label = at_angles([0.0])
    assert score((torch.zeros_like(label), label))["mean_error"] == pytest.approx(90)


@pytest.mark.parametrize("degrees", [1e-6, 1e-3, 179.999999])
def test_the_angle_is_accurate_where_the_arccosine_is_not(degrees):
    error = angular_error(*at_angles([degrees])).item()
    assert error == pytest.approx(degrees, rel=1e-9, abs=1e-9)


def test_lengths_of_prediction_and_label_do_not_matter():
    prediction, label = at_angles([25.0])
    assert score((7 * prediction, 0.4 * label))["mean_error"] == pytest.approx(25)


def test_nothing_valid_is_undefined():
    result = score((torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)))
    assert result.pop("invalid_pixels") == 4
    assert all(math.isnan(value) for value in result.values())


def test_a_prediction_that_is_not_finite_makes_the_mean_undefined():
    prediction, label = at_angles([5.0, 5.0])
    prediction[..., 0] = math.nan
    assert math.isnan(score((prediction, label))["mean_error"])
