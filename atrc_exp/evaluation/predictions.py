"""Prediction files, one per image and task, in the form that the usual scoring tools read.

| kind of label | file | content |
|---|---|---|
| classes | .png, 8-bit grey or palette | most likely class |
| binary | .png, 8-bit grey | floor(255 p) of class 1 |
| depth | .npy, (h, w) float32 | metres |
| disparity | .npy, (h, w) float32 | pixels |
| regression | .npy, (h, w) or (h, w, c) float32 | values |
| normals | .png, 8-bit RGB | unit vector n as floor(255 (n + 1) / 2 + 0.5) |
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from atrc_exp.data.arrays import read_array
from atrc_exp.data.decode import read_grey, read_indices, read_rgb
from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.metrics import is_summed
from atrc_exp.tasks import Task

_MISSING_SHOWN = 10
FORMATS: dict[str, tuple[str, Callable[[Path], np.ndarray]]] = {
    "indices": (".png", read_indices),
    "grey": (".png", read_grey),
    "rgb": (".png", read_rgb),
    "array": (".npy", read_array),
    "channels": (".npy", lambda path: read_array(path, channels=None)),
}
"""By `Kind.stored_as`: the suffix of a file, and what reads it."""


def as_array(task: Task, prediction: Tensor) -> np.ndarray:
    """Convert a network output (c, h, w) to what is stored: uint8 or float32, (h, w) or (h, w, c).

    Classification forms must have been decoded (`tasks.classification.Decoder`).
    """
    return task.kind.store(prediction).cpu().numpy()


def prediction_path(folder: Path, task: Task, image_id: str) -> Path:
    """`<folder>/<task>/<image_id>.npy` for floating-point values, `.png` for all others."""
    return folder / task.name / f"{image_id}{FORMATS[task.kind.stored_as][0]}"


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
    array = FORMATS[task.kind.stored_as][1](path)
    if array.shape[:2] != tuple(size):
        height, width = array.shape[:2]
        raise UserError(f"{path}: is {height} x {width} pixels, its image {size[0]} x {size[1]}; both must be equal")
    try:
        return task.kind.restore(task, array)
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
        if is_summed(task) or boundary_ids is None or image_id in boundary_ids
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
            found.setdefault(task.name, f"{given}, but {task.name} is read from {path.suffix}: {task.kind.stored_form}")
    return list(found.values())
