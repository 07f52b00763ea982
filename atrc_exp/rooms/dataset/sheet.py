"""Draw a contact sheet of rooms: the image and all labels, as the data set's reader delivers them.

python -m atrc_exp.rooms.dataset.sheet docs/rooms.png --rows 6
python -m atrc_exp.rooms.dataset.sheet docs/rooms_people.png --packaging pascal --rows 8 --size 375 500
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from atrc_exp.config import DatasetConfig
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.sample import Sample, Source
from atrc_exp.rooms.dataset.write import generate
from atrc_exp.tasks import IGNORE, TASKS, Task

_GREY = "0.85"
_NAMED_SHARE = 0.025  # regions above this share of the image carry their class's name
_TASKS = {"nyud": ["semseg", "depth", "normals", "edge"], "pascal": ["semseg", "human_parts", "sal", "normals", "edge"]}
_CLASSES = {"nyud": 40, "pascal": 21}
_READERS = {"A": "nyud", "B": "nyud", "pascal": "pascal"}  # by packaging


def _palette(names: Sequence[str]) -> np.ndarray:
    """A colour for each class (256, 3): black for a background, light grey for what is unlabelled."""
    number = np.arange(256)
    hue, value = number * 0.61803 % 1.0, 0.55 + 0.4 * (number % 3) / 2
    colours: np.ndarray = 0.85 * colormaps["hsv"](hue)[:, :3] * value[:, None] + 0.1
    colours[IGNORE] = 0.85
    if names and names[0] == "background":
        colours[0] = 0
    return colours


def _name_regions(axes: Axes, labels: np.ndarray, names: Sequence[str]) -> None:
    """Write class names into the large regions of a label map, at each region's innermost point."""
    for label in np.unique(labels[labels != IGNORE]):
        region = (labels == label).astype(np.uint8)
        if names[label] != "background" and region.mean() > _NAMED_SHARE:
            inside = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(inside.argmax(), inside.shape)
            name = names[label].replace("_", " ")
            text = axes.text(float(column), float(row), name, color="white", fontsize=5.5, clip_on=True)
            text.set(ha="center", va="center", in_layout=False)


def draw_label(
    axes: Axes, task: Task, label: np.ndarray, names: Sequence[str], span: tuple[float, float] | None = None
) -> None:
    """A label map as its kind is shown, depth over `span` in metres or over the range of its label regions.

    Unlabelled pixels are grey. Class maps carry the names of their large regions, if `names` has any.
    """
    look = task.kind.look_of_label(task, label, span)
    if look.classes:
        axes.imshow(_palette(names)[look.pixels], interpolation="nearest")
        if names:
            _name_regions(axes, label, names)
    elif look.colours is None:
        axes.imshow(look.pixels)
    else:
        scale = (LogNorm if look.logarithmic else Normalize)(*(look.span or (None, None)))
        axes.imshow(look.pixels, cmap=colormaps[look.colours].with_extremes(bad=_GREY), norm=scale)


def contact_sheet(samples: Sequence[Sample], names: dict[str, list[str]], path: Path) -> None:
    """Write a PNG with a row of panels for each sample: the image and its labels.

    `names` are the names of classes by task, as in `DatasetInfo`.
    """
    tasks = [TASKS[task] for task in samples[0].labels]
    heights = [2.2 * sample.image.shape[0] / sample.image.shape[1] + 0.04 for sample in samples]
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    figure = Figure(((len(tasks) + 1) * 2.25, sum(heights) + 0.25), layout=layout)
    grid = figure.subplots(len(samples), len(tasks) + 1, squeeze=False, height_ratios=heights)
    for row, sample in zip(grid, samples, strict=True):
        row[0].imshow(sample.image)
        for axes, task in zip(row[1:], tasks, strict=True):
            draw_label(axes, task, sample.labels[task.name], names.get(task.name, ()))
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(grid[0], ("Image", *(task.title for task in tasks)), strict=True):
        axes.set_title(title, fontsize=8, pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def sheet_of(root: Path, reader: str, path: Path, rows: int) -> None:
    """The contact sheet of the first images of a folder in the layout of "nyud" or "pascal"."""
    with TemporaryDirectory() as cache:
        config = DatasetConfig(
            name="rooms",
            reader=reader,
            root=str(root),
            tasks=_TASKS[reader],
            num_classes={"semseg": _CLASSES[reader]},
            cache_dir=cache,
        )
        data = open_dataset(config)
        sources: tuple[Source, ...] = (data.train, data.val)
        keys = [(source, index) for source in sources for index in range(len(source))][:rows]
        contact_sheet([source.load(index, config.tasks) for source, index in keys], data.info.class_names, path)


def main(words: Sequence[str] | None = None) -> None:
    """Draw the sheet of the folder that the command line names, or of rooms rendered for it."""
    parser = argparse.ArgumentParser(description="Contact sheet of procedural rooms, or of a folder in their layout.")
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--root", type=Path, help="folder to show; without it rooms are rendered")
    parser.add_argument("--packaging", choices=list(_READERS), default="A", help="layout of the folder or the rooms")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--size", type=int, nargs=2, default=(425, 560), help="height and width of rendered rooms")
    parser.add_argument("--seed", type=int, default=0, help="seed of rendered rooms")
    arguments = parser.parse_args(words)
    reader, rows = _READERS[arguments.packaging], arguments.rows
    with TemporaryDirectory() as folder:
        root = arguments.root or Path(folder) / "rooms"
        if arguments.root is None:
            settings = {"image_size": tuple(arguments.size), "seed": arguments.seed, "packaging": arguments.packaging}
            generate(root, train=max(rows - 1, 1), val=1, **settings)
        sheet_of(root, reader, arguments.path, rows)


if __name__ == "__main__":
    main()
