"""Metrics that only tasks of one's own can have: worked numbers, and torchmetrics as the oracle where it has them."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from atrc_exp.config import DatasetConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.metrics import build_metrics, is_summed
from atrc_exp.tasks import KINDS, build_tasks


def task_of(kind, metric, **row):
    if kind == "disparity":
        row.setdefault("range", [1.0, 64.0])
    if kind == "regression":
        row = {"range": [-1.0, 2.0], "channels": 2, **row}
    config = TaskConfig(kind=kind, metric=metric, **row)
    classes = {"own": 4} if kind == "classes" else {}
    rows = DatasetConfig(name="own", num_classes=classes, task_table={"own": config}).rows
    (task,) = build_tasks(["own"], num_classes=classes, edge_positive_weight=None, edge_max_distance=None, rows=rows)
    return task


def scores(task, *batches):
    (metric,) = build_metrics([task]).values()
    for prediction, label in batches:
        metric.update(prediction, label)
    return metric.compute()


@pytest.mark.parametrize(("kind", "metric"), [(k.name, m) for k in KINDS.values() for m in k.metrics if m != "ods_f"])
def test_every_headline_is_computed_and_perfect_predictions_are_best(kind, metric):
    task = task_of(kind, metric)
    assert is_summed(task)
    label = task.kind.random(task, 2, 13, 14)
    restored = [task.kind.restore(task, task.kind.store(_output(task, one)).numpy()) for one in label]
    found = scores(task, (torch.stack(restored), label))
    wrong = scores(task, (torch.stack(restored).flip(3), label))
    better = found[metric] > wrong[metric] if task.higher_is_better else found[metric] < wrong[metric]
    assert better and math.isfinite(wrong[metric])
    assert math.isnan(scores(task, (torch.stack(restored), torch.full_like(label, task.kind.fill)))[metric]) or (
        task.kind.class_map
    )


def _output(task, label):
    """A network output that is right."""
    return 9.0 * torch.nn.functional.one_hot(label, task.channels).movedim(-1, 0) if task.kind.class_map else label


def test_ratios_of_worked_numbers():
    task = task_of("depth", "abs_rel")
    label = torch.tensor([1.0, 2.0, 4.0, 0.0]).view(1, 1, 2, 2)
    found = scores(task, (torch.tensor([1.2, 3.0, 4.0, 9.0]).view(1, 1, 2, 2), label))
    assert found == pytest.approx({
        "abs_rel": (0.2 + 0.5) / 3, "sq_rel": (0.04 + 0.5) / 3, "mae": 1.2 / 3, "rmse": math.sqrt(1.04 / 3),
        "log_rmse": math.sqrt((math.log(1.2) ** 2 + math.log(1.5) ** 2) / 3),
        "delta_1": 2 / 3, "delta_2": 1.0, "delta_3": 1.0, "invalid_pixels": 1.0,
    }, abs=1e-6)  # fmt: skip
    negative = scores(task, (torch.full((1, 1, 2, 2), -5.0), label))  # counts as a thousandth
    assert negative["rmse"] == pytest.approx(math.sqrt((0.999**2 + 1.999**2 + 3.999**2) / 3))
    assert negative["log_rmse"] == pytest.approx(
        math.sqrt(sum(math.log(1000 * depth) ** 2 for depth in (1, 2, 4)) / 3), rel=1e-6
    )


def test_values_and_binary_maps_agree_with_torchmetrics():
    from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex
    from torchmetrics.image import PeakSignalNoiseRatio

    generator = torch.Generator().manual_seed(0)
    prediction, label = (torch.rand(3, 2, 8, 9, generator=generator) for _ in range(2))
    task = task_of("regression", "psnr")
    found = scores(task, (prediction[:1], label[:1]), (prediction[1:], label[1:]))
    assert found["psnr"] == pytest.approx(PeakSignalNoiseRatio(data_range=3.0)(prediction, label).item(), rel=1e-5)
    label[0, 1, :4] = math.nan  # one channel is enough
    valid = label.isfinite().all(1)
    error = (prediction - label).movedim(1, -1)[valid]
    found = scores(task, (prediction, label))
    assert found["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5) and found["invalid_pixels"] == 36

    logits = torch.randn(3, 2, 8, 9, generator=generator)
    label = torch.randint(2, (3, 8, 9), generator=generator)
    label[1, :3] = 255
    p, y = logits.softmax(1)[:, 1][label != 255], label[label != 255]
    found = scores(task_of("binary", "f"), (logits[:2], label[:2]), (logits[2:], label[2:]))
    assert found["f"] == pytest.approx(BinaryF1Score()(p, y).item(), rel=1e-6)
    assert found["iou"] == pytest.approx(BinaryJaccardIndex()(p, y).item(), rel=1e-6)
    one = logits[:, 1:] - logits[:, :1]  # the same probabilities from one logit
    assert scores(task_of("binary", "f"), (one, label)) == pytest.approx(found)


def test_pixel_accuracy_is_the_share_of_right_pixels():
    label = torch.tensor([[[0, 1, 2, 255, 3]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 0, 3]]]), 4).movedim(-1, 1).float()
    found = scores(task_of("classes", "pixel_accuracy"), (logits, label))
    assert found == {"pixel_accuracy": 0.75, "miou": pytest.approx((1 + 0.5 + 0 + 1) / 4)}


def test_structural_similarity_is_that_of_scikit_image_over_whole_windows():
    task, draw = task_of("regression", "ssim"), torch.Generator().manual_seed(5)
    label = torch.rand(2, 2, 24, 30, generator=draw) * 3 - 1
    prediction = label + 0.3 * torch.randn(label.shape, generator=draw)
    label[1, 0, 12, 3] = math.nan
    total, count = 0.0, 0
    for image, own, found in zip((0, 0, 1, 1), label.nan_to_num().flatten(0, 1), prediction.flatten(0, 1), strict=True):
        maps = structural_similarity(own.double().numpy(), found.double().numpy(), data_range=3.0, full=True, sigma=1.5,
                                     gaussian_weights=True, use_sample_covariance=False)[1]  # fmt: skip
        windows = [(y, x) for y in range(5, 19) for x in range(5, 25)
                   if image == 0 or abs(y - 12) > 5 or abs(x - 3) > 5]  # fmt: skip
        total, count = total + sum(maps[at] for at in windows), count + len(windows)
    found = scores(task, (prediction[:1], label[:1]), (prediction[1:], label[1:]))
    assert found["ssim"] == pytest.approx(total / count, abs=1e-6)
    small = scores(task, (prediction[..., :10], label[..., :10]))
    assert math.isnan(small["ssim"]) and math.isfinite(small["psnr"])
