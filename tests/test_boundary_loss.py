"""The boundary loss with a tolerance, against a loop over pixels and what a tolerance means."""

import math

import numpy as np
import pytest
import torch
from small_rooms import as_typed

from atrc_exp.config.derived import build_tasks_of
from atrc_exp.losses import build_losses
from atrc_exp.losses.classes import boundary_f

H, W = 11, 14


def soft_f(p, truth, radius):
    """F of probabilities (h, w) and boundaries (h, w), pixel by pixel; what is unlabelled is 0 in both."""

    def near(values, y, x):
        return values[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].max()

    hit = met = 0.0
    for y in range(len(p)):
        for x in range(len(p[0])):
            hit += p[y, x] * near(truth, y, x)
            met += truth[y, x] * near(p, y, x)
    precision, recall = (hit + 1) / (p.sum() + 1), (met + 1) / (truth.sum() + 1)
    return 2 / (1 / precision + 1 / recall)


@pytest.fixture
def maps():
    """Logits (2, 1, h, w) and labels (2, h, w), of which some pixels are unlabelled."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, H, W, generator=generator, dtype=torch.float64, requires_grad=True)
    label = (torch.rand(2, H, W, generator=generator) < 0.15).long()
    return logits, label.masked_fill(torch.rand(2, H, W, generator=generator) < 0.2, 255)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_value_is_that_of_a_loop_over_pixels(maps, radius):
    logits, label = maps
    expected = 0.0
    for x, y in zip(logits.detach().numpy()[:, 0], label.numpy(), strict=True):
        valid = y != 255
        expected += valid.sum() * (1 - soft_f(valid / (1 + np.exp(-x)), (y == 1).astype(float), radius))
    assert boundary_f(logits, label, radius).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_is_that_of_finite_differences(maps):
    logits, label = maps
    assert torch.autograd.gradcheck(lambda x: boundary_f(x, label, 1), logits)


@pytest.mark.parametrize(("shift", "free"), [(2, True), (3, False)])
def test_what_lies_within_the_tolerance_costs_nothing(shift, free):
    label = torch.zeros(1, H, W, dtype=torch.long)
    label[:, :, 5] = 1
    logits = (100.0 * label - 50).roll(shift, 2).unsqueeze(1)
    loss = boundary_f(logits, label, 2).item() / label.numel()
    assert loss == pytest.approx(0, abs=1e-6) if free else loss > 0.9


def test_image_without_boundaries_costs_what_is_predicted_in_it():
    label = torch.zeros(1, H, W, dtype=torch.long)
    none, some = (boundary_f(torch.full((1, 1, H, W), x), label, 1).item() / label.numel() for x in (-50.0, 0.0))
    assert none == pytest.approx(0, abs=1e-6) and some == pytest.approx(1 - 2 / (H * W / 2 + 2), rel=1e-5)


def test_published_task_takes_the_loss_with_the_tolerance_of_its_score():
    """Weighted cross-entropy and 1 - F add up; the tolerance at 64 x 96 is 1.27 pixels, and whole pixels are 1."""
    config = as_typed("tasks=[edge]", "+task_losses.edge=boundary_f")
    (task,) = build_tasks_of(config)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, *config.dataset.crop, generator=generator)
    label = (torch.rand(1, *config.dataset.crop, generator=generator) < 0.1).long()
    terms = build_losses([task], ["edge"])(
        {"edge": logits}, {"edge": torch.cat([torch.zeros_like(logits), logits], 1)}, {"edge": label}
    )
    assert math.hypot(64, 96) * task.max_distance == pytest.approx(1.27, abs=0.005)
    f_term = boundary_f(logits, label, 1).item() / label.numel()
    # The auxiliary loss, of two logits, is the weighted cross-entropy alone.
    assert terms["edge"].item() == pytest.approx(terms["edge_aux"].item() + f_term, rel=1e-5)
