"""Single files: EXIF orientation against its definition, formats that lose values, and the largest image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from atrc_exp.data import decode
from atrc_exp.errors import UserError

ORIENTATION = 0x0112
SIDES = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left", 5: "left top", 6: "right top",
         7: "right bottom", 8: "left bottom"}  # fmt: skip
"""Where the first row and the first column of the stored pixels lie in the upright picture, as EXIF 2.32 defines it."""


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Every stored pixel put where the definition says."""
    height, width = stored.shape[:2]
    row_side, column_side = SIDES[orientation].split()
    swapped = row_side in ("left", "right")
    result = np.zeros((width, height, *stored.shape[2:]) if swapped else stored.shape, stored.dtype)
    for row in range(height):
        for column in range(width):
            from_row = row if row_side in ("top", "left") else height - 1 - row
            from_column = column if column_side in ("top", "left") else width - 1 - column
            result[(from_column, from_row) if swapped else (from_row, from_column)] = stored[row, column]
    return result


def save(path: Path, array: np.ndarray, orientation: int | None = None, **options) -> Path:
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [None, *SIDES, 0, 9])
def test_photos_are_read_upright(tmp_path, picture, orientation, suffix):
    plain = np.asarray(Image.open(save(tmp_path / f"plain{suffix}", picture)).convert("RGB"))
    path = save(tmp_path / f"turned{suffix}", picture, orientation)
    wanted = upright(plain, orientation if orientation in SIDES else 1)
    np.testing.assert_array_equal(decode.read_photo(path), wanted)
    assert decode.read_size(path) == wanted.shape[:2]
    assert decode.read_orientation(path) == (orientation if orientation in SIDES else 1)


def test_photos_of_other_kinds_are_turned_too(tmp_path, picture):
    grey = save(tmp_path / "grey.png", picture[..., 0], 6)
    np.testing.assert_array_equal(decode.read_photo(grey)[..., 1], upright(picture[..., 0], 6))
    palette = tmp_path / "palette.png"
    image = Image.fromarray(picture).quantize(8)
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    image.save(palette, exif=exif)
    np.testing.assert_array_equal(decode.read_photo(palette), upright(np.asarray(image.convert("RGB")), 8))


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0", b"no EXIF at all"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_photo_as_it_is_stored(tmp_path, picture, exif):
    path = tmp_path / "damaged.jpg"
    Image.fromarray(picture).save(path, exif=exif)
    plain = np.asarray(Image.open(save(tmp_path / "plain.jpg", picture)))
    np.testing.assert_array_equal(decode.read_photo(path), plain)


def test_label_maps_are_turned_like_photos_and_vectors_refused(tmp_path, picture):
    classes = picture[..., 0] % 7
    np.testing.assert_array_equal(decode.read_indices(save(tmp_path / "c.png", classes, 6)), upright(classes, 6))
    np.testing.assert_array_equal(decode.read_values(save(tmp_path / "v.png", classes, 3)), upright(classes, 3))
    with pytest.raises(UserError, match=r"n\.png: has an EXIF orientation"):
        decode.read_normals(save(tmp_path / "n.png", picture, 6))
    assert decode.read_normals(save(tmp_path / "n.png", picture, 1)).shape == (6, 9, 3)


LOSSLESS = {"png": {}, "bmp": {}, "tiff": {"compression": "tiff_lzw"}, "webp": {"lossless": True}}
LOSSY = {"jpeg": {}, "webp": {"quality": 95}, "tiff": {"compression": "jpeg"}, "jpeg2000": {}, "avif": {},
         "gif": {}}  # fmt: skip
NEEDS = {"avif": "avif", "jpeg2000": "jpg_2000", "webp": "webp", "tiff": "libtiff"}
READERS = (decode.read_indices, decode.read_grey, decode.read_values, decode.read_colours)


@pytest.mark.parametrize("name", ["map.png", "map.img"])
@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_class_maps_are_refused_whatever_their_name_is(tmp_path, picture, kind, name):
    if kind in NEEDS and not features.check(NEEDS[kind]):
        pytest.skip(f"this Pillow writes no {kind}")
    grey, colours = tmp_path / name, tmp_path / f"colours_{name}"
    Image.fromarray(picture[..., 0]).save(grey, kind, **LOSSY[kind])
    Image.fromarray(picture).save(colours, kind, **LOSSY[kind])
    for read in READERS:
        with pytest.raises(UserError, match="without loss") as raised:
            read(colours if read is decode.read_colours else grey)
        assert kind.upper() in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_class_maps_hold_what_was_stored(tmp_path, picture, kind):
    if kind in NEEDS and not features.check(NEEDS[kind]):
        pytest.skip(f"this Pillow writes no {kind}")
    path = tmp_path / "map.jpg"  # a name that says otherwise
    Image.fromarray(picture).save(path, kind, **LOSSLESS[kind])
    np.testing.assert_array_equal(decode.read_colours(path), picture)
    if kind != "webp":  # which has no grey
        Image.fromarray(picture[..., 0]).save(path, kind, **LOSSLESS[kind])
        np.testing.assert_array_equal(decode.read_values(path), picture[..., 0])


@pytest.mark.parametrize("alpha", [False, True])
def test_webp_with_more_than_one_chunk_is_told_apart(tmp_path, picture, alpha):
    if not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    if alpha:
        picture = np.dstack([picture, picture[..., :1]])
        picture[..., 3] = 255
        picture[0, 0, 3] = 7
    for lossless in (True, False):
        path = save(tmp_path / f"{lossless}.webp", picture, 1, lossless=lossless, exact=True)
        assert b"VP8X" in path.read_bytes()[:16]
        if lossless:
            np.testing.assert_array_equal(decode.read_colours(path), picture[..., :3])
        else:
            with pytest.raises(UserError, match="WEBP"):
                decode.read_colours(path)


def test_more_pixels_than_are_read_is_no_damage(tmp_path, picture, monkeypatch):
    path = save(tmp_path / "large.png", np.tile(picture, (4, 4, 1)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 9)
    for read in (decode.read_photo, decode.read_size, decode.read_indices):
        with pytest.raises(UserError, match=r"large\.png: has more than .* pixels") as raised:
            read(path)
        assert "damaged" not in str(raised.value) and "scale it down" in str(raised.value)
