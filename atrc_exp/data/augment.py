"""From a decoded sample to tensors: the training augmentation of the published code and its test-time part.

The geometry and normalisation come from albumentations. What it lacks is added by kind of label (`Task.label`): depth
shrinks as the image is magnified, normals turn at a mirror, padding has a value for each kind, crops avoid single-class
regions, and the colour distortion works in the published order on 8-bit values.
"""

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.augmentations.crops.transforms import BaseCrop
from torch import Tensor

from atrc_exp.data.sample import Sample
from atrc_exp.tasks import IGNORE, Task

CROP_LABELS = "semseg"  # the class map whose classes a training crop should mix, also where it is no task of the run
MEAN = (0.485, 0.456, 0.406)  # of RGB / 255
STD = (0.229, 0.224, 0.225)
_CROP_SHARE = 0.75
_CROP_TRIES = 10


class RandomScale(A.RandomScale):
    """Scale by s ~ U(0.5, 2) to (int(H s), int(W s)): image bilinear, labels nearest, depth divided by s."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        super().__init__((-0.5, 1.0), cv2.INTER_LINEAR, cv2.INTER_NEAREST, p=1.0)
        self.depths = _of_kind(kinds, "depth")

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        result = super().apply_with_params(params, *args, **data)
        for key in self.depths:
            result[key] = result[key] / np.float32(params["scale"])
        return result


class CategoryCrop(BaseCrop):
    """Random crop to at most `height` x `width` in which no class holds 75 % or more of the labelled pixels.

    A location that fails is drawn again up to ten times; the last one is taken as it is. Without a class map `labels`
    the first location is taken.
    """

    def __init__(self, height: int, width: int, labels: str | None) -> None:
        super().__init__(p=1.0)
        self.height, self.width, self.labels = height, width, labels

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        labels = data[self.labels] if self.labels else None
        left, top, right, bottom = box = self._draw(*params["shape"][:2])
        for _ in range(_CROP_TRIES):
            if labels is None or _mixes_classes(labels[top:bottom, left:right]):
                break
            left, top, right, bottom = box = self._draw(*params["shape"][:2])
        return {"crop_coords": box}

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        top = self.py_random.randint(0, max(height - self.height, 0))
        left = self.py_random.randint(0, max(width - self.width, 0))
        return left, top, min(left + self.width, width), min(top + self.height, height)


class HorizontalFlip(A.HorizontalFlip):
    """Mirror everything with probability one half; normals point the other way in x."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        super().__init__(p=0.5)
        self.normals = _of_kind(kinds, "normals")

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        result = super().apply_with_params(params, *args, **data)
        for key in self.normals:
            result[key][..., 0] *= -1  # in place: a flip is a new array
        return result


