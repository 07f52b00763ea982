"""A plain input pipeline over the same files, as one writes it with Pillow and OpenCV: what `loading.py` compares with.

It reads every file as it is, without a check of its values, and does the published steps one after the other on whole
float images, up to a batch of normalised tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atrc_exp.data.readers.reader import IMAGE, Reader
from atrc_exp.normalisation import IMAGENET
from atrc_exp.tasks import IGNORE, Task

Arrays = dict[str, np.ndarray]


def read(reader: Reader, id: str, tasks: Sequence[Task]) -> Arrays:
    """The image (H, W, 3) and one map a task; of several files behind a map, all are read and the first is taken."""
    arrays = {}
    for name in (IMAGE, *(task.name for task in tasks)):
        array, *_ = [_read_file(reader.root / path) for path in reader.files(name, id)]
        if name != IMAGE and array.ndim == 3 and array.dtype == np.uint8:  # 8-bit vectors
            array = array.astype(np.float32) * np.float32(2 / 255) - 1
        arrays[name] = array
    for task in tasks:
        arrays[task.name] = arrays[task.name].astype(task.kind.dtype)
    return arrays


def _read_file(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".mat":
        from scipy.io import loadmat

        return loadmat(path).get("LabelMap", np.zeros((1, 1), np.uint8)).astype(np.uint8)
    return np.array(Image.open(path))


def scale_and_crop(
    arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], crop: Sequence[int], guide: str | None,
    draw: np.random.Generator,
) -> Arrays:  # fmt: skip
    """Random scale, then a random crop that mixes the classes of the map `guide` if one in eleven does."""
    scale = draw.uniform(0.5, 2)
    height, width = (int(side * scale) for side in arrays[IMAGE].shape[:2])
    result = {IMAGE: cv2.resize(arrays[IMAGE].astype(np.float32), (width, height))}
    for task in tasks:
        result[task.name] = cv2.resize(arrays[task.name], (width, height), interpolation=cv2.INTER_NEAREST)
        task.kind.magnify(result[task.name], scale)
    for _ in range(11):
        top, left = draw.integers(max(height - crop[0], 0) + 1), draw.integers(max(width - crop[1], 0) + 1)
        window = np.s_[top : top + crop[0], left : left + crop[1]]
        counts = np.bincount(result[guide][window].ravel(), minlength=IGNORE)[:IGNORE] if guide else np.ones(2)
        if np.count_nonzero(counts) > 1 and counts.max() < 0.75 * counts.sum():
            break
    return {name: np.ascontiguousarray(array[window]) for name, array in result.items()}


def flip(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], draw: np.random.Generator) -> Arrays:
    """Mirror everything with probability one half."""
    if draw.random() < 0.5:
        return dict(arrays)
    result = {name: np.ascontiguousarray(array[:, ::-1]) for name, array in arrays.items()}
    for task in tasks:
        task.kind.mirror(result[task.name])
    return result


def colours(arrays: Mapping[str, np.ndarray], draw: np.random.Generator) -> Arrays:
    """Distort the colours of the image."""
    return {**arrays, IMAGE: _colours(arrays[IMAGE].astype(np.uint8), draw)}


def normalise(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], canvas: Sequence[int]) -> Arrays:
    """Normalise the image and pad everything to the canvas, channels first."""
    fills = {task.name: task.kind.fill for task in tasks}
    mean, std = (np.asarray(values, np.float32) for values in (IMAGENET.mean, IMAGENET.std))
    image = ((arrays[IMAGE].astype(np.float32) / 255 - mean) / std).astype(np.float32)
    result = {IMAGE: image, **{name: arrays[name] for name in fills}}
    for name, array in result.items():
        down, right = (max(wanted - own, 0) for wanted, own in zip(canvas, array.shape, strict=False))
        top, left, fill = down // 2, right // 2, fills.get(name, 0)
        array = cv2.copyMakeBorder(array, top, down - top, left, right - left, cv2.BORDER_CONSTANT, value=fill)
        result[name] = np.ascontiguousarray(array.transpose(2, 0, 1)) if array.ndim == 3 else array
    return result


def collate(items: Sequence[Arrays]) -> dict[str, Tensor]:
    """A batch of tensors."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def _colours(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    last = draw.random() < 0.5
    image = _linear(image, 1, draw.uniform(-32, 32)) if draw.random() < 0.5 else image
    contrast = draw.uniform(0.5, 1.5) if draw.random() < 0.5 else None
    if contrast is not None and not last:
        image = _linear(image, contrast, 0)
    for channel in (1, 0):  # saturation, then hue
        if draw.random() < 0.5:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            if channel == 1:
                hsv[..., 1] = _linear(hsv[..., 1], draw.uniform(0.5, 1.5), 0)
            else:
                hsv[..., 0] = (hsv[..., 0].astype(np.int32) + draw.integers(-18, 18)) % 180
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return _linear(image, contrast, 0) if contrast is not None and last else image


def _linear(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    return np.clip(values.astype(np.float32) * np.float32(factor) + np.float32(offset), 0, 255).astype(np.uint8)
