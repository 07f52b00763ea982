"""From a decoded sample to arrays of one size: the training augmentation of the published code and its test-time part.

The harness and the mirror come from albumentations. What it lacks is added: label maps change as their kind says
(depth shrinks as the image is magnified, normals turn at a mirror, padding is unlabelled), crops avoid single-class
regions, and the colour distortion works in the published order on 8-bit values. Images stay 8-bit from end to end;
`finish` normalises them, on the device.
"""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from atrc_exp.data.batch import Batch
from atrc_exp.data.readers.sample import Sample
from atrc_exp.tasks import IGNORE, Task
from atrc_exp.tasks.kinds.kind import Kind

_SCALES = (0.5, 2.0)
_CROP_SHARE = 0.75
_CROP_TRIES = 10
_OPENCV_CHANNELS = 4  # that it pads with a value


class ScaledCrop(A.DualTransform):
    """Scale by s ~ U(0.5, 2) to (int(H s), int(W s)), then cut out at most `height` x `width` at random.

    The image is scaled bilinearly and truncated to 8 bits, labels take the nearest pixel, depth is divided by s. In the
    crop no class of the map `labels` holds 75 % or more of the labelled pixels: a location that fails is drawn again up
    to ten times, and the last one is taken as it is. Without a class map the first location is taken.

    Both are one step so that labels are computed in the crop only.
    """

    def __init__(self, height: int, width: int, labels: str | None, kinds: Mapping[str, Kind]) -> None:
        super().__init__(p=1.0)
        self.height, self.width, self.labels, self.kinds = height, width, labels, kinds

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        scale = self.py_random.uniform(*_SCALES)
        height, width = size = tuple(max(int(side * scale), 1) for side in params["shape"][:2])
        left, top, right, bottom = box = self._draw(height, width)
        if self.labels:
            labels = cv2.resize(data[self.labels], (width, height), interpolation=cv2.INTER_NEAREST)
            for _ in range(_CROP_TRIES):
                if _mixes_classes(labels[top:bottom, left:right]):
                    break
                left, top, right, bottom = box = self._draw(height, width)
        return {"scale": scale, "scaled_size": size, "crop_coords": box}

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        height, width = params["scaled_size"]
        left, top, right, bottom = params["crop_coords"]
        # In float32, as published: OpenCV would round 8-bit values, and the published code truncates.
        image = cv2.resize(data.pop("image").astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        rows = _nearest(params["shape"][0], height)[top:bottom]
        columns = _nearest(params["shape"][1], width)[left:right]
        result = {key: _gather(label, rows, columns) for key, label in data.items()}
        for key, kind in self.kinds.items():
            kind.magnify(result[key], params["scale"])  # in place: a crop is a new array
        return {"image": image[top:bottom, left:right].astype(np.uint8), **result}

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        top = self.py_random.randint(0, max(height - self.height, 0))
        left = self.py_random.randint(0, max(width - self.width, 0))
        return left, top, min(left + self.width, width), min(top + self.height, height)


class HorizontalFlip(A.HorizontalFlip):
    """Mirror everything with probability one half; normals point the other way in x."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        super().__init__(p=0.5)
        self.kinds = kinds

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        result = super().apply_with_params(params, *args, **data)
        for key, kind in self.kinds.items():
            kind.mirror(result[key])  # in place: a flip is a new array
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


class TrainTransform:
    """Random scale, crop, flip and colours, then padded to the crop size.

    Args:
        crop: height and width of the result.
        tasks: the tasks whose labels the result holds.
        crop_labels: class map that guides the crop; it need not be a task. None for data without one.
        augment: false takes the centre crop and changes nothing.
    """

    def __init__(
        self, crop: Sequence[int], tasks: Sequence[Task], crop_labels: str | None, *, augment: bool = True
    ) -> None:
        self.size, self.tasks = (crop[0], crop[1]), tuple(tasks)
        kinds = {task.name: task.kind for task in tasks}
        if crop_labels is not None:
            kinds.setdefault(crop_labels, Kind())  # no augmentation changes its values
        self.names = tuple(kinds)
        steps = [ScaledCrop(*self.size, crop_labels, kinds), HorizontalFlip(kinds), PhotometricDistortion()]
        self.pipeline = A.Compose(steps if augment else [], additional_targets=dict.fromkeys(kinds, "mask"))

    def __call__(self, sample: Sample, rng_seed: int | Sequence[int]) -> Batch:
        """Return a batch of one image of crop size. Everything random is a function of `rng_seed` alone."""
        self._seed(rng_seed)
        arrays = self.pipeline(image=sample.image, **{name: sample.labels[name] for name in self.names})
        return self._to_batch(sample.id, arrays)

    def steps(self, rng_seed: int | Sequence[int]) -> dict[str, Callable[[dict[str, np.ndarray]], Any]]:
        """The steps one by one, for measurements; the first takes `{"image": array, task: label, ...}`."""
        self._seed(rng_seed)
        names = ("scale and crop", "flip", "colours")
        single = {name: lambda arrays, step=step: step(**arrays)
                  for name, step in zip(names, self.pipeline.transforms, strict=True)}  # fmt: skip
        return {**single, "padding, channels first": lambda arrays: self._to_batch("", arrays)}

    def _seed(self, rng_seed: int | Sequence[int]) -> None:
        seed = int(np.random.SeedSequence(rng_seed).generate_state(1, np.uint64)[0])
        # One stream for all steps: Compose.set_random_seed would start the same stream anew in each of them, and
        # every image scaled below 1.25 would be flipped.
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))

    def _to_batch(self, id: str, arrays: Mapping[str, np.ndarray]) -> Batch:
        arrays = {name: _centre(array, self.size) for name, array in arrays.items()}
        return _on_canvas(id, arrays, self.tasks, self.size)


class EvalTransform:
    """Centre-pad to the canvas, or to the image's own size where that is larger."""

    def __init__(self, canvas: Sequence[int], tasks: Sequence[Task]) -> None:
        self.canvas, self.tasks = (canvas[0], canvas[1]), tuple(tasks)
        self.names = tuple(task.name for task in tasks)

    def __call__(self, sample: Sample, rng_seed: int | Sequence[int] = 0) -> Batch:
        """Return a batch of one image; nothing is random."""
        canvas = [max(own, wanted) for own, wanted in zip(sample.image.shape, self.canvas, strict=False)]
        return _on_canvas(sample.id, {"image": sample.image, **sample.labels}, self.tasks, canvas)


def _on_canvas(id: str, arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], canvas: Sequence[int]) -> Batch:
    """Image and labels centred on the canvas, channels first."""
    image = arrays["image"]
    labels = {task.name: _as_tensor(arrays[task.name], canvas, task.kind.fill) for task in tasks}
    return Batch(_as_tensor(image, canvas, 0), labels, [id], torch.tensor([image.shape[:2]]))


