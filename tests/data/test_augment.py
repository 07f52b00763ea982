"""The transforms against a plain OpenCV and NumPy account of the published steps, and their properties."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from atrc_exp.data.augment import EvalTransform, TrainTransform
from atrc_exp.data.batch import Batch
from atrc_exp.data.finish import finish
from atrc_exp.data.readers.sample import Sample
from atrc_exp.normalisation import IMAGENET
from atrc_exp.tasks import IGNORE, TASKS

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
KINDS = tuple(TASKS[name] for name in ("semseg", "depth", "normals", "edge"))
FILL = {"classes": IGNORE, "binary": IGNORE, "depth": 0, "normals": 0}


def random_sample(size=(60, 80), seed=0) -> Sample:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 8, (6, 8), dtype=np.uint8)
    semseg = cv2.resize(cells, size[::-1], interpolation=cv2.INTER_NEAREST)
    semseg[:3] = IGNORE
    depth = rng.uniform(0.7, 10, size).astype(np.float32)
    depth[5:8, :20] = 0
    normals = rng.normal(size=(*size, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    normals[9:12, 10:] = 0
    return Sample(
        "0001",
        rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        {"semseg": semseg, "depth": depth, "normals": normals, "edge": (rng.random(size) < 0.1).astype(np.uint8)},
    )


def apply(transform: TrainTransform | EvalTransform, sample: Sample, seed=0) -> Batch:
    """The sample as the network gets it, without the dimension of the batch."""
    batch = finish(transform(sample, seed), transform.tasks, torch.device("cpu"), IMAGENET)
    return batch.map(lambda x: x[0])


def drawn(transform: TrainTransform) -> dict:
    """The parameters of the last call, by name of the step; empty for a step that was not applied."""
    return {type(step).__name__: step.get_applied_params() for step in transform.pipeline.transforms}


def distorted(image: np.ndarray, offset, contrast, contrast_last, saturation, hue) -> np.ndarray:
    def linear(values, factor, shift):
        return np.clip(values.astype(np.float32) * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)

    image = image.astype(np.uint8)
    if offset is not None:
        image = linear(image, 1, offset)
    if contrast is not None and not contrast_last:
        image = linear(image, contrast, 0)
    if saturation is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = linear(hsv[..., 1], saturation, 0)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if hue is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + hue) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if contrast is not None and contrast_last:
        image = linear(image, contrast, 0)
    return image


def padded(array: np.ndarray, size, fill) -> np.ndarray:
    down, right = (max(wanted - have, 0) for wanted, have in zip(size, array.shape, strict=False))
    pads = ((down // 2, down - down // 2), (right // 2, right - right // 2), *[(0, 0)] * (array.ndim - 2))
    return np.pad(array, pads, constant_values=fill)


def expected(sample: Sample, crop, tasks, params: dict) -> dict[str, np.ndarray]:
    """The published steps, one after the other, with the parameters that were drawn."""
    scale = params["ScaledCrop"]["scale"]
    left, top, right, bottom = params["ScaledCrop"]["crop_coords"]
    height, width = sample.image.shape[:2]
    new_size = (int(width * scale), int(height * scale))
    arrays = {"image": cv2.resize(sample.image.astype(np.float32), new_size, interpolation=cv2.INTER_LINEAR)}
    for task in tasks:
        label = cv2.resize(sample.labels[task.name], new_size, interpolation=cv2.INTER_NEAREST)
        arrays[task.name] = label / np.float32(scale) if task.label == "depth" else label
    assert (bottom - top, right - left) == (min(crop[0], new_size[1]), min(crop[1], new_size[0]))
    for name, array in arrays.items():
        arrays[name] = array[top:bottom, left:right]
        if params["HorizontalFlip"]:
            arrays[name] = arrays[name][:, ::-1]
    colours = params["PhotometricDistortion"]
    names = ("offset", "contrast", "contrast_last", "saturation", "hue")
    image = distorted(arrays.pop("image"), **{name: colours[name] for name in names})
    result = {"image": padded((image / 255 - MEAN) / STD, crop, 0).transpose(2, 0, 1)}
    for task in tasks:
        label = padded(arrays[task.name], crop, FILL[task.label])
        if task.label == "normals":
            label = label * ((-1, 1, 1) if params["HorizontalFlip"] else 1)
            label = label.transpose(2, 0, 1)
        result[task.name] = label[None] if task.label == "depth" else label
    return result


@pytest.mark.parametrize("size", [(60, 80), (41, 97), (90, 33)])
def test_training_steps_equal_the_published_ones(size):
    crop, sample, transform = (48, 64), random_sample(size), TrainTransform((48, 64), KINDS, "semseg")
    flips = set()
    for seed in range(25):
        result = apply(transform, sample, (3, seed))
        params = drawn(transform)
        flips.add(bool(params["HorizontalFlip"]))
        truth = expected(sample, crop, KINDS, params)
        np.testing.assert_allclose(result.image.numpy(), truth["image"], atol=1e-5)
        for task in KINDS:
            np.testing.assert_array_equal(result.labels[task.name].numpy(), truth[task.name], err_msg=task.name)
        left, top, right, bottom = params["ScaledCrop"]["crop_coords"]
        assert result.sizes.tolist() == [[bottom - top, right - left]] and result.ids == ["0001"]
    assert flips == {True, False}


def test_shapes_and_types():
    result = apply(TrainTransform((48, 64), KINDS, "semseg"), random_sample(), 5)
    assert result.image.shape == (3, 48, 64) and result.image.dtype == torch.float32
    shapes = {"semseg": (48, 64), "depth": (1, 48, 64), "normals": (3, 48, 64), "edge": (48, 64)}
    types = {"semseg": torch.int64, "depth": torch.float32, "normals": torch.float32, "edge": torch.int64}
    for name, label in result.labels.items():
        assert label.shape == shapes[name] and label.dtype == types[name]
    assert result.sizes.dtype == torch.int64


def test_the_kind_of_label_decides_not_the_name():
    names = {"semseg": "a", "depth": "b", "normals": "c", "edge": "d"}
    sample = random_sample()
    renamed = Sample("0001", sample.image, {names[name]: label for name, label in sample.labels.items()})
    tasks = tuple(replace(task, name=names[task.name]) for task in KINDS)
    one = TrainTransform((48, 64), KINDS, "semseg")
    other = TrainTransform((48, 64), tasks, crop_labels="a")
    for seed in range(8):
        first, second = apply(one, sample, seed).labels, apply(other, renamed, seed).labels
        for name, new in names.items():
            assert torch.equal(first[name], second[new])


def test_only_the_seed_decides():
    sample = random_sample()
    before = {name: label.copy() for name, label in sample.labels.items()}
    transform = TrainTransform((48, 64), KINDS, "semseg")
    first = [apply(transform, sample, (1, 2, index)) for index in range(6)]
    other = TrainTransform((48, 64), KINDS, "semseg")
    again = [apply(other, sample, (1, 2, index)) for index in reversed(range(6))][::-1]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.image, two.image)
        assert all(torch.equal(label, two.labels[name]) for name, label in one.labels.items())
    assert all(not torch.equal(first[0].image, other.image) for other in first[1:])
    for name, label in sample.labels.items():
        np.testing.assert_array_equal(label, before[name])


def test_crop_labels_need_not_be_a_task():
    sample, depth = random_sample(), KINDS[1:2]
    with_guide = TrainTransform((30, 40), depth, "semseg")
    result = apply(with_guide, sample, 4)
    assert list(result.labels) == ["depth"] and set(with_guide.names) == {"semseg", "depth"}
    assert torch.equal(
        result.labels["depth"], apply(TrainTransform((30, 40), KINDS, "semseg"), sample, 4).labels["depth"]
    )
    without = TrainTransform((30, 40), depth, crop_labels=None)
    assert without.names == ("depth",)
    assert apply(without, sample, 4).labels["depth"].shape == (1, 30, 40)


def test_draws_have_the_published_distributions():
    """Also that the steps share one stream: with the same seed in each, flips would follow from the scale."""
    transform, sample = TrainTransform((16, 16), KINDS[:1], "semseg"), random_sample((24, 32))
    scales, flips, colours = [], [], []
    for seed in range(600):
        transform(sample, seed)
        params = drawn(transform)
        scales.append(params["ScaledCrop"]["scale"])
        flips.append(bool(params["HorizontalFlip"]))
        colours.append(params["PhotometricDistortion"])
    scales, flips = np.array(scales), np.array(flips)
    assert 0.5 <= scales.min() < 0.52 and 1.98 < scales.max() <= 2.0
    assert abs(scales.mean() - 1.25) < 0.06  # sigma of the mean is 0.018
    assert abs(flips.mean() - 0.5) < 0.08  # sigma 0.02
    assert abs(flips[scales < 1.25].mean() - flips[scales >= 1.25].mean()) < 0.16  # sigma 0.04
    for name, low, high in (("offset", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5), ("hue", -18, 17)):
        values = np.array([draw[name] for draw in colours if draw[name] is not None])
        assert abs(len(values) / 600 - 0.5) < 0.08, name
        margin = 0 if name == "hue" else 0.02 * (high - low)
        assert low <= values.min() <= low + margin and high - margin <= values.max() <= high, name
    assert abs(np.mean([draw["contrast_last"] for draw in colours]) - 0.5) < 0.08
    assert {type(draw["hue"]) for draw in colours} == {int, type(None)}


def test_crops_mix_classes_where_they_can():
    """Class 1 fills all but a small corner: with tries, crops that are mixed get far more frequent."""
    semseg = np.ones((64, 64), dtype=np.uint8)
    semseg[:20, :20] = 2
    semseg[20:24] = IGNORE
    sample = Sample("0001", np.zeros((64, 64, 3), dtype=np.uint8), {"semseg": semseg})

    def share_of_mixed(crop_labels) -> float:
        transform = TrainTransform((16, 16), KINDS[:1], crop_labels)
        mixed = []
        for seed in range(200):
            counts = np.bincount(transform(sample, seed).labels["semseg"].flatten(), minlength=256)[:IGNORE]
            mixed.append(0 < counts.max() < 0.75 * counts.sum())
        return float(np.mean(mixed))

    once = share_of_mixed(None)
    assert 0.01 < once < 0.2
    # eleven independent draws, of which the last is not checked, fail with (1 - p) ** 11
    assert abs(share_of_mixed("semseg") - (1 - (1 - once) ** 11)) < 0.15


@pytest.mark.parametrize("fill", [3, IGNORE])
def test_a_crop_that_cannot_mix_is_taken_anyway(fill):
    sample = Sample("0001", np.zeros((40, 40, 3), np.uint8), {"semseg": np.full((40, 40), fill, np.uint8)})
    result = TrainTransform((16, 16), KINDS[:1], "semseg")(sample, 0)
    assert set(result.labels["semseg"].flatten().tolist()) == {fill}


def test_without_augmentation_only_the_centre_is_cut_out():
    sample = random_sample((60, 50))
    result = apply(TrainTransform((40, 64), KINDS, "semseg", augment=False), sample, 9)
    np.testing.assert_array_equal(result.labels["depth"][0], padded(sample.labels["depth"], (60, 64), 0)[10:50])
    np.testing.assert_array_equal(result.labels["edge"], padded(sample.labels["edge"], (60, 64), IGNORE)[10:50])
    image = padded((sample.image / 255 - MEAN) / STD, (60, 64), 0)[10:50].transpose(2, 0, 1)
    np.testing.assert_allclose(result.image, image, atol=1e-5)


@pytest.mark.parametrize(("size", "canvas"), [((37, 50), (48, 64)), ((60, 50), (48, 64)), ((60, 80), (48, 64))])
def test_evaluation_pads_and_never_shrinks(size, canvas):
    sample = random_sample(size)
    result = apply(EvalTransform(canvas, KINDS), sample)
    height, width = (max(own, wanted) for own, wanted in zip(size, canvas, strict=True))
    assert result.image.shape == (3, height, width) and result.sizes.tolist() == [list(size)]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    inside = np.s_[..., top : top + size[0], left : left + size[1]]
    image = ((sample.image / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(result.image[inside], image, atol=1e-5)
    outside = np.ones((height, width), dtype=bool)
    outside[inside[1:]] = False
    assert not result.image.numpy()[:, outside].any()
    for task in KINDS:
        label = sample.labels[task.name]
        shown = {"depth": label[None], "normals": label.T.swapaxes(-1, -2)}.get(task.label, label)
        np.testing.assert_array_equal(result.labels[task.name][inside], shown)
        assert (result.labels[task.name].numpy()[..., outside] == FILL[task.label]).all()


def test_parts_without_people_are_unlabelled():
    parts = TASKS["human_parts"]
    label = np.zeros((40, 40), dtype=np.uint8)
    label[:2] = IGNORE
    empty = Sample("0001", np.zeros((40, 40, 3), np.uint8), {"human_parts": label})
    person = Sample("0002", empty.image, {"human_parts": label.copy()})
    person.labels["human_parts"][20, 20] = 6
    evaluate = EvalTransform((48, 48), [parts])
    assert (apply(evaluate, empty).labels["human_parts"] == IGNORE).all()
    assert apply(evaluate, person).labels["human_parts"].unique().tolist() == [0, 6, IGNORE]
    train = TrainTransform((16, 16), [parts], crop_labels=None)
    seen = {tuple(apply(train, person, seed).labels["human_parts"].unique().tolist()) for seed in range(60)}
    assert (IGNORE,) in seen and any(6 in values for values in seen)
    assert all(values == (IGNORE,) or 6 in values for values in seen)  # the crop decides, not the image
    background = EvalTransform((48, 48), [replace(parts, background_is_unlabelled=False)])
    assert 0 in apply(background, empty).labels["human_parts"]


def test_flipping_twice_gives_the_sample_back():
    import albumentations as A

    from atrc_exp.data.augment import HorizontalFlip

    kinds = {task.name: task.kind for task in KINDS}
    flip = HorizontalFlip(kinds)
    flip.p = 1.0
    pipeline, sample = A.Compose([flip], additional_targets=dict.fromkeys(kinds, "mask")), random_sample()
    once = pipeline(image=sample.image, **sample.labels)
    np.testing.assert_array_equal(once["normals"][..., 0], -sample.labels["normals"][:, ::-1, 0])
    twice = pipeline(**once)
    np.testing.assert_array_equal(twice["image"], sample.image)
    for name, label in sample.labels.items():
        np.testing.assert_array_equal(twice[name], label)
