"""The training augmentation replayed with scripted draws, against the published steps as a loop over pixels."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_augment import MEAN, STD, apply, distorted

from atrc_exp.data.augment import TrainTransform
from atrc_exp.data.batch import Batch
from atrc_exp.data.readers.sample import Sample
from atrc_exp.tasks import IGNORE, TASKS

CROP, SIZE = (16, 20), (14, 18)
KINDS = tuple(TASKS[name] for name in ("semseg", "human_parts", "depth", "normals", "edge"))
FILL = {"semseg": IGNORE, "human_parts": IGNORE, "edge": IGNORE, "depth": 0, "normals": (0, 0, 0)}


@dataclass
class Script:
    """What is drawn, in the order of the published steps; None where a step's coin says no."""

    scale: float
    places: list[tuple[int, int]]
    """(top, left) of the crop, one after the other until one is taken."""
    flip: bool
    offset: float | None = None
    contrast: float | None = None
    contrast_last: bool = False
    saturation: float | None = None
    hue: int | None = None


class Draws(random.Random):
    """Gives the values it was made from, each for the kind of draw and the range it stands for."""

    def __init__(self, values: list[tuple[tuple, float]]) -> None:
        super().__init__()
        self.values = values

    def _next(self, *asked: object):
        expected, value = self.values.pop(0)
        assert asked == expected
        return value

    def uniform(self, low, high):
        return self._next("uniform", low, high)

    def randint(self, low, high):
        return self._next("randint", low, high)

    def random(self):
        return self._next("coin")


def replayed(script: Script, transform: TrainTransform, sample: Sample) -> Batch:
    """The sample as the network gets it; all draws of the script have been asked for."""
    crop, flip, colours = transform.pipeline.transforms
    height, width = (int(side * script.scale) for side in sample.image.shape[:2])
    ranges = (0, max(height - CROP[0], 0)), (0, max(width - CROP[1], 0))
    places = [
        (("randint", *given), value) for place in script.places for given, value in zip(ranges, place, strict=True)
    ]
    optional = (
        (script.offset, ("uniform", -32, 32)),
        (script.contrast, ("uniform", 0.5, 1.5)),
        (script.contrast_last, None),
        (script.saturation, ("uniform", 0.5, 1.5)),
        (script.hue, ("randint", -18, 17)),
    )
    coins = []
    for value, asked in optional:
        chosen = value if asked is None else value is not None
        coins.append((("coin",), 0.49 if chosen else 0.5))
        coins += [(asked, value)] if asked is not None and chosen else []
    lists = (Draws([(("uniform", 0.5, 2.0), script.scale), *places]), Draws(coins))
    # Only in the methods that draw: whether a step is applied at all is drawn by albumentations, in its own way.
    for step, name, draws in zip((crop, colours), ("get_params_dependent_on_data", "get_params"), lists, strict=True):
        original = getattr(type(step), name)

        def scripted(*, step=step, original=original, draws=draws, **given):
            before, step.py_random = step.py_random, draws
            try:
                return original(step, **given)
            finally:
                step.py_random = before

        setattr(step, name, scripted)
    flip.p = float(script.flip)
    result = apply(transform, sample)
    assert not any(draws.values for draws in lists)
    return result


