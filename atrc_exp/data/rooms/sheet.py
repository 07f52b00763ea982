"""A contact sheet of image and labels, from rooms in memory or any folder in the NYUD layout.

python -m atrc_exp.data.rooms.sheet ROOT docs/rooms.png --rows 6
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from atrc_exp.data.rooms.classes import CLASSES
from atrc_exp.data.rooms.render import RoomSample, render_room
from atrc_exp.errors import UserError

_TITLES = ("image", "semantics", "depth", "normals", "boundaries")
_NAMED_SHARE = 0.025  # regions above this share of the image carry their class's name


def _palette() -> np.ndarray:
    """A colour for each stored label (41, 3), black for unlabelled."""
    number = np.arange(40)
    hue, value = number * 0.61803 % 1.0, 0.55 + 0.4 * (number % 3) / 2
    colours = colormaps["hsv"](hue)[:, :3] * value[:, None]
    return np.concatenate([np.zeros((1, 3)), 0.85 * colours + 0.1])


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"{path} is not an image.")
    return image[..., ::-1] if image.ndim == 3 else image


def read_samples(root: Path, count: int) -> list[RoomSample]:
    """The first `count` samples of a folder in the NYUD layout; UserError for a missing file."""

    def load(part: str, name: str) -> np.ndarray:
        found = sorted((root / part).glob(f"{name}.*"))
        if not found:
            raise UserError(f"{root / part} has no file for id {name}. Give the root of a folder in the NYUD layout.")
        return _read(found[0])

    files = sorted((root / "images").glob("*.*"))[:count]
    if not files:
        raise UserError(f"{root} has no images/ with files. Give the root of a folder in the NYUD layout.")
    samples = []
    for name in (file.stem for file in files):
        normals = load("normals", name)
        if normals.dtype == np.uint8:
            holes = (normals == 127).all(-1, keepdims=True)
            normals = np.where(holes, 0, 2 * normals.astype(np.float32) / 255 - 1)
        image, labels, depth = (load(part, name) for part in ("images", "segmentation", "depth"))
        samples.append(RoomSample(image, labels, depth, normals, load("edge", name) > 0))
    return samples


def _name_regions(axes: Axes, labels: np.ndarray) -> None:
    """Write class names into the large regions of a label map, at each region's innermost point."""
    for label in np.unique(labels[labels > 0]):
        region = (labels == label).astype(np.uint8)
        if region.mean() > _NAMED_SHARE:
            inside = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(inside.argmax(), inside.shape)
            name = CLASSES[label - 1].replace("_", " ")
            text = axes.text(float(column), float(row), name, color="white", fontsize=5.5, clip_on=True)
            text.set(ha="center", va="center", in_layout=False)


def contact_sheet(rooms: Path | Sequence[RoomSample], path: Path, rows: int = 6) -> None:
    """Write a PNG with a row of panels for each of the first `rows` rooms: image and all labels.

    `rooms` is a folder in the NYUD layout or a sequence of samples. Depth runs from 0.7 m (dark) to 10 m
    (bright) on a logarithmic scale; normals are shown as RGB = (n + 1) / 2.
    """
    samples = read_samples(rooms, rows) if isinstance(rooms, Path) else list(rooms[:rows])
    height = 2.2 * samples[0].image.shape[0] / samples[0].image.shape[1]
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    figure = Figure((len(_TITLES) * 2.25, len(samples) * (height + 0.04) + 0.25), layout=layout)
    grid = figure.subplots(len(samples), len(_TITLES), squeeze=False)
    palette = _palette()
    for row, sample in zip(grid, samples, strict=True):
        depth = np.log(np.clip(sample.depth, 0.7, 10) / 0.7) / np.log(10 / 0.7)
        row[0].imshow(sample.image)
        row[1].imshow(palette[sample.semseg])
        _name_regions(row[1], sample.semseg)
        row[2].imshow(depth, cmap="magma", vmin=0, vmax=1)
        row[3].imshow(np.clip((sample.normals + 1) / 2, 0, 1))
        row[4].imshow(sample.edge, cmap="gray_r", vmin=0, vmax=1)
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(grid[0], _TITLES, strict=True):
        axes.set_title(title, fontsize=8, pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheet of rooms or of a folder in the NYUD layout.")
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--root", type=Path, help="folder in the NYUD layout; without it rooms are rendered")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--size", type=int, nargs=2, default=(425, 560), help="height and width of rendered rooms")
    parser.add_argument("--seed", type=int, default=0, help="seed of rendered rooms")
    arguments = parser.parse_args()
    rendered = (render_room(arguments.seed, index, tuple(arguments.size)) for index in range(arguments.rows))
    contact_sheet(arguments.root or list(rendered), arguments.path, arguments.rows)


if __name__ == "__main__":
    main()
