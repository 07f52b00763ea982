"""Reader of PASCAL-Context for multi-task learning, the layout of PASCAL_MT and PASCALContext.

Semantics, saliency and normals are images. Human parts are painted from PASCAL-Part's annotations, boundaries and the
validity of normals come from the 459-class LabelMap: maps that are derived once and kept in the cache folder.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrc_exp.config import DatasetConfig
from atrc_exp.data.cache import DerivedMaps, cache_dir
from atrc_exp.data.decode import read_grey, read_ids, read_indices, read_mat, read_normals, read_photo, read_size
from atrc_exp.data.readers.pascal_classes import (
    CLASS_NAMES,
    CLASSES_WITH_NORMALS,
    CONTEXT_CLASSES,
    PART_IDS,
    PART_NAMES,
    PERSON,
    SALIENCY_NAMES,
)
from atrc_exp.data.readers.reader import IMAGE, SPLITS, file_sizes, find_root, fingerprint, require_tasks
from atrc_exp.errors import UserError
from atrc_exp.tasks import IGNORE, Task

FOLDER_NAMES = ("PASCAL_MT", "PASCALContext")  # of the published archives
TASKS = ("semseg", "human_parts", "sal", "normals", "edge")
SEMSEG = {"voc": "semseg/VOC12", "context": "semseg/pascal-context"}  # in order of preference
LABEL_MAPS = "pascal-context/trainval"
PARTS = "human_parts"
_EXPECTED = (
    "give the folder PASCAL_MT or PASCALContext itself, with JPEGImages/, ImageSets/Context/, semseg/, "
    f"{PARTS}/, {LABEL_MAPS}/, normals_distill/ and sal_distill/"
)
_DERIVED = "1"  # raise it when the same files give other maps
_HAS_NORMALS = np.isin(np.arange(CONTEXT_CLASSES + 1), CLASSES_WITH_NORMALS)


class PASCAL:
    """The reader of the PASCAL layout; see `reader.Reader`.

    `packaging` says where semantics come from: voc, context where only the maps derived from the context labels are
    there, or voc+context.

    Raises:
        UserError: a root or split file that is missing, tasks without labels.
    """

    def __init__(self, config: DatasetConfig, needed: Sequence[str]) -> None:
        self.root = find_root(config, "pascal", FOLDER_NAMES, _EXPECTED)
        require_tasks(config, TASKS, "PASCAL")
        self.tasks: Mapping[str, Task] = config.rows
        if config.num_classes.get("semseg", len(CLASS_NAMES)) != len(CLASS_NAMES):
            classes = config.num_classes["semseg"]
            raise UserError(f"dataset.num_classes.semseg={classes}: must be {len(CLASS_NAMES)}, as the layout has them")
        self.ids = {split: read_ids(self.root / "ImageSets" / "Context" / f"{split}.txt") for split in SPLITS}
        ids = sorted({id for split in SPLITS for id in self.ids[split]})
        self.semseg = _semseg_folders(self.root, ids)
        self.packaging = "+".join(kind for kind, folder in SEMSEG.items() if folder in self.semseg.values())
        self.class_names = {"semseg": CLASS_NAMES, "human_parts": PART_NAMES, "sal": SALIENCY_NAMES}
        self.notes = _notes(self.semseg)
        maps, key = cache_dir(config) / "maps", self._key(LABEL_MAPS, ids)
        self.region_borders = DerivedMaps(maps / f"borders-{key}")
        self.edges = DerivedMaps(maps / f"edge-{key}")
        self.validity = DerivedMaps(maps / f"normals-{key}")
        self.parts = DerivedMaps(maps / f"human_parts-{self._key(PARTS, ids)}")

    def files(self, modality: str, id: str) -> tuple[str, ...]:
        """See `Reader.files`."""
        return {
            IMAGE: (f"JPEGImages/{id}.jpg",),
            "semseg": (f"{self.semseg[id]}/{id}.png",),
            "human_parts": (f"{PARTS}/{id}.mat",),
            "sal": (f"sal_distill/{id}.png",),
            "normals": (f"normals_distill/{id}.png", f"{LABEL_MAPS}/{id}.mat"),
            "edge": (f"{LABEL_MAPS}/{id}.mat",),
        }[modality]

    def image(self, id: str) -> np.ndarray:
        """See `Reader.image`."""
        return read_photo(self._paths(IMAGE, id)[0])

    def label(self, task: str, id: str) -> np.ndarray:
        """See `Reader.label`."""
        decode: dict[str, Callable[[str], np.ndarray]] = {
            "semseg": self._semseg,
            "human_parts": self._human_parts,
            "sal": self._saliency,
            "normals": lambda id: self._normals(id, every_code=False),
            "edge": self._edge,
        }
        return decode[task](id)

    def borders(self, id: str) -> np.ndarray:
        """What boundaries are scored against: the borders of the regions of LabelMap, all 459 classes and 0."""
        from atrc_exp.metrics.boundary import partition_to_boundary

        (path,) = self._paths("edge", id)
        return self.region_borders.get(id, lambda: partition_to_boundary(read_label_map(path)).astype(np.uint8))

    def stored(self, task: str, id: str) -> np.ndarray:
        """See `Reader.stored`; there is no depth."""
        return self._normals(id, every_code=True)

    def _semseg(self, id: str) -> np.ndarray:
        """VOC classes, 255 void."""
        (path,) = self._paths("semseg", id)
        labels = read_indices(path)
        wrong = (labels >= len(CLASS_NAMES)) & (labels != IGNORE)
        if wrong.any():
            raise UserError(
                f"{path}: holds the value {labels[wrong][0]}; allowed are 0 to {len(CLASS_NAMES) - 1} for the classes "
                f"and {IGNORE} for unlabelled pixels"
            )
        return labels

    def _human_parts(self, id: str) -> np.ndarray:
        (path,) = self._paths("human_parts", id)
        return self.parts.get(id, lambda: paint_parts(path, read_size(self._paths(IMAGE, id)[0])))

    def _saliency(self, id: str) -> np.ndarray:
        return (read_grey(self._paths("sal", id)[0]) > 127).astype(np.uint8)  # u / 255 > 0.5

    def _normals(self, id: str, *, every_code: bool) -> np.ndarray:
        """Zero where the teacher's prediction does not count: outside `CLASSES_WITH_NORMALS`."""
        path, label_map = self._paths("normals", id)
        normals = read_normals(path, every_code=every_code)
        valid = self.validity.get(id, lambda: _HAS_NORMALS[read_label_map(label_map)].astype(np.uint8))
        if valid.shape != normals.shape[:2]:
            raise UserError(
                f"{label_map}: has {valid.shape[0]} x {valid.shape[1]} pixels, {path.name} in normals_distill/ has "
                f"{normals.shape[0]} x {normals.shape[1]}; both must be of one size"
            )
        normals[valid == 0] = 0
        return normals

    def _edge(self, id: str) -> np.ndarray:
        (path,) = self._paths("edge", id)
        return self.edges.get(id, lambda: label_boundaries(read_label_map(path)))

    def _paths(self, modality: str, id: str) -> list[Path]:
        return [self.root / path for path in self.files(modality, id)]

    def _key(self, folder: str, ids: list[str]) -> str:
        """Names the files that maps are derived from: another list of files, or other sizes, is another key."""
        sizes = file_sizes(self.root, (f"{folder}/{id}.mat" for id in ids))
        return f"v{_DERIVED}-{fingerprint(sizes)[:16]}"


