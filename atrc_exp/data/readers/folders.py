"""Reader of one's own dataset: a folder of images and a folder of label maps a task, described in the configuration.

An id is an image's path in its folder, without suffix; the label maps have the same paths in theirs. An image without
a file in a task's folder has no label for that task.
"""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from atrc_exp.config import DatasetConfig
from atrc_exp.config.folders import LabelFilesConfig
from atrc_exp.data.arrays import ARRAYS, read_array
from atrc_exp.data.decode import SUFFIXES, read_colours, read_ids, read_normals, read_photo, read_values
from atrc_exp.data.readers.reader import IMAGE, SPLITS
from atrc_exp.errors import UserError
from atrc_exp.tasks import IGNORE, Task, class_count

_SHOWN = 5


class Folders:
    """The reader of `dataset.folders`; see `reader.Reader`.

    Raises:
        UserError: a folder that is missing, a split without images or in conflict with the other, an id without image,
            a task without a description, a needed one without any label in a split, an encoding that does not fit its
            task, class names or colours in another number than classes.
    """

    packaging = "folders"

    def __init__(self, config: DatasetConfig, needed: Sequence[str]) -> None:
        self.config = config.folders
        self.root = Path(config.root).expanduser()
        if not self.root.is_dir():
            raise UserError(f"dataset.root={config.root}: does not exist; it must hold the folders of your dataset")
        self.tasks: Mapping[str, Task] = config.rows
        self.labels = {task: self._description(task) for task in config.tasks}
        maps = [task for task in config.tasks if self.tasks[task].kind.class_map]
        self.classes = {task: class_count(task, config.num_classes, self.tasks) for task in maps}
        self._check_classes()
        self.class_names = self._checked_names()
        self.notes: list[str] = []
        self.paths = {IMAGE: self._index("images", self.config.images, self.config.image_suffix)}
        for task, label in self.labels.items():
            absent = task not in needed and not _folders(self.root, label.folder)
            self.paths[task] = {} if absent else self._index(f"labels.{task}.folder", label.folder, label.suffix)
        self.ids = {split: self._ids(split, getattr(self.config, split)) for split in SPLITS}
        self._check_splits(needed)

    def files(self, modality: str, id: str) -> tuple[str, ...]:
        """See `Reader.files`."""
        path = self.paths[modality].get(id)
        return (path,) if path else ()

    def image(self, id: str) -> np.ndarray:
        """See `Reader.image`."""
        return read_photo(self.root / self.paths[IMAGE][id])

    def label(self, task: str, id: str) -> np.ndarray:
        """See `Reader.label`."""
        decode: dict[str, Callable[[str, Path], np.ndarray]] = {
            "indices": self._indices,
            "mask": self._mask,
            "colours": self._colours,
            "metres": self._metres,
            "vectors": lambda _, path: read_normals(path),
            "values": self._values,
        }
        return decode[self._encoding(task, self.labels[task])](task, self.root / self.paths[task][id])

    def stored(self, task: str, id: str) -> np.ndarray:
        """See `Reader.stored`; the values of `invalid` are 0, too."""
        path, encoding = self.root / self.paths[task][id], self._encoding(task, self.labels[task])
        return read_normals(path, every_code=True) if encoding == "vectors" else self._scaled(task, path)

    def _indices(self, task: str, path: Path) -> np.ndarray:
        label, stored = self.labels[task], read_values(path)
        mapping = label.mapping or {label.first + index: index for index in range(self.classes[task])}
        known = np.array(sorted(mapping))
        index = np.array([mapping[value] for value in known])
        unlabelled = [IGNORE] if label.invalid is None else label.invalid

        def classes(values: np.ndarray) -> np.ndarray:
            invalid = np.isnan(values) | np.isin(values, unlabelled)
            place = np.searchsorted(known, values).clip(max=len(known) - 1)
            return np.select([invalid, known[place] == values], [IGNORE, index[place]], -1).astype(np.int16)

        found = _by_value(classes, stored)
        if found.min() < 0:
            wrong, shown = stored[found < 0][0], ", ".join(f"{value:g}" for value in unlabelled)
            allowed = ", ".join(map(str, known)) if label.mapping else f"{known[0]} to {known[-1]}"
            raise UserError(
                f"{path}: holds the value {wrong:g}; allowed are {allowed} for the classes of {task} and "
                f"{shown or 'none'} for unlabelled pixels (dataset.num_classes, .first or .mapping, and .invalid)"
            )
        return found.astype(np.uint8)

    def _mask(self, task: str, path: Path) -> np.ndarray:
        label = self.labels[task]

        def classes(values: np.ndarray) -> np.ndarray:
            invalid = np.isnan(values) | np.isin(values, label.invalid or [])
            return np.where(invalid, IGNORE, values > label.threshold).astype(np.uint8)

        return _by_value(classes, read_values(path))

    def _colours(self, task: str, path: Path) -> np.ndarray:
        label, stored = self.labels[task], _as_numbers(read_colours(path))
        known = _as_numbers(np.array([*label.colours, *(label.invalid_colours or [])]))
        classes = np.full(len(known), IGNORE, dtype=np.uint8)
        classes[: len(label.colours)] = np.arange(len(label.colours))
        order = np.argsort(known)
        place = order[np.searchsorted(known, stored, sorter=order).clip(max=len(known) - 1)]
        unknown = known[place] != stored
        if label.invalid_colours is not None and unknown.any():
            colours, counts = np.unique(stored[unknown], return_counts=True)
            most = int(colours[counts.argmax()])
            others = f" and {len(colours) - 1} more are" if len(colours) > 1 else " is"
            raise UserError(
                f"{path}: the colour [{most >> 16}, {most >> 8 & 255}, {most & 255}] of {counts.max()} pixels{others} "
                f"unknown; complete dataset.folders.labels.{task}.colours or .invalid_colours (null: every colour that "
                "no class has is unlabelled)"
            )
        return np.where(unknown, np.uint8(IGNORE), classes[place])

    def _metres(self, task: str, path: Path) -> np.ndarray:
        metres = self._scaled(task, path)
        metres[~((metres > 0) & (metres < np.inf))] = 0  # true for NaN, too
        return metres

    def _scaled(self, task: str, path: Path) -> np.ndarray:
        """Stored values in metres, those of `invalid` as 0."""
        label, stored = self.labels[task], read_values(path)
        metres: np.ndarray = stored.astype(np.float32) * np.float32(label.scale)
        if label.invalid:
            metres[np.isin(stored, label.invalid)] = 0
        return metres

    def _values(self, task: str, path: Path) -> np.ndarray:
        """Values (H, W) or (H, W, C), invalid where the kind has it."""
        label, row = self.labels[task], self.tasks[task]
        wanted = row.kind.shape(row, (0, 0))[2:]
        if path.suffix in ARRAYS:
            stored = read_array(path, channels=wanted[0] if wanted else 0)
        elif not wanted:
            stored = read_values(path)
        elif wanted == (3,):
            stored = read_colours(path)
        else:
            raise UserError(f"{path}: is an image; {task} has {wanted[0]} values a pixel, which arrays can hold")
        values: np.ndarray = stored.astype(np.float32) * np.float32(label.scale) + np.float32(label.offset)
        invalid = np.isin(stored, label.invalid or []).all(axis=tuple(range(2, stored.ndim)))
        values[invalid | ~np.isfinite(values).all(axis=tuple(range(2, stored.ndim)))] = row.kind.fill
        return values

    def _description(self, task: str) -> LabelFilesConfig:
        if task not in self.config.labels:
            given = ", ".join(self.config.labels) or "none"
            raise UserError(f"dataset.folders.labels: lacks {task}, which is one of dataset.tasks; it has {given}")
        label, kind = self.config.labels[task], self.tasks[task].kind
        if self._encoding(task, label) not in kind.encodings:
            raise UserError(
                f"dataset.folders.labels.{task}.encoding={label.encoding}: must be {' or '.join(kind.encodings)} "
                f"for a task of kind {kind.name}"
            )
        return label

    def _encoding(self, task: str, label: LabelFilesConfig) -> str:
        return label.encoding or self.tasks[task].kind.encodings[0]

    def _check_classes(self) -> None:
        for task, label in self.labels.items():
            if self._encoding(task, label) == "colours" and len(label.colours) != self.classes[task]:
                raise UserError(
                    f"dataset.folders.labels.{task}.colours: has {len(label.colours)} colours, one a class; {task} has "
                    f"{self.classes[task]} classes"
                )
            if label.mapping and set(label.mapping.values()) != set(range(self.classes[task])):
                raise UserError(
                    f"dataset.folders.labels.{task}.mapping={label.mapping}: must map values to each of the classes 0 "
                    f"to {self.classes[task] - 1}"
                )

    def _checked_names(self) -> dict[str, list[str]]:
        for task, names in self.config.class_names.items():
            if task in self.classes and len(names) != self.classes[task]:
                raise UserError(
                    f"dataset.folders.class_names.{task}: has {len(names)} names, one a class; {task} has "
                    f"{self.classes[task]} classes"
                )
        return {task: names for task, names in self.config.class_names.items() if task in self.classes}

    def _index(self, key: str, folder: str, suffix: str | None) -> dict[str, str]:
        """Paths under the root of the files in a folder, or in all that match it, by id."""
        folders = _folders(self.root, folder)
        if not folders:
            raise UserError(f"dataset.folders.{key}={folder}: there is no folder {self.root / folder}")
        index: dict[str, str] = {}
        for found, start in folders.items():
            for path in sorted(_relative_files(self.root / found)):
                own = suffix if suffix is not None else os.path.splitext(path)[1]
                if not path.endswith(own) or (suffix is None and own.lower() not in SUFFIXES):
                    continue
                id = start + path.removesuffix(own)
                if id in index:
                    raise UserError(
                        f"{self.root / folder}: {id} is there twice, as {Path(index[id]).name} and {Path(path).name}; "
                        "remove one, or give the suffix of the files in dataset.folders"
                    )
                index[id] = f"{found}/{path}"
        return index

    def _ids(self, split: str, source: str) -> list[str]:
        """The ids that a list file names, or whose images match a pattern."""
        if not source.endswith(".txt"):
            found = [id for id, path in self.paths[IMAGE].items()
                     if PurePosixPath(id).with_name(PurePosixPath(path).name).match(source)]  # fmt: skip
            if not found:
                folder = self.root / self.config.images
                raise UserError(f"dataset.folders.{split}={source}: no image in {folder} matches this pattern")
            return found
        ids = read_ids(self.root / source)
        missing = [id for id in ids if id not in self.paths[IMAGE]]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            raise UserError(
                f"{self.root / source}: {len(missing)} of {len(ids)} ids have no image in "
                f"{self.root / self.config.images}: {shown}; an id is an image's name without suffix"
            )
        return ids

    def _check_splits(self, needed: Sequence[str]) -> None:
        both = sorted(set(self.ids["train"]) & set(self.ids["val"]))
        if both:
            raise UserError(
                f"{both[0]} is in both splits, as are {len(both) - 1} other images; an image belongs to one split"
            )
        for task, label in self.labels.items():
            for split, ids in self.ids.items():
                count = sum(id in self.paths[task] for id in ids)
                if not count and task in needed:
                    raise UserError(
                        f"dataset.folders.labels.{task}: no {split} image has a label in {self.root / label.folder}; "
                        "file names must be those of the images (suffix says what follows the id)"
                    )
                if count < len(ids):
                    self.notes.append(f"{count} of {len(ids)} {split} images have labels of {task}")


def _by_value(rule: Callable[[np.ndarray], np.ndarray], stored: np.ndarray) -> np.ndarray:
    """A rule for single numbers (float64), applied to a map; of 8 bits by a table, which is much faster."""
    return rule(np.arange(256.0))[stored] if stored.dtype == np.uint8 else rule(stored.astype(np.float64))


def _as_numbers(colours: np.ndarray) -> np.ndarray:
    """One number for each colour (..., 3)."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _folders(root: Path, pattern: str) -> dict[str, str]:
    """Folders under the root that match, each with the start of its ids: what stands for every *, and "/"."""
    parts = pattern.split("*")
    shape = re.compile("([^/]*)".join(map(re.escape, parts)))
    found = sorted(glob.glob("*".join(map(glob.escape, parts)), root_dir=root))
    matches = {path: shape.fullmatch(path) for path in found if (root / path).is_dir()}
    return {path: "".join(f"{part}/" for part in match.groups()) for path, match in matches.items() if match}


def _relative_files(folder: Path) -> Iterable[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder).as_posix()
