"""Reading of single files: what is damaged or of the wrong kind is a UserError that names the file.

Pillow decodes the images: it gives the indices of palette images, and it never takes a truncated file for a whole one.
Every image is turned as its EXIF orientation says, as viewers and annotation tools show it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from atrc_exp.data.arrays import ARRAYS, read_array, read_photo_array, unreadable
from atrc_exp.errors import UserError

_KINDS = {
    "1": "1-bit", "L": "8-bit grey", "P": "8-bit palette", "RGB": "8-bit RGB", "RGBA": "8-bit RGBA",
    "LA": "8-bit grey with transparency", "I;16": "16-bit grey", "I": "32-bit grey", "F": "floating-point grey",
}  # fmt: skip
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # 16-bit grey in any order of bytes
_NO_PHOTOS = ("I", "F")  # nothing says which value is white
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError)
"""What Pillow raises for bad bytes, SyntaxError for a broken PNG."""
_COLOURS = ("RGB", "RGBA", "L", "P")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", *ARRAYS)
"""Of the images and arrays in a folder, in small letters."""
_LOSSLESS = ("PNG", "BMP", "PPM", "TGA", "TIFF", "WEBP")
"""Formats that keep numbers; the last two can be lossy, too. GIF is none, since writers sort its palette anew."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""By EXIF orientation, what brings the stored pixels upright; from 5 on height and width change places."""
U8_TO_UNIT = (2.0 * np.arange(256) / 255.0 - 1.0).astype(np.float32)


def read_rgb(path: Path) -> np.ndarray:
    """Read an 8-bit RGB image of vectors as (H, W, 3) uint8; nothing is converted to RGB.

    Raises:
        UserError: it must be turned to be upright: whether its vectors turn with it is not known.
    """
    with _open(path, ("RGB",), turn=False) as image:
        if _orientation(image) != 1:
            raise UserError(
                f"{path}: has an EXIF orientation, and whether its vectors turn with its pixels is not known; write it "
                "upright and without EXIF"
            )
        return np.asarray(image)


def read_colours(path: Path) -> np.ndarray:
    """Read a class map that is stored as colours, as (H, W, 3) uint8 RGB; the file must hold them without loss."""
    with _open(path, _COLOURS, lossless=True) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_photo(path: Path) -> np.ndarray:
    """Read an image of any kind as (H, W, 3) uint8 RGB, upright; 16-bit values keep their upper half.

    Raises:
        UserError: it is damaged, or its values have no known range (32-bit and floating-point images, and arrays that
            are neither 8-bit nor in [0, 1]).
    """
    if path.suffix in ARRAYS:
        return read_photo_array(path)
    image = _load(path)
    deep = image.mode in _DEEP or (image.mode, image.format) == ("I", "PNG")  # as older versions of Pillow give it
    if image.mode in _NO_PHOTOS and not deep:
        raise UserError(f"{path}: is an image of kind '{_KINDS[image.mode]}', whose range of values is not known; "
                        "convert it to 8 or 16 bits")  # fmt: skip
    image = _upright(image)
    if deep:
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    try:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be converted to RGB ({error})") from error


def read_indices(path: Path) -> np.ndarray:
    """Read an 8-bit grey or palette image as (H, W) uint8 indices; a palette's colours are never looked at."""
    with _open(path, ("L", "P"), lossless=True) as image:
        return np.array(image)  # writable, as tensors want their memory


def read_grey(path: Path) -> np.ndarray:
    """Read an 8-bit grey image as (H, W) uint8."""
    with _open(path, ("L",), lossless=True) as image:
        return np.array(image)


def read_normals(path: Path, *, every_code: bool = False) -> np.ndarray:
    """Read vectors (H, W, 3) float32 from an array or an 8-bit RGB image, v = 2 u / 255 - 1; (0, 0, 0) is invalid.

    Vectors are neither rounded nor normalised again. Eight bits have no zero: the nearest value, 127, decodes to
    -0.004. So a vector shorter than a half is invalid there, as are raw zeros, which decode to length 1.73.

    Args:
        every_code: all vectors of an 8-bit image are valid. The published code trains on them and scores them.
    """
    if path.suffix in ARRAYS:
        vectors: np.ndarray = read_array(path, channels=3).astype(np.float32, copy=False)
        if not np.isfinite(vectors.sum()):  # much faster than to look at each vector
            vectors[~np.isfinite(vectors).all(axis=2)] = 0
        return vectors
    import cv2

    raw = read_rgb(path)
    vectors = cv2.LUT(raw, U8_TO_UNIT)
    if every_code:
        return vectors
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    invalid = (x * x + y * y + z * z < 0.25) | ((raw[..., 0] | raw[..., 1] | raw[..., 2]) == 0)
    if invalid.any():
        vectors[invalid] = 0
    return vectors


