"""Mean IoU against torchmetrics' own Jaccard index and worked counts."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from atrc_exp.metrics.miou import MeanIoU


def one_hot(prediction, classes):
    return torch.nn.functional.one_hot(torch.tensor(prediction), classes).movedim(-1, 1).float()


def test_equals_the_jaccard_index_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = MeanIoU(5), MulticlassJaccardIndex(5, ignore_index=255)
    for _ in range(3):
        scores = torch.randn(2, 5, 9, 7, generator=generator)
        label = torch.randint(5, (2, 9, 7), generator=generator)
        label[torch.rand(label.shape, generator=generator) < 0.2] = 255
        ours.update(scores, label)
        theirs.update(scores.argmax(1), label)
    assert ours.compute()["miou"] == pytest.approx(theirs.compute().item(), abs=1e-6)


def test_worked_counts():
    """Labels 0 0 1 1 255, predictions 0 1 1 1 0: IoU 1/2 and 2/3; class 2 never occurs."""
    label, prediction = torch.tensor([[[0, 0, 1, 1, 255]]]), one_hot([[[0, 1, 1, 1, 0]]], 3)
    zero, skip = MeanIoU(3), MeanIoU(3, absent="skip")
    for metric in (zero, skip):
        metric.update(prediction, label)
    assert zero.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert zero.confusion.dtype == torch.int64
    assert zero.compute()["miou"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert skip.compute()["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert zero.per_class() == skip.per_class() == [1 / 2, 2 / 3, None]


def test_a_class_that_is_only_predicted_counts_under_both_rules():
    for absent in ("zero", "skip"):
        metric = MeanIoU(2, absent=absent)
        metric.update(one_hot([[[0, 1]]], 2), torch.tensor([[[0, 0]]]))
        assert metric.compute()["miou"] == pytest.approx(0.25)
        assert metric.per_class() == [0.5, 0.0]


def test_counts_stay_exact_beyond_single_precision():
    metric = MeanIoU(2)
    metric.confusion.fill_(2**24)
    metric.update(one_hot([[[0, 1]]], 2), torch.tensor([[[0, 1]]]))
    assert metric.confusion.tolist() == [[2**24 + 1, 2**24], [2**24, 2**24 + 1]]


@pytest.mark.parametrize("wrong", [3, 254])
def test_a_label_out_of_range_raises_with_its_value(wrong):
    with pytest.raises(ValueError, match=f"label {wrong}"):
        MeanIoU(3).update(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, wrong]]]))


def test_only_unlabelled_pixels():
    label = torch.full((1, 2, 2), 255)
    zero, skip = MeanIoU(2), MeanIoU(2, absent="skip")
    for metric in (zero, skip):
        metric.update(torch.zeros(1, 2, 2, 2), label)
    assert zero.compute()["miou"] == 0
    assert math.isnan(skip.compute()["miou"])


def test_the_absent_rule_is_checked():
    with pytest.raises(ValueError, match="zero or skip"):
        MeanIoU(2, absent="mean")
