"""What kinds know of label maps beyond the published tasks, and docs/add_a_kind.md followed word for word."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from atrc_exp.config import DatasetConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.data.augment import EvalTransform, TrainTransform
from atrc_exp.data.finish import finish
from atrc_exp.data.readers.sample import Sample
from atrc_exp.normalisation import IMAGENET
from atrc_exp.tasks import KINDS, Task
from atrc_exp.tasks.regions import region_labels

SIZE = (40, 52)
PAGE = (Path(__file__).parents[2] / "docs" / "add_a_kind.md").read_text()
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def task_of(name="own", **row) -> Task:
    return DatasetConfig(name="own", task_table={name: TaskConfig(**row)}).rows[name]


def transformed(transform, sample, seed=0):
    batch = finish(transform(sample, seed), transform.tasks, torch.device("cpu"), IMAGENET)
    return batch.map(lambda x: x[0])


def sample_with(task: Task, label: np.ndarray) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (*label.shape[:2], 3), dtype=np.uint8)
    return Sample("one", image, {task.name: label.copy()})


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_padding_of_a_regression_is_invalid_in_every_number_of_channels(channels):
    task = task_of(kind="regression", channels=channels, range=[-5, 5])
    label = np.random.default_rng(1).normal(size=(*SIZE, channels)).astype(np.float32)
    found = transformed(EvalTransform((48, 64), [task]), sample_with(task, label if channels > 1 else label[..., 0]))
    batch = found.labels["own"][None]
    valid = task.kind.valid(batch)[0]
    assert batch.shape == (1, channels, 48, 64) and valid.sum() == SIZE[0] * SIZE[1]
    np.testing.assert_array_equal(batch[0][:, valid].reshape(channels, *SIZE), np.moveaxis(label, 2, 0))
    crop = transformed(
        TrainTransform((64, 80), [task], None), sample_with(task, label if channels > 1 else label[..., 0])
    )
    values = crop.labels["own"]
    inside = task.kind.valid(values[None])[0]
    assert 0 < inside.sum() < inside.numel() and np.isin(values[:, inside].numpy(), label).all()


def test_values_of_a_regression_stay_and_those_of_depth_and_disparity_scale():
    label = np.full(SIZE, 8.0, np.float32)
    factors = {"regression": lambda scale: 1.0, "depth": lambda scale: 1 / scale, "disparity": lambda scale: scale}
    rows = {"regression": {"channels": 1, "range": [0, 9]}, "depth": {}, "disparity": {"range": [1, 99]}}
    for kind, factor in factors.items():
        task = task_of(kind=kind, **rows[kind])
        transform = TrainTransform((32, 32), [task], None)
        values = transformed(transform, sample_with(task, label)).labels["own"]
        (found,) = values[0][task.kind.valid(values[None])[0]].unique()
        scale = transform.pipeline.transforms[0].get_applied_params()["scale"]
        assert scale != 1 and found.item() == pytest.approx(8 * factor(scale), rel=1e-5)


def test_bins_of_a_channel_and_of_the_norm():
    values = torch.tensor([[-3.0, 0.0], [-1.0, 1.0], [0.0, 0.4], [2.9, -2.0], [50.0, 50.0], [math.nan, 1.0]])
    label = values.T.reshape(1, 2, 1, 6)
    first = task_of(kind="regression", channels=2, range=[-3, 3], regions=6, bins_of=0)
    assert region_labels(first, label).flatten().tolist() == [0, 2, 3, 5, 5, 255]
    norm = task_of(kind="regression", channels=2, range=[-3, 1], regions=4)  # up to 3 sqrt 2 = 4.243 in steps of 1.061
    assert region_labels(norm, label).flatten().tolist() == [2, 1, 0, 3, 3, 255]
    names = norm.kind.region_names(norm, None)
    assert names[0] == "norm 0 to 1.061" and names[-1] == "norm 3.182 to 4.243"
    assert first.kind.region_names(first, None)[1] == "channel 0 -2 to -1"


def test_bins_of_disparity_are_logarithmic_over_its_range():
    task = task_of(kind="disparity", range=[1, 16], regions=4)
    label = torch.tensor([0.0, 0.5, 1.5, 3.0, 7.0, 15.0, 90.0]).view(1, 1, 1, 7)
    assert region_labels(task, label).flatten().tolist() == [255, 0, 0, 1, 2, 3, 3]
    logits = torch.full((1, 4, 1, 1), -100.0)
    logits[0, 2] = 100.0
    assert task.kind.from_regions(task, logits, None).item() == pytest.approx(math.sqrt(4 * 8))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_stored_of_a_regression_comes_back_and_can_be_shown(channels):
    task = task_of(kind="regression", channels=channels, range=[-1, 3])
    output = 2 * torch.randn(channels, 5, 7)
    stored = task.kind.store(output).numpy()
    assert stored.shape == ((5, 7, channels) if channels > 1 else (5, 7))
    torch.testing.assert_close(task.kind.restore(task, stored), output)
    label = output.clone()
    label[0, 0, 0] = math.nan
    above, below = task.kind.pictures(task, label, output)
    assert above.shape == below.shape == (5, 7, 3) and above[0, 0].tolist() == [0.5] * 3
    np.testing.assert_allclose(above[1:], below[1:])
    assert above.min() >= 0 and above.max() <= 1


def test_doubts_of_own_values():
    regression = task_of(kind="regression", channels=1, range=[0, 1])
    disparity = task_of(kind="disparity", range=[1, 64])
    right = np.random.default_rng(0).uniform(0.1, 1, SIZE).astype(np.float32)
    for task, label in ((regression, right), (disparity, 60 * right)):
        assert list(task.kind.doubts(task, label)) == []
        (doubt,) = task.kind.doubts(task, 1000 * label)
        assert "own.scale" in doubt.cure and "own.range" in doubt.cure
        (doubt,) = task.kind.doubts(task, task.kind.unlabelled(task, SIZE))
        assert doubt.what == "no labelled pixel"


def test_a_kind_in_one_file_and_one_line(monkeypatch):
    """The page's class is registered, its row becomes a task, and flow turns and grows with the image."""
    space = {}
    exec(BLOCKS["python"], space)
    monkeypatch.setitem(KINDS, "flow", space["Flow"]())
    ((name, row),) = yaml.safe_load(BLOCKS["yaml"]).items()
    task = task_of(name, **row)
    assert (task.channels, task.regions, task.loss, task.unit) == (2, 40, "berhu", "px")
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    flow = np.stack([columns + 1, rows + 1], axis=2)  # of an image that grows to twice its size
    transform = TrainTransform((64, 96), [task], None)
    turned = set()
    for seed in range(8):
        values = transformed(transform, sample_with(task, flow), seed).labels[name]
        x, y = values[:, task.kind.valid(values[None])[0]]
        scale = transform.pipeline.transforms[0].get_applied_params()["scale"]
        mirrored = bool((x < 0).all())
        assert mirrored or bool((x > 0).all())
        turned.add(mirrored)
        for found, whole in ((x.abs() / scale, flow[..., 0]), (y / scale, flow[..., 1])):
            assert (found - found.round()).abs().max() < 1e-3 and found.max() <= whole.max() + 1e-3
    assert turned == {True, False}