def plain(script: Script, sample: Sample) -> dict[str, np.ndarray]:
    """The image in 0 to 255, before normalisation and NaN where it is padded, and the labels, channels last."""
    old, new = sample.image.shape[:2], [int(side * script.scale) for side in sample.image.shape[:2]]
    content = [min(wanted, side) for wanted, side in zip(CROP, new, strict=True)]
    shift = [(wanted - own) // 2 for wanted, own in zip(CROP, content, strict=True)]
    (top, left), ratio = script.places[-1], [a / b for a, b in zip(old, new, strict=True)]
    image = np.zeros((*content, 3), np.uint8)
    labels = {t.name: np.full((*CROP, *sample.labels[t.name].shape[2:]), FILL[t.name], np.float32) for t in KINDS}
    for row in range(content[0]):
        for column in range(content[1]):
            y, x = top + row, left + (content[1] - 1 - column if script.flip else column)
            image[row, column] = interpolated(sample.image, (y + 0.5) * ratio[0] - 0.5, (x + 0.5) * ratio[1] - 0.5)
            for name, label in sample.labels.items():
                value = label[int(y * ratio[0]), int(x * ratio[1])]
                if name == "depth":
                    value = value / np.float32(script.scale)
                if name == "normals" and script.flip:
                    value = value * (-1, 1, 1)
                labels[name][row + shift[0], column + shift[1]] = value
    colours = (script.offset, script.contrast, script.contrast_last, script.saturation, script.hue)
    padded = np.full((*CROP, 3), np.nan)
    padded[shift[0] : shift[0] + content[0], shift[1] : shift[1] + content[1]] = distorted(image, *colours)
    if not np.isin(labels["human_parts"], range(1, 7)).any():
        labels["human_parts"][:] = IGNORE
    return {"image": padded, **labels}


def interpolated(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear value at a position, truncated to 8 bits."""
    y, x = (min(max(p, 0.0), side - 1.0) for p, side in zip((y, x), image.shape, strict=False))
    total = np.zeros(3)
    for row, share_y in ((int(y), 1 - y % 1), (min(int(y) + 1, image.shape[0] - 1), y % 1)):
        for column, share_x in ((int(x), 1 - x % 1), (min(int(x) + 1, image.shape[1] - 1), x % 1)):
            total += share_y * share_x * image[row, column]
    return total.astype(np.uint8)


@pytest.fixture
def sample() -> Sample:
    """Class 3 on the left, class 5 in the right third, a person in one corner, holes in depth and normals."""
    rng = np.random.default_rng(0)
    semseg, parts = np.full(SIZE, 3, np.uint8), np.zeros(SIZE, np.uint8)
    semseg[:, 12:], semseg[0], parts[9:, 13:] = 5, IGNORE, 4
    depth = rng.uniform(1, 9, SIZE).astype(np.float32)
    normals = rng.normal(size=(*SIZE, 3)).astype(np.float32)
    depth[2:5, 3:9], normals[6:8] = 0, 0
    edge = (rng.random(SIZE) < 0.2).astype(np.uint8)
    labels = {"semseg": semseg, "human_parts": parts, "depth": depth, "normals": normals, "edge": edge}
    return Sample("0001", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), labels)


# At 1/2, 1 and 2 the interpolated values are exact, so that truncation has one result.
SCRIPTS = {
    "the third place mixes classes": Script(2.0, [(0, 0), (12, 1), (7, 13)], True, 20.5, 1.25, False, 0.75, -18),
    "contrast last": Script(2.0, [(12, 16)], False, -31.5, 0.5, True, 1.5, 17),
    "no place mixes, the last is taken unseen": Script(2.0, [(i, i % 4) for i in range(10)] + [(3, 2)], True),
    "padded on all sides": Script(1.0, [(0, 0)], True, contrast=1.5),
    "half the size": Script(0.5, [(0, 0)], False, hue=5),
    "only saturation": Script(1.0, [(0, 0)], False, saturation=0.5),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripted_draws_give_what_a_loop_over_pixels_does(sample, name):
    script = SCRIPTS[name]
    found, expected = replayed(script, TrainTransform(CROP, KINDS, "semseg"), sample), plain(script, sample)
    image = np.nan_to_num((expected["image"] / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(found.image, image, atol=1e-5)
    for task in KINDS:
        label = found.labels[task.name]
        label = label[0] if task.label == "depth" else label.permute(1, 2, 0) if task.label == "normals" else label
        np.testing.assert_array_equal(label, torch.from_numpy(expected[task.name]), err_msg=task.name)


def test_the_script_covers_what_is_told_of_it(sample):
    """The person is lost in one crop and kept in another, and there is padding to fill."""
    parts = {name: plain(script, sample)["human_parts"] for name, script in SCRIPTS.items()}
    assert (parts["no place mixes, the last is taken unseen"] == IGNORE).all()
    assert set(np.unique(parts["padded on all sides"])) == {0, 4, IGNORE}
