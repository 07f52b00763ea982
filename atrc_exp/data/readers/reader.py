"""What every dataset has in common: the interface of readers, the list of files behind it, and reading one split.

A reader says how one layout lies on disk: which images a split has, which files an image and its labels are made of,
and how they are decoded. A new layout is a class with the members of `Reader` and a row in `datasets.READERS`.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from atrc_exp.config import DatasetConfig
from atrc_exp.data.decode import read_orientation
from atrc_exp.data.readers.sample import DatasetInfo, Sample
from atrc_exp.errors import UserError
from atrc_exp.tasks import Task

SPLITS = ("train", "val")
MARKERS = {"nyud": "gt_sets", "pascal": "ImageSets/Context"}  # a folder by which a layout is known
IMAGE = "image"  # stands for the image where the others are tasks
_MISSING_SHOWN = 10


class Reader(Protocol):
    """One layout on disk. Made from a `DatasetConfig` and those of its tasks whose labels are needed; the constructor
    finds out what lies under the root.

    The constructor raises a UserError for a root or list of images that is missing, for a packaging it does not know,
    and for tasks the layout has no labels for. It does not look for the files of single images.
    """

    root: Path
    tasks: Mapping[str, Task]
    """`DatasetConfig.rows`."""
    packaging: str
    """Variant of the file formats."""
    ids: dict[str, list[str]]
    """Image ids by split, in the order of its list."""
    class_names: dict[str, list[str]]
    """Names by task, for tasks whose classes have names."""
    notes: list[str]
    """Deviations from the published dataset that the reader has found, a sentence each."""

    def files(self, modality: str, id: str) -> tuple[str, ...]:
        """Paths under the root, with "/", of all files that `IMAGE` or a task's label of this image is read from.

        Empty where the image has no label for the task.
        """
        ...

    def image(self, id: str) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB.

        Raises:
            UserError: a file that is damaged or breaks the conventions; the message names it.
        """
        ...

    def label(self, task: str, id: str) -> np.ndarray:
        """The label of one task in the conventions of `Sample.labels`; raises as `image`."""
        ...

    def stored(self, task: str, id: str) -> np.ndarray:
        """Depth or normals with the published code's rule of validity; raises as `image`. See `Truth.stored`."""
        ...


@runtime_checkable
class RegionReader(Reader, Protocol):
    """A reader of data whose boundaries are scored against the borders of annotated regions; see `Truth.borders`."""

    def borders(self, id: str) -> np.ndarray:
        """Borders (H, W) uint8 of an image, not thinned; raises as `Reader.image`."""
        ...


class Split:
    """One split of a dataset, decoded by its reader: the `Source` of training and validation."""

    def __init__(self, reader: Reader, split: str, info: DatasetInfo) -> None:
        self.reader = reader
        self.ids = reader.ids[split]
        self.info = info

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int, tasks: Sequence[str]) -> Sample:
        """Decode image `index` and the labels of `tasks`; see `Source.load`."""
        return load_sample(self.reader, self.ids[index], tasks)


def load_sample(reader: Reader, id: str, tasks: Iterable[str]) -> Sample:
    """Decode an image and its labels of `tasks`; raises as `Reader.image`."""
    image = reader.image(id)
    labels = {
        task: reader.label(task, id)
        if reader.files(task, id)
        else reader.tasks[task].kind.unlabelled(reader.tasks[task], image.shape[:2])
        for task in tasks
    }
    for task, label in labels.items():
        require_size(reader, task, id, label, image)
    return Sample(id, image, labels)


def stored_label(reader: Reader, task: str, id: str) -> np.ndarray | None:
    """`Reader.stored` as `Truth.stored`: None for an image without a label."""
    return reader.stored(task, id) if reader.files(task, id) else None


def require_size(reader: Reader, task: str, id: str, label: np.ndarray, image: np.ndarray) -> None:
    """Refuse a label of another height or width than its image, whose EXIF orientation may be the reason."""
    if label.shape[:2] == image.shape[:2]:
        return
    label_path, image_path = (reader.root / reader.files(kind, id)[0] for kind in (task, IMAGE))
    sizes = f"{label_path}: has {_size(label)} pixels, its image {image_path.name} has {_size(image)}"
    orientation = read_orientation(image_path)
    if orientation != 1 and label.shape[:2] == image.shape[1::-1]:
        raise UserError(
            f"{sizes}, turned upright by its EXIF orientation {orientation}; the label fits only the pixels as they "
            "are stored. Turn the label in the same way, or remove the orientation from the photo"
        )
    raise UserError(f"{sizes}; both must be of one size")


