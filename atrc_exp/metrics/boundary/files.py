"""Files of edge maps: 1-, 8- and 16-bit grey PNG, `.npy`, and MATLAB's `.mat`, BSDS500's ground truth among them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BoundaryError
from .maps import partition_to_boundary

SUFFIXES = (".png", ".npy", ".mat")  # of any case
PARTITIONS = {"partition", "LabelMap"}  # names of arrays in `.mat` whose values are regions
GREY = {"1": np.bool_, "L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16}  # by PIL mode
INDEXED = {**GREY, "P": np.uint8}  # regions often come with a palette


def read_prediction(path: Path) -> NDArray[Any]:
    """Read a response map (H, W): uint8, uint16 or floating probabilities; a 1-bit PNG is 0 and 255.

    Raises:
        BoundaryError: a file that is missing, unreadable or holds no such map.
    """
    values = _read(path, GREY)
    if isinstance(values, dict):
        values = _only_array(path, values)
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values


def read_truth(path: Path) -> NDArray[Any] | list[NDArray[Any]]:
    """Read a ground truth as `count` takes it; `.mat` may hold BSDS500's `groundTruth` of several annotators.

    A partition, which is a `.mat` whose only array has the name `partition` or `LabelMap`, becomes its boundaries.

    Raises:
        BoundaryError: a file that is missing, unreadable or holds no ground truth.
    """
    values = _read(path, INDEXED)
    if not isinstance(values, dict):
        return _whole_numbers(values)
    if "groundTruth" in values:
        return _annotators(path, values["groundTruth"])
    array = _whole_numbers(_only_array(path, values))
    try:
        return partition_to_boundary(array) if PARTITIONS & set(values) else array
    except BoundaryError as error:
        raise BoundaryError(f"{path}: {error}") from error


def _read(path: Path, modes: Mapping[str, type]) -> Any:
    if path.is_dir():
        raise BoundaryError(f"{path} is a folder; give a file for each image")
    if not path.is_file():
        raise BoundaryError(f"{path} is missing; there must be one file for each image")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BoundaryError(f"{path} is no file of {', '.join(SUFFIXES)}; convert it without loss, not by way of JPEG")
    try:
        if suffix == ".png":
            return _png(path, modes)
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        from scipy.io import loadmat

        return loadmat(path)
    except BoundaryError:
        raise
    except Exception as error:  # every reader has its own ways to fail on a damaged file
        raise BoundaryError(f"{path} cannot be read ({error}); write it again") from error


def _png(path: Path, modes: Mapping[str, type]) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        mode, values = image.mode, np.asarray(image)
    if mode not in modes:
        raise BoundaryError(f"{path} has the PIL mode {mode!r}; edge maps are grey of 1, 8 or 16 bits")
    return values.astype(modes[mode])


def _only_array(path: Path, content: dict[str, Any]) -> NDArray[Any]:
    names = [name for name in content if not name.startswith("__")]
    if len(names) != 1 or not isinstance(content[names[0]], np.ndarray) or content[names[0]].dtype == object:
        raise BoundaryError(f"{path} holds {', '.join(names) or 'nothing'}; it must hold one numeric array")
    return content[names[0]]


def _whole_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Convert whole floating-point values to integers, since MATLAB and NumPy also store masks in floating point."""
    whole = np.issubdtype(values.dtype, np.floating) and bool((values == np.rint(values)).all())
    return values.astype(np.int64) if whole else values


def _annotators(path: Path, cells: Any) -> list[NDArray[Any]]:
    """Return the `Boundaries` of BSDS500's 1 x A cell array of structures."""
    try:
        masks = [_whole_numbers(np.asarray(cell["Boundaries"].item())) for cell in np.ravel(cells)]
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise BoundaryError(f"{path}: groundTruth has no Boundaries for every annotator ({error})") from error
    if not masks:
        raise BoundaryError(f"{path}: groundTruth has no annotator")
    return masks
