"""Files that hold one array of numbers: .npy and HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from atrc_exp.errors import UserError, missing_extra

ARRAYS = (".npy", ".hdf5", ".h5")
"""Their suffixes."""


def read_array(path: Path, channels: int | None = 0) -> np.ndarray:
    """Read a file of numbers as (H, W) or, with `channels`, (H, W, channels); None takes any of both.

    The file is .npy, or HDF5 with one array, which needs h5py. An array (H, W, 1) stands for (H, W).
    """
    array = _stored_array(path)
    expected = "(H, W) or (H, W, C)" if channels is None else f"(H, W, {channels})" if channels else "(H, W)"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path}: must hold one array of numbers of shape {expected}")
    if array.ndim == 3 and array.shape[2] == 1 and channels == 0:
        array = array[..., 0]
    allowed = (2, 3) if channels is None else (3,) if channels else (2,)
    if array.ndim not in allowed or (channels and array.shape[2] != channels):
        raise UserError(f"{path}: holds an array of shape {array.shape}; must be {expected}")
    return array


def read_photo_array(path: Path) -> np.ndarray:
    """Read an image (H, W, 3) uint8 RGB; fractions in [0, 1] are rounded to 8 bits.

    Raises:
        UserError: it is damaged, or holds other values.
    """
    array = read_array(path, channels=3)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        found = f"{array.dtype} from {array.min():g} to {array.max():g}"
        raise UserError(f"{path}: holds {found}; an image must be of 8-bit values, or of fractions in [0, 1]")
    return (array * 255 + 0.5).astype(np.uint8)


def unreadable(path: Path, error: Exception) -> UserError:
    """The message for a file that cannot be decoded."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path}: cannot be read, it is damaged or incomplete ({reason}); replace it by a good copy")


def _stored_array(path: Path) -> Any:
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise unreadable(path, error) from error
    try:
        import h5py
    except ImportError:
        raise missing_extra(f"{path}", ["h5py"], "hdf5") from None
    try:
        with h5py.File(path) as file:
            arrays = [value[()] for value in file.values() if isinstance(value, h5py.Dataset)]
    except OSError as error:
        raise unreadable(path, error) from error
    return arrays[0] if len(arrays) == 1 else None