def _as_tensor(array: np.ndarray, canvas: Sequence[int], fill: float) -> Tensor:
    return torch.from_numpy(_padded(array, canvas, fill))[None]


def _padded(array: np.ndarray, canvas: Sequence[int], fill: float) -> np.ndarray:
    """A map (H, W) or (H, W, C) in the middle of the canvas; (C, H, W) with channels."""
    down, right = (wanted - own for wanted, own in zip(canvas, array.shape, strict=False))
    if down or right:
        top, left = down // 2, right // 2
        if array.ndim == 3 and array.shape[2] > _OPENCV_CHANNELS:
            array = np.pad(array, ((top, down - top), (left, right - left), (0, 0)), constant_values=fill)
        else:
            sides, value = (top, down - top, left, right - left), [fill] * _OPENCV_CHANNELS
            array = cv2.copyMakeBorder(array, *sides, cv2.BORDER_CONSTANT, value=value)
    if array.ndim == 2:
        return np.require(array, requirements="W")  # PyTorch warns of others
    planes = np.empty((array.shape[2], *array.shape[:2]), dtype=array.dtype)
    cv2.split(array, list(planes))  # here and not on the whole batch: three times as fast, and in the worker
    return planes


def _centre(array: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The middle of an array (H, W, ...), at most `size`."""
    top, left = (max(own - wanted, 0) // 2 for own, wanted in zip(array.shape, size, strict=False))
    return np.ascontiguousarray(array[top : top + size[0], left : left + size[1]])


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


def _nearest(old: int, new: int) -> np.ndarray:
    """Old position (new,) of every new one when `old` pixels are scaled to `new`, as cv2.resize takes the nearest."""
    return cv2.resize(np.arange(old, dtype=np.float32)[None], (new, 1), interpolation=cv2.INTER_NEAREST)[0].astype(int)


def _gather(label: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels `rows` x `columns` of a map (H, W, ...); NumPy is the faster one for single values, OpenCV for vectors."""
    if label.ndim == 2:
        return label[rows][:, columns]
    where = np.empty((len(rows), len(columns), 2), dtype=np.int16)
    where[..., 0], where[..., 1] = columns, rows[:, None]
    return cv2.remap(label, where, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
