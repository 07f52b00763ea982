"""Reading of single files: what is damaged or of the wrong kind is a UserError that names the file.

Pillow decodes the images: it gives the indices of palette images, and it never takes a truncated file for a whole one.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from atrc_exp.errors import UserError


def read_rgb(path: Path, *, convert: bool = True) -> np.ndarray:
    """Read an 8-bit image as (H, W, 3) uint8 RGB; grey and palette images are refused if `convert` is false."""
    with _open(path, ("RGB", "RGBA", "L", "P") if convert else ("RGB",)) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_indices(path: Path) -> np.ndarray:
    """Read an 8-bit grey or palette image as (H, W) uint8 indices; a palette's colours are never looked at."""
    with _open(path, ("L", "P")) as image:
        return np.asarray(image)


def read_grey(path: Path) -> np.ndarray:
    """Read an 8-bit grey image as (H, W) uint8."""
    with _open(path, ("L",)) as image:
        return np.asarray(image)


def read_array(path: Path, channels: int = 0) -> np.ndarray:
    """Read a .npy file of numbers as (H, W) or, with `channels`, (H, W, channels)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error
    expected = "(H, W, 3)" if channels else "(H, W)"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path}: must hold one array of numbers of shape {expected}")
    if array.ndim != (3 if channels else 2) or (channels and array.shape[2] != channels):
        raise UserError(f"{path}: holds an array of shape {array.shape}; must be {expected}")
    return array


def read_ids(path: Path) -> list[str]:
    """Read a text file with one image id a line, of any editor; it must list at least one, and none twice."""
    path = path.expanduser()
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{path}: this file is missing; it must list one image id a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it must list one image id a line") from None
    if not ids:
        raise UserError(f"{path}: lists no image; it must list one image id a line")
    twice = next((id for id, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{path}: lists {twice} more than once; remove the other lines")
    return ids


def unreadable(path: Path, error: Exception) -> UserError:
    """The message for a file that cannot be decoded."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path}: cannot be read, it is damaged or incomplete ({reason}); replace it by a good copy")


def _open(path: Path, modes: tuple[str, ...]) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise unreadable(path, error) from error
    if image.mode not in modes:
        kinds = {"L": "8-bit grey", "P": "8-bit palette", "RGB": "8-bit RGB", "RGBA": "8-bit RGBA"}
        allowed = " or ".join(kinds[mode] for mode in modes)
        raise UserError(f"{path}: is an image of kind '{kinds.get(image.mode, image.mode)}'; must be {allowed}")
    return image
