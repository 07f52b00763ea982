"""Losses that only tasks of one's own can have, against loops over pixels, and their invariances."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atrc_exp.config import DatasetConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.losses import build_losses
from atrc_exp.tasks import build_tasks

SIZE = (3, 4, 5)  # B, H, W
ROWS = {
    "weighted": {"kind": "classes", "class_weights": [1.0, 2.0, 0.5]},
    "smoothed": {"kind": "classes", "label_smoothing": 0.3},
    "focal": {"kind": "classes", "loss": "focal"},
    "dice": {"kind": "classes", "loss": "dice"},
    "outline": {"kind": "binary", "loss": "boundary_f", "positive_weight": 0.9, "max_distance": 0.1},
    "depth_l2": {"kind": "depth", "loss": "l2"},
    "depth_berhu": {"kind": "depth", "loss": "berhu"},
    "depth_silog": {"kind": "depth", "loss": "silog"},
    "stereo": {"kind": "disparity", "range": [1, 50]},
    "flow": {"kind": "regression", "channels": 2, "range": [-3, 3], "loss": "berhu"},
}


def tasks(*names):
    classes = {name: 3 for name, row in ROWS.items() if row["kind"] == "classes"}
    dataset = DatasetConfig(name="own", num_classes=classes, task_table={n: TaskConfig(**r) for n, r in ROWS.items()})
    return build_tasks(names or ROWS, num_classes=classes, edge_positive_weight=None, edge_max_distance=None,
                       rows=dataset.rows)  # fmt: skip


@pytest.fixture
def labels():
    """Random labels of which a part is invalid, in the last image all of them."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for task in tasks():
        label = task.kind.random(task, *SIZE).double() if not task.kind.class_map else None
        invalid = torch.rand(SIZE, generator=generator) < torch.tensor([0.2, 0.5, 1.0]).view(3, 1, 1)
        if label is None:
            found[task.name] = torch.randint(task.regions, SIZE, generator=generator).masked_fill(invalid, 255)
        else:
            found[task.name] = label.masked_fill(invalid.unsqueeze(1), task.kind.fill)
    return found


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(1)
    return {
        task.name: (3 * torch.randn(SIZE[0], task.channels, *SIZE[1:], generator=generator).double()).requires_grad_()
        for task in tasks()
    }


def pixel_losses(name, x, y):
    """By image: the list of the losses of its valid pixels, from predictions (n, C) and labels of these."""
    if name in ("weighted", "smoothed", "focal", "dice"):
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        log_p, picked = np.log(p), p[np.arange(len(y)), y]
        if name == "weighted":
            return [-(1.0, 2.0, 0.5)[c] * math.log(q) for c, q in zip(y, picked, strict=True)]
        if name == "smoothed":
            return [-0.7 * math.log(q) - 0.3 * row.mean() for q, row in zip(picked, log_p, strict=True)]
        if name == "focal":
            return [-((1 - q) ** 2) * math.log(q) for q in picked]
        scores = [(2 * p[y == c, c].sum() + 1) / (p[:, c].sum() + (y == c).sum() + 1) for c in range(3)]
        return [1 - sum(scores) / 3] * len(y)
    if name == "outline":  # an image so small has no tolerance
        p = 1 / (1 + np.exp(-x[:, 0]))
        precision, recall = ((p[y == 1].sum() + 1) / (size + 1) for size in (p.sum(), (y == 1).sum()))
        f = 2 * precision * recall / (precision + recall)
        return [1 - f - (0.9 * math.log(q) if c else 0.1 * math.log(1 - q)) for c, q in zip(y, p, strict=True)]
    error = np.abs(x - y)
    if name == "depth_l2":
        return (error**2).sum(1).tolist()
    if name == "stereo":
        return error.sum(1).tolist()
    if name == "depth_silog":
        log_x = [math.log(v) if v > 0.7 else math.log(0.7) + (v - 0.7) / 0.7 for v in x[:, 0]]
        d = np.array(log_x) - np.log(y[:, 0])
        return [(d**2).mean() - d.mean() ** 2 / 2] * len(y) if len(y) else []
    c = error.max() / 5 if len(y) else 1.0
    return np.where(error <= c, error, (error**2 + c**2) / (2 * c)).sum(1).tolist()


@pytest.mark.parametrize("name", ROWS)
def test_value_is_the_mean_over_valid_pixels_of_a_loop(name, labels, outputs):
    (task,) = tasks(name)
    term = build_losses([task])({name: outputs[name]}, {}, {name: labels[name]})[name]
    expected = []
    for image in range(SIZE[0]):
        valid = task.kind.valid(labels[name])[image].numpy()
        x = outputs[name][image].detach().movedim(0, -1).numpy()[valid]
        label = labels[name][image]
        y = label.numpy()[valid] if label.ndim == 2 else label.movedim(0, -1).numpy()[valid]
        expected += pixel_losses(name, x, y)
    assert 5 < len(expected) < 60 and term.item() == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_unlabelled_pixels_take_no_part_and_micro_batches_add_up(name, labels, outputs):
    (task,) = tasks(name)
    loss, x, label = build_losses([task]), outputs[name], labels[name]
    invalid = ~task.kind.valid(label)
    spoilt = x.detach().masked_fill(invalid.unsqueeze(1), math.nan).requires_grad_()
    (term,) = loss({name: spoilt}, {}, {name: label}).values()
    term.backward()
    assert spoilt.grad.isfinite().all() and not spoilt.grad.masked_select(invalid.unsqueeze(1)).any()
    assert spoilt.grad.any()
    counts = loss.counts({name: label})
    parts = [loss({name: x[i : i + 1]}, {}, {name: label[i : i + 1]}, counts)[name] for i in range(SIZE[0])]
    assert sum(parts).item() == pytest.approx(term.item(), rel=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_no_label_at_all_gives_exactly_0_with_its_graph(name, labels, outputs):
    (task,) = tasks(name)
    term = build_losses([task])({name: outputs[name]}, {}, {name: torch.full_like(labels[name], task.kind.fill)})[name]
    term.backward()
    assert term.item() == 0 and not outputs[name].grad.any()


def test_gradients_are_those_of_finite_differences(labels, outputs):
    for name in ("focal", "dice", "depth_silog", "smoothed"):
        loss = build_losses(tasks(name))
        assert torch.autograd.gradcheck(
            lambda x, name=name, loss=loss: loss({name: x}, {}, {name: labels[name][:2]})[name], outputs[name][:2]
        ), name


def test_scale_invariant_loss_halves_what_a_common_factor_costs():
    """Depths that are all wrong by one factor cost half of the squared logarithm (Eigen et al., eq. 4)."""
    (task,) = tasks("depth_silog")
    label = torch.empty(1, 1, 6, 7, dtype=torch.float64).uniform_(1, 5)
    term = build_losses([task])({task.name: 2 * label}, {}, {task.name: label})[task.name]
    assert term.item() == pytest.approx(math.log(2) ** 2 / 2)


def test_plain_cross_entropy_is_what_neutral_options_give(labels, outputs):
    (task,) = tasks("weighted")
    from dataclasses import replace

    plain, neutral = replace(task, class_weights=()), replace(task, class_weights=(1.0, 1.0, 1.0))
    first, second = (
        build_losses([row])({"weighted": outputs["weighted"]}, {}, {"weighted": labels["weighted"]})["weighted"]
        for row in (plain, neutral)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-12)
    assert first.item() == pytest.approx(
        F.cross_entropy(outputs["weighted"], labels["weighted"], ignore_index=255).item()
    )
