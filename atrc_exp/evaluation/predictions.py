"""Prediction files, one per image and task, in the form that the usual scoring tools read.

| metric of the task | file | content |
|---|---|---|
| `miou` | .png, 8-bit grey or palette | most likely class |
| `max_f` | .png, 8-bit grey | floor(255 p) of the second class |
| `ods_f` | .png, 8-bit grey | floor(255 sigmoid) |
| `rmse` | .npy, (h, w) float32 | metres |
| `mean_error` | .png, 8-bit RGB | unit vector n as floor(255 (n + 1) / 2 + 0.5) |
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atrc_exp.data.decode import read_array, read_grey, read_indices, read_rgb
from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.tasks import Task

_MISSING_SHOWN = 10
_FORMS = {
    "miou": "8-bit grey, the index of the class",
    "max_f": "8-bit grey, 255 times the probability",
    "ods_f": "8-bit grey, 255 times the probability",
    "rmse": "an array (height, width) in metres, as numpy.save writes it",
    "mean_error": "8-bit RGB, 255 (n + 1) / 2 of the unit vector n",
}
_LOGIT_BOUND = 50.0  # its sigmoid is 1 in single precision
_SHORTEST_NORMAL = 0.5  # 8 bits hold no zero vector: what is shorter stands for it


def as_array(task: Task, prediction: Tensor) -> np.ndarray:
    """Convert a network output (c, h, w) to what is stored: uint8 or float32 (h, w), normals uint8 (h, w, 3).

    Classification forms must have been decoded (`tasks.classification.Decoder`).
    """
    if task.metric == "miou":
        stored = prediction.argmax(0).to(torch.uint8)
    elif task.metric == "max_f":
        stored = (255 * prediction.softmax(0)[1]).floor().to(torch.uint8)
    elif task.metric == "ods_f":
        stored = (255 * prediction[0].sigmoid()).floor().to(torch.uint8)
    elif task.metric == "rmse":
        stored = prediction[0].float()
    else:
        unit = torch.nn.functional.normalize(prediction, dim=0)
        stored = (127.5 * (unit + 1) + 0.5).floor().to(torch.uint8).permute(1, 2, 0)
    return stored.cpu().numpy()


def as_output(task: Task, array: np.ndarray) -> Tensor:
    """The reverse of `as_array`: a network output (c, h, w) that is stored as `array` and scores like it.

    Raises:
        UserError: a class that the task does not have, or values that are not finite.
    """
    if task.metric == "miou":
        if array.max() >= task.channels:
            raise UserError(f"holds class {array.max()}; allowed are 0 to {task.channels - 1}")
        one_hot = torch.nn.functional.one_hot(torch.tensor(array).long(), task.channels)
        return one_hot.permute(2, 0, 1).float()
    if task.metric in ("max_f", "ods_f"):
        logit = _logit(torch.tensor(array))
        return logit[None] if task.channels == 1 else torch.stack([torch.zeros_like(logit), logit])
    values = torch.tensor(array).float()
    if not values.isfinite().all():
        raise UserError("holds NaN or infinite values")
    if task.metric == "rmse":
        return values[None]
    vectors = values.permute(2, 0, 1) / 127.5 - 1
    return vectors * (vectors.norm(dim=0) >= _SHORTEST_NORMAL)


def _logit(stored: Tensor) -> Tensor:
    """Logits of floor(255 p). A tenth of a step is added: floor drops it, and no p falls below the threshold it is."""
    probability = ((stored.double() + 0.1) / 255).clamp(max=1)
    return torch.logit(probability).clamp(max=_LOGIT_BOUND).float()


def prediction_path(folder: Path, task: Task, image_id: str) -> Path:
    """`<folder>/<task>/<image_id>.npy` for floating-point values, `.png` for all others."""
    return folder / task.name / f"{image_id}{'.npy' if task.metric == 'rmse' else '.png'}"


def save_prediction(folder: Path, task: Task, image_id: str, prediction: Tensor) -> Path:
    """Write a network output (c, h, w) to its `prediction_path` and return that."""
    return save_array(folder, task, image_id, as_array(task, prediction))


def save_array(folder: Path, task: Task, image_id: str, array: np.ndarray) -> Path:
    """Write what `as_array` gives to its `prediction_path` and return that."""
    path = prediction_path(folder, task, image_id)
    with replacing(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, array)
        else:
            Image.fromarray(array).save(temporary)
    return path


def load_prediction(folder: Path, task: Task, image_id: str, size: Sequence[int]) -> Tensor:
    """Read a prediction of an image of `size` (h, w) as the network output (c, h, w) that it was stored from.

    Raises:
        UserError: a file that is missing, damaged, or of another kind or size.
    """
    path = prediction_path(folder, task, image_id)
    if task.metric == "miou":
        array = read_indices(path)
    elif task.metric == "rmse":
        array = read_array(path)
    else:
        array = read_rgb(path) if task.metric == "mean_error" else read_grey(path)
    if array.shape[:2] != tuple(size):
        height, width = array.shape[:2]
        raise UserError(f"{path}: is {height} x {width} pixels, its image {size[0]} x {size[1]}; both must be equal")
    try:
        return as_output(task, array)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def predicted_tasks(
    folder: Path, tasks: Sequence[Task], ids: Sequence[str], boundary_ids: Collection[str] | None = None
) -> tuple[Task, ...]:
    """The tasks that `folder` has a folder of predictions for, after a look that no image lacks its file.

    Args:
        boundary_ids: the images whose boundaries are scored; None is all of `ids`.

    Raises:
        UserError: no such folder, no task in it, or missing files (one message for all of them).
    """
    present = tuple(task for task in tasks if (folder / task.name).is_dir())
    if not present:
        state = "has no folder" if folder.is_dir() else "does not exist; it must have a folder"
        raise UserError(f"predictions={folder}: {state} for any task: {', '.join(task.name for task in tasks)}")
    paths = {
        prediction_path(folder, task, image_id): task
        for task in present
        for image_id in ids
        if task.metric != "ods_f" or boundary_ids is None or image_id in boundary_ids
    }
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(str(path.relative_to(folder)) for path in missing[:_MISSING_SHOWN])
        shown += ", ..." if len(missing) > _MISSING_SHOWN else ""
        text = f"predictions={folder}: {len(missing)} of {len(paths)} files are missing: {shown}"
        raise UserError("; ".join([text, *_other_forms(folder, {path: paths[path] for path in missing})]))
    return present


def _other_forms(folder: Path, missing: Mapping[Path, Task]) -> list[str]:
    """For every task of which files lie there under other suffixes, one of them and the form that is read instead."""
    found: dict[str, str] = {}
    present = {task: sorted((folder / task).rglob("*.*")) for task in {task.name for task in missing.values()}}
    by_id = {path.with_suffix(""): path for paths in present.values() for path in paths}
    for path, task in missing.items():
        if other := by_id.get(path.with_suffix("")):
            given = f"there is {other.relative_to(folder)}"
            found.setdefault(task.name, f"{given}, but {task.name} is read from {path.suffix}: {_FORMS[task.metric]}")
    return list(found.values())