def find_root(config: DatasetConfig, layout: str, names: Sequence[str], expected: str) -> Path:
    """`dataset.root`, or the one folder of these names in it, as archives unpack to, that has the layout.

    Args:
        layout: key of `MARKERS`.
        expected: what the folder must be, for the message.

    Raises:
        UserError: there is none.
    """
    root, marker = Path(config.root).expanduser(), MARKERS[layout]
    below = [root / name for name in names if (root / name / marker).is_dir()]
    if (root / marker).is_dir():
        return root
    if len(below) == 1:
        return below[0]
    reason = f"has no folder {marker}" if root.is_dir() else "does not exist"
    if len(below) > 1:
        reason = f"holds {' and '.join(folder.name for folder in below)}; give one of them"
    other = [name for name, folder in MARKERS.items() if (root / folder).is_dir()]
    if other:
        reason += f" but the layout of dataset={other[0]}"
    raise UserError(f"dataset.root={config.root}: {reason}; {expected}")


def describe(reader: Reader, config: DatasetConfig, needed: Sequence[str]) -> DatasetInfo:
    """The facts of both splits of a dataset whose images and labels of the tasks `needed` exist.

    The fingerprint is of all files that are there of the dataset's tasks, so that runs on different tasks share it.

    Raises:
        UserError: files that are missing (one message for all), or, with `dataset.strict`, other numbers of images
            than the published ones.
    """
    sizes, missing = list_files(reader, config.tasks)
    ids = [id for split in SPLITS for id in reader.ids[split]] if missing else []
    wanted = {path for modality in (IMAGE, *needed) for id in ids for path in reader.files(modality, id)}
    lacking = [path for path in missing if path in wanted]
    if lacking:
        shown = ", ".join(lacking[:_MISSING_SHOWN]) + (", ..." if len(lacking) > _MISSING_SHOWN else "")
        total = len(sizes) + len(missing)
        raise UserError(
            f"{reader.root}: {len(lacking)} of {total} files are missing: {shown}; complete the copy, or choose tasks "
            "that do without them"
        )
    counts = {split: len(reader.ids[split]) for split in SPLITS}
    return DatasetInfo(
        name=config.name,
        packaging=reader.packaging,
        counts=counts,
        fingerprint=fingerprint(sizes),
        notes=[*reader.notes, *absence_notes(missing), *count_notes(config, counts)],
        class_names=reader.class_names,
    )


def list_files(reader: Reader, tasks: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Sizes in bytes by path under the root of the images and the labels of `tasks` of both splits; those missing."""
    ids = sorted({id for split in SPLITS for id in reader.ids[split]})
    paths = [path for modality in (IMAGE, *tasks) for id in ids for path in reader.files(modality, id)]
    sizes = file_sizes(reader.root, paths)
    return sizes, [path for path in dict.fromkeys(paths) if path not in sizes]


def file_sizes(root: Path, paths: Iterable[str]) -> dict[str, int]:
    """Sizes in bytes of those `paths` that are files; a folder is listed once, which is much faster on a network."""
    wanted = set(paths)
    sizes: dict[str, int] = {}
    for folder in {path.rpartition("/")[0] for path in wanted}:
        if not (root / folder).is_dir():
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path in wanted and entry.is_file():
                    sizes[path] = entry.stat().st_size
    return sizes


def fingerprint(sizes: Mapping[str, int]) -> str:
    """SHA-256 of the sorted paths with their sizes: names the files of a dataset, not their place."""
    lines = "".join(f"{path} {sizes[path]}\n" for path in sorted(sizes))
    return hashlib.sha256(lines.encode()).hexdigest()


def require_tasks(config: DatasetConfig, known: Sequence[str], layout: str) -> None:
    """Refuse tasks that a layout has no labels for."""
    unknown = [task for task in config.tasks if task not in known]
    if unknown:
        raise UserError(f"dataset.tasks={unknown}: the {layout} layout has only {', '.join(known)}")


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"


def absence_notes(missing: Sequence[str]) -> list[str]:
    """A note where files are missing that no task of the run needs."""
    return [f"{len(missing)} files of other tasks are missing, {missing[0]} among them"] if missing else []


def count_notes(config: DatasetConfig, counts: Mapping[str, int]) -> list[str]:
    """A note where the numbers of images by split are not the published ones; a UserError with `dataset.strict`."""
    if not config.counts or list(counts.values()) == list(config.counts):
        return []
    found, published = (
        f"{train} training and {val} validation images" for train, val in (counts.values(), config.counts)
    )
    note = f"{config.name} has {found}; the published dataset has {published}"
    if config.strict:
        raise UserError(f"{note}. Complete the copy, or set dataset.strict=false to record this as a note")
    return [note]