def read_values(path: Path) -> np.ndarray:
    """Read one number a pixel, (H, W), from an array or from a grey or palette image of any depth."""
    if path.suffix in ARRAYS:
        return read_array(path)
    with _open(path, ("L", "P", "1", "I;16", "I", "F"), lossless=True) as image:
        return np.array(image)


def read_mat(path: Path, name: str) -> Any:
    """Read the variable `name` of a MATLAB file (up to version 7), with structures as objects with attributes.

    Nothing else in the file is decoded. Dimensions of length 1 are dropped, so that a structure array of one element
    is that element.
    """
    from scipy.io import loadmat

    try:
        variables = loadmat(path, variable_names=[name], squeeze_me=True, struct_as_record=False)
    except Exception as error:  # SciPy's parser fails on damaged bytes in whatever way they lead it to
        raise unreadable(path, error) from error
    if name not in variables:
        raise UserError(f"{path}: holds no variable {name}")
    return variables[name]


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
    outside = next((id for id in ids if id.startswith("/") or ".." in id.split("/")), None)
    if outside is not None:  # ids become the names of files that are written, too
        raise UserError(f"{path}: lists {outside}; an id is a file name without suffix, inside the dataset")
    return ids


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an upright image, from its first bytes."""
    with _header(path) as image:
        swapped = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns TIFF files itself
        return (image.width, image.height) if swapped else (image.height, image.width)


def read_orientation(path: Path) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 is upright, and so is an image without a valid one."""
    if path.suffix in ARRAYS:
        return 1
    with _header(path) as image:
        return _orientation(image)


def _header(path: Path) -> Image.Image:
    """The opened image, whose pixels are not decoded yet."""
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{path}: has more than the {most / 1e6:.4g} million pixels that are read; scale it down, or cut it into "
            "several images"
        ) from None
    except _DAMAGED as error:
        raise unreadable(path, error) from error


def _load(path: Path) -> Image.Image:
    """The decoded image, as it is stored."""
    image = _header(path)
    try:
        image.load()
    except _DAMAGED as error:
        raise unreadable(path, error) from error
    return image


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _open(path: Path, modes: tuple[str, ...], *, lossless: bool = False, turn: bool = True) -> Image.Image:
    """The decoded image, upright unless `turn` is false."""
    image = _load(path)
    if lossless:
        _require_lossless(path, image)
    if image.mode not in modes:
        allowed = " or ".join(_KINDS[mode] for mode in modes)
        raise UserError(f"{path}: is an image of kind '{_KINDS.get(image.mode, image.mode)}'; must be {allowed}")
    return _upright(image) if turn else image


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow fails on damaged EXIF in whatever way its bytes lead it to; the pixels are good
        return 1
    return found if found in _TURNS else 1


def _require_lossless(path: Path, image: Image.Image) -> None:
    """Refuse a label map whose format changes values, whatever its name says."""
    name = str(image.format)
    compression = str(image.info.get("compression", ""))
    lossy = name not in _LOSSLESS or (name == "WEBP" and not _is_lossless_webp(path))
    if name == "TIFF" and ("jpeg" in compression or "webp" in compression):
        lossy, name = True, f"TIFF with {compression} compression"
    if lossy:
        raise UserError(
            f"{path}: is stored as {name}, which does not keep the values of pixels; label maps must be stored without "
            "loss, e.g. as PNG, made anew from their originals"
        )


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first picture of a WebP file is a VP8L chunk, not VP8 (RIFF container, chunks of even length)."""
    content = path.read_bytes()
    position = len(b"RIFF....WEBP")
    while position + 8 <= len(content):
        kind, length = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        position += 8 + length + length % 2
    return False
