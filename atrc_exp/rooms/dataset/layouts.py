"""How rooms are written: the two packagings of NYUD-v2 and the layout of PASCAL-Context."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from atrc_exp.rooms.dataset.annotations import PeopleSample, VocObject, render_people
from atrc_exp.rooms.plans.classes import CONTEXT_TO_VOC, VOC_NAMES
from atrc_exp.rooms.render.image import RoomSample, render_room


@dataclass(frozen=True)
class Layout:
    """The folders of a data set, the folder of its split lists, the id of image `index`, and the writer of one room.

    Ids have places for `most` images. `write(root, id, seed, index, image_size)` renders room `index` and writes its
    files.
    """

    folders: tuple[str, ...]
    lists: str
    most: int
    name: Callable[[int], str]
    write: Callable[[Path, str, int, int, tuple[int, int]], None]


def _nyud_name(index: int) -> str:
    return f"{index + 1:04d}"


def _pascal_name(index: int) -> str:
    return f"2010_{index + 1:06d}"


def _encode_normals(normals: np.ndarray) -> np.ndarray:
    """Unit vectors to 8 bits, v = 2 * u8 / 255 - 1; zero vectors (invalid) become 127, 127, 127."""
    coded = np.round((normals + 1) * 127.5).astype(np.uint8)
    coded[~normals.any(-1)] = 127
    return coded


def _write_image(path: Path, image: np.ndarray) -> None:
    if image.ndim == 3:
        image = image[..., ::-1]  # OpenCV's channel order
    # fast compression: noise hardly compresses, and level 1 takes a third of the default's time
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 95]
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())


def write_nyud_a(root: Path, name: str, sample: RoomSample) -> None:
    """Write the five files of one room as PNG images, depth as an array in metres."""
    _write_image(root / "segmentation" / f"{name}.png", sample.semseg)
    np.save(root / "depth" / f"{name}.npy", sample.depth)
    _write_image(root / "images" / f"{name}.png", sample.image)
    _write_image(root / "edge" / f"{name}.png", sample.edge.astype(np.uint8) * 255)
    _write_image(root / "normals" / f"{name}.png", _encode_normals(sample.normals))


def write_nyud_b(root: Path, name: str, sample: RoomSample) -> None:
    """Write the five files of one room with edges and normals as arrays and a JPEG image."""
    _write_image(root / "segmentation" / f"{name}.png", sample.semseg)
    np.save(root / "depth" / f"{name}.npy", sample.depth)
    _write_image(root / "images" / f"{name}.jpg", sample.image)
    np.save(root / "edge" / f"{name}.npy", sample.edge.astype(np.uint8))
    np.save(root / "normals" / f"{name}.npy", sample.normals)


@cache
def _voc_palette() -> list[int]:
    """VOC's 256 colours, channel after channel: bit k of a label's three-bit groups sets bit 7 - k of R, G, B."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (labels >> (3 * bit + channel) & 1) << (7 - bit)
    return [int(value) for value in colours.ravel()]


def _write_indices(path: Path, labels: np.ndarray) -> None:
    """A palette PNG with VOC's colours."""
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(_voc_palette())
    image.save(path, compress_level=1)


def _write_mat(path: Path, name: str, value: np.ndarray) -> None:
    """One variable in MATLAB's format, without the date that SciPy writes into the header's 116 bytes of text."""
    from scipy.io import savemat

    file = BytesIO()
    savemat(file, {name: value}, do_compression=True)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:])


def _struct(rows: list[dict[str, object]]) -> np.ndarray:
    """A MATLAB struct array (1, n) of rows with the same fields; an empty array for no rows."""
    if not rows:
        return np.zeros((0, 0))
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


def _annotation(one: VocObject) -> dict[str, object]:
    """One object of a PASCAL-Part file."""
    parts: list[dict[str, object]] = [
        {"part_name": name, "mask": mask.astype(np.uint8)} for name, mask in one.parts.items()
    ]
    return {
        "class": VOC_NAMES[one.voc],
        "class_ind": float(one.voc),
        "mask": one.mask.astype(np.uint8),
        "parts": _struct(parts),
    }


def write_pascal(root: Path, name: str, sample: PeopleSample) -> None:
    """Write the seven files of one populated room."""
    _write_image(root / "JPEGImages" / f"{name}.jpg", sample.image)
    _write_image(root / "normals_distill" / f"{name}.png", _encode_normals(sample.normals))
    _write_image(root / "sal_distill" / f"{name}.png", sample.saliency)
    _write_indices(root / "semseg" / "VOC12" / f"{name}.png", sample.voc)
    _write_indices(root / "semseg" / "pascal-context" / f"{name}.png", CONTEXT_TO_VOC[sample.context])
    _write_mat(root / "pascal-context" / "trainval" / f"{name}.mat", "LabelMap", sample.context)
    objects = _struct([_annotation(one) for one in sample.objects])
    _write_mat(root / "human_parts" / f"{name}.mat", "anno", _struct([{"imname": name, "objects": objects}]))


def _nyud(write: Callable[[Path, str, RoomSample], None]) -> Layout:
    def render(root: Path, name: str, seed: int, index: int, image_size: tuple[int, int]) -> None:
        write(root, name, render_room(seed, index, image_size))

    return Layout(("images", "edge", "segmentation", "normals", "depth"), "gt_sets", 9999, _nyud_name, render)


def _render_pascal(root: Path, name: str, seed: int, index: int, image_size: tuple[int, int]) -> None:
    write_pascal(root, name, render_people(seed, index, image_size))


LAYOUTS = {
    "A": _nyud(write_nyud_a),
    "B": _nyud(write_nyud_b),
    "pascal": Layout(
        folders=(
            *("JPEGImages", "normals_distill", "sal_distill", "semseg/VOC12", "semseg/pascal-context"),
            *("pascal-context/trainval", "human_parts"),
        ),
        lists="ImageSets/Context",
        most=999_999,
        name=_pascal_name,
        write=_render_pascal,
    ),
}
"""By packaging: A (8-bit normals, PNG) and B (arrays, JPEG) of NYUD-v2; pascal: populated rooms as PASCAL-Context."""