def read_label_map(path: Path) -> np.ndarray:
    """The context classes (H, W) of an image: 1 to 459, 0 unlabelled.

    Raises:
        UserError: a file that is damaged, or holds something else.
    """
    labels = read_mat(path, "LabelMap")
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "biuf":
        raise UserError(f"{path}: LabelMap must be an array (H, W) of numbers")
    classes = labels.astype(np.int64)
    wrong = (classes != labels) | (classes < 0) | (classes > CONTEXT_CLASSES)
    if wrong.any():
        raise UserError(f"{path}: LabelMap holds the value {labels[wrong][0]}; allowed are 0 to {CONTEXT_CLASSES}")
    return classes


def label_boundaries(label_map: np.ndarray) -> np.ndarray:
    """Boundaries to train on (H, W) uint8 from a label map: where its Laplacian is not zero, thinned to one pixel.

    As published, with its weakness: a label midway between its neighbours' values can cancel to zero. The maps that
    boundaries are scored on are made in another way (`PASCAL.borders`).
    """
    import cv2
    from skimage.morphology import thin

    return thin(cv2.Laplacian(label_map.astype(np.float64), cv2.CV_64F) != 0).astype(np.uint8)


def paint_parts(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Human parts (H, W) uint8, 1 to 6 and 0 background, from PASCAL-Part's annotation of an image of `size` (H, W).

    The parts of each person are painted in the order of the file, later ones over earlier ones. People without parts
    stay background, and all do where no person's own mask has a pixel.

    Raises:
        UserError: a damaged file, an unknown part, masks of another size.
    """
    painted = np.zeros(size, np.uint8)
    try:
        people = [o for o in _elements(read_mat(path, "anno").objects) if int(o.class_ind) == PERSON]
        own_masks = [np.asarray(person.mask) for person in people]
        parts = [(str(part.part_name), np.asarray(part.mask)) for one in people for part in _elements(one.parts)]
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no annotation of PASCAL-Part ({error})") from error
    if not any(mask.any() for mask in own_masks):
        return painted
    for owner, mask in [("person", mask) for mask in own_masks if mask.size] + [("part", mask) for _, mask in parts]:
        if mask.shape != size:
            raise UserError(
                f"{path}: the mask of a {owner} has shape {mask.shape}, the image {size[0]} x {size[1]} pixels; "
                "both must be of one size"
            )
    for name, mask in parts:
        if name not in PART_IDS:
            raise UserError(f"{path}: names the part '{name}'; known parts: {', '.join(PART_IDS)}")
        painted[mask != 0] = PART_IDS[name]
    return painted


def _elements(structures: Any) -> list[Any]:
    """A structure array of MATLAB as a list, whatever `squeeze_me` made of it: none, one or several elements."""
    return list(structures.flat) if isinstance(structures, np.ndarray) else [structures]


def _notes(semseg: dict[str, str]) -> list[str]:
    others = sum(folder != SEMSEG["voc"] for folder in semseg.values())
    return [f"{others} of {len(semseg)} images take their semantics from {SEMSEG['context']}"] if others else []


def _semseg_folders(root: Path, ids: list[str]) -> dict[str, str]:
    """The folder of each image's semantics: the first that has it, or the preferred one if none has."""
    found = {}
    for folder in SEMSEG.values():
        found[folder] = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
    preferred = SEMSEG["voc"]
    return {id: next((folder for folder in found if f"{id}.png" in found[folder]), preferred) for id in ids}