class PhotometricDistortion(A.ImageOnlyTransform):
    """Brightness, contrast, saturation and hue, each with probability one half, on 8-bit RGB.

    Contrast comes right after brightness or last, by a fair coin. Every step clips and truncates to 8 bits, as the
    published code does; A.ColorJitter draws from other ranges, in any order, and has no such steps.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def get_params(self) -> dict[str, Any]:
        draw = self.py_random
        return {
            "offset": draw.uniform(-32, 32) if draw.random() < 0.5 else None,
            "contrast": draw.uniform(0.5, 1.5) if draw.random() < 0.5 else None,
            "contrast_last": draw.random() < 0.5,
            "saturation": draw.uniform(0.5, 1.5) if draw.random() < 0.5 else None,
            "hue": draw.randint(-18, 17) if draw.random() < 0.5 else None,
        }

    def apply(
        self,
        img: np.ndarray,
        offset: float | None,
        contrast: float | None,
        contrast_last: bool,
        saturation: float | None,
        hue: int | None,
        **params: Any,
    ) -> np.ndarray:
        img = img.astype(np.uint8)
        if offset is not None:
            img = cv2.LUT(img, _linear_table(1.0, offset))
        if contrast is not None and not contrast_last:
            img = cv2.LUT(img, _linear_table(contrast, 0.0))
        if saturation is not None:
            img = _in_hsv(img, saturation=_linear_table(saturation, 0.0))
        if hue is not None:
            img = _in_hsv(img, hue=((np.arange(256) + hue) % 180).astype(np.uint8))  # OpenCV's hue has 180 steps
        if contrast is not None and contrast_last:
            img = cv2.LUT(img, _linear_table(contrast, 0.0))
        return img


class CentrePad(A.PadIfNeeded):
    """Pad to at least `height` x `width`: image, depth and normals by 0, class maps by 255."""

    def __init__(self, height: int, width: int, kinds: Mapping[str, str]) -> None:
        super().__init__(height, width, border_mode=cv2.BORDER_CONSTANT, fill=0.0, fill_mask=IGNORE, p=1.0)
        self.measured = [*_of_kind(kinds, "depth"), *_of_kind(kinds, "normals")]

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        if not any(params[f"pad_{side}"] for side in ("top", "bottom", "left", "right")):
            return data
        others = {key: value for key, value in data.items() if key not in self.measured}
        as_image = {key: self.apply(data[key], **params) for key in self.measured}
        return super().apply_with_params(params, *args, **others) | as_image


class TrainTransform:
    """Random scale, crop, flip and colours, then normalised and padded to the crop size.

    Args:
        crop: height and width of the result.
        tasks: the tasks whose labels the result holds.
        crop_labels: class map that guides the crop; it need not be a task. None for data without one.
        augment: false takes the centre crop and changes nothing.
    """

    def __init__(
        self, crop: Sequence[int], tasks: Sequence[Task], crop_labels: str | None = CROP_LABELS, *, augment: bool = True
    ) -> None:
        self.tasks = tuple(tasks)
        self.size = (crop[0], crop[1])
        kinds = {task.name: task.label for task in tasks}
        if crop_labels is not None:
            kinds.setdefault(crop_labels, "classes")
        self.names = tuple(kinds)
        random_steps = [
            RandomScale(kinds),
            CategoryCrop(*self.size, crop_labels),
            HorizontalFlip(kinds),
            PhotometricDistortion(),
        ]
        padded = _normalised_and_padded(self.size, kinds)
        self.pipeline = _compose([*random_steps, *padded] if augment else [*padded, A.CenterCrop(*self.size)], kinds)

    def __call__(self, sample: Sample, rng_seed: int | Sequence[int]) -> dict[str, Any]:
        """Return `{"image": (3, h, w) float32, "labels": {task: tensor}, "id", "size": (2,) int64}`, all of crop size.

        Everything random is a function of `rng_seed` alone.
        """
        seed = int(np.random.SeedSequence(rng_seed).generate_state(1, np.uint64)[0])
        # One stream for all steps: Compose.set_random_seed would start the same stream anew in each of them, and
        # every image scaled below 1.25 would be flipped.
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        labels = {name: sample.labels[name] for name in self.names}
        result = self.pipeline(image=sample.image.astype(np.float32), **labels)
        return _to_tensors(sample.id, result, self.tasks, self.size)


class EvalTransform:
    """Normalise and centre-pad to the canvas, or to the image's own size where that is larger."""

    def __init__(self, canvas: Sequence[int], tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        kinds = {task.name: task.label for task in tasks}
        self.names = tuple(kinds)
        self.pipeline = _compose(_normalised_and_padded((canvas[0], canvas[1]), kinds), kinds)

    def __call__(self, sample: Sample, rng_seed: int | Sequence[int] = 0) -> dict[str, Any]:
        """Return the dictionary of `TrainTransform` with the original height and width as "size"; nothing is random."""
        result = self.pipeline(image=sample.image, **{name: sample.labels[name] for name in self.names})
        return _to_tensors(sample.id, result, self.tasks, sample.image.shape[:2])


def _compose(steps: Sequence[A.BasicTransform], kinds: Mapping[str, str]) -> A.Compose:
    return A.Compose(list(steps), additional_targets=dict.fromkeys(kinds, "mask"))


def _normalised_and_padded(size: tuple[int, int], kinds: Mapping[str, str]) -> list[A.BasicTransform]:
    return [A.Normalize(MEAN, STD), CentrePad(*size, kinds)]


def _of_kind(kinds: Mapping[str, str], kind: str) -> list[str]:
    return [name for name, own in kinds.items() if own == kind]


def _mixes_classes(labels: np.ndarray) -> bool:
    counts = cv2.calcHist([labels], [0], None, [IGNORE], [0, IGNORE])  # leaves 255 out
    return bool(np.count_nonzero(counts) > 1 and counts.max() < _CROP_SHARE * counts.sum())


def _linear_table(factor: float, offset: float) -> np.ndarray:
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return np.clip(values, 0, 255).astype(np.uint8)


def _in_hsv(image: np.ndarray, hue: np.ndarray | None = None, saturation: np.ndarray | None = None) -> np.ndarray:
    """Map hue or saturation by a table of 256 values."""
    same = np.arange(256, dtype=np.uint8)
    table = np.stack([same if hue is None else hue, same if saturation is None else saturation, same], axis=-1)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)


def _to_tensors(id: str, data: dict[str, Any], tasks: Sequence[Task], size: Sequence[int]) -> dict[str, Any]:
    labels = {}
    for task in tasks:
        label = data[task.name]
        if task.background_is_unlabelled and not ((label != 0) & (label != IGNORE)).any():
            label = np.full_like(label, IGNORE)
        labels[task.name] = _TO_TENSOR[task.label](label)
    return {"image": _channels_first(data["image"]), "labels": labels, "id": id, "size": torch.tensor(size)}


def _channels_first(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1)  # a view: the copy is left to the collation


_TO_TENSOR = {
    "classes": torch.from_numpy,  # (H, W) uint8
    "depth": lambda metres: torch.from_numpy(metres)[None],  # (1, H, W)
    "normals": _channels_first,  # (3, H, W)
}
