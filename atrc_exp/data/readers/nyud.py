"""Reader of the NYUD-v2 layout for multi-task learning, in its two packagings.

Under the root lie `gt_sets/{train,val}.txt` with one id a line, and a folder for each modality with one file an id.
Packaging A stores 8-bit PNGs and depth as .npy, of 425 x 560 pixels; B stores JPEG images and float arrays of normals
and edges, of 480 x 640. Both exist under several archive names with the same folders, so the files themselves tell
which one it is.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from atrc_exp.config import DatasetConfig
from atrc_exp.data.arrays import read_array
from atrc_exp.data.decode import read_ids, read_indices, read_normals, read_photo
from atrc_exp.data.readers.reader import IMAGE, SPLITS, find_root, require_tasks
from atrc_exp.errors import UserError
from atrc_exp.tasks import IGNORE, Task

FOLDER_NAMES = ("NYUDv2", "NYUD_MT")  # of the published archives
CROPPED = "cropped.json"  # lies in copies of packaging B that `crop.cropped_copy` made
FOLDERS = {IMAGE: "images", "semseg": "segmentation", "depth": "depth", "normals": "normals", "edge": "edge"}
_EXPECTED = (
    f"it must hold gt_sets/ with train.txt and val.txt, and the folders {', '.join(FOLDERS.values())}. "
    "Procedural rooms are made by: python -m atrc_exp stage=generate dataset=rooms dataset.root={root}"
)
SUFFIXES = {
    "A": {IMAGE: ".png", "semseg": ".png", "depth": ".npy", "normals": ".png", "edge": ".png"},
    "B": {IMAGE: ".jpg", "semseg": ".png", "depth": ".npy", "normals": ".npy", "edge": ".npy"},
    "B cropped": {IMAGE: ".png", "semseg": ".png", "depth": ".npy", "normals": ".npy", "edge": ".npy"},
}
# fmt: off
CLASS_NAMES = [
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
]
# fmt: on


class NYUD:
    """The reader of the NYUD layout; see `reader.Reader`.

    Raises:
        UserError: a root or split file that is missing, an unknown or mixed packaging, tasks without labels.
    """

    def __init__(self, config: DatasetConfig, needed: Sequence[str]) -> None:
        self.root = find_root(config, "nyud", FOLDER_NAMES, _EXPECTED.format(root=config.root))
        require_tasks(config, list(FOLDERS)[1:], "NYUD")
        self.tasks: Mapping[str, Task] = config.rows
        self.packaging = _packaging(self.root, needed)
        self.ids = {split: read_ids(self.root / "gt_sets" / f"{split}.txt") for split in SPLITS}
        self.notes = _notes(config, self.packaging)
        self.num_classes = config.num_classes.get("semseg", 0)  # 0: semseg is no task
        self.class_names = {"semseg": CLASS_NAMES} if self.num_classes == len(CLASS_NAMES) else {}

    def files(self, modality: str, id: str) -> tuple[str, ...]:
        """See `Reader.files`."""
        return (f"{FOLDERS[modality]}/{id}{SUFFIXES[self.packaging][modality]}",)

    def image(self, id: str) -> np.ndarray:
        """See `Reader.image`."""
        return read_photo(self._path(IMAGE, id))

    def label(self, task: str, id: str) -> np.ndarray:
        """See `Reader.label`."""
        decode = {"semseg": self._semseg, "depth": _depth, "normals": read_normals, "edge": _edge}
        return decode[task](self._path(task, id))

    def stored(self, task: str, id: str) -> np.ndarray:
        """See `Reader.stored`."""
        path = self._path(task, id)
        return read_normals(path, every_code=True) if task == "normals" else read_array(path).astype(np.float32)

    def _path(self, modality: str, id: str) -> Path:
        return self.root / self.files(modality, id)[0]

    def _semseg(self, path: Path) -> np.ndarray:
        """Stored 1..C become 0..C-1; 0 and 255 are unlabelled."""
        stored = read_indices(path)
        wrong = (stored > self.num_classes) & (stored != IGNORE)
        if wrong.any():
            raise UserError(
                f"{path}: holds the value {stored[wrong][0]}; allowed are 1 to {self.num_classes} for the classes and "
                f"0 or {IGNORE} for unlabelled pixels"
            )
        return np.where(stored == IGNORE, np.uint8(IGNORE), stored - np.uint8(1))  # 0 - 1 wraps to 255


def _notes(config: DatasetConfig, packaging: str) -> list[str]:
    if not config.counts or packaging == "A":  # other data in this layout has no published results
        return []
    return [f"packaging {packaging}; the paper's numbers belong to packaging A, whose images are 425 x 560"]


def _depth(path: Path) -> np.ndarray:
    """Metres; a depth that is not finite or below 0 becomes 0, that is, invalid. The published code trains on both."""
    metres: np.ndarray = read_array(path).astype(np.float32, copy=False)
    metres[~((metres > 0) & (metres < np.inf))] = 0  # false for NaN, too
    return metres


def _edge(path: Path) -> np.ndarray:
    """1 on a boundary, 0 elsewhere.

    An image holds 255 and 0; a value in between is a boundary in its upper half. The published code divides by 255 and
    trains on the fraction.
    """
    if path.suffix == ".png":
        stored = read_indices(path)
        if 0 < stored.max() < 128:
            raise UserError(
                f"{path}: its largest value is {stored.max()}; boundaries are stored as 255 and all other pixels as 0"
            )
        return (stored > 127).astype(np.uint8)
    edge = read_array(path)
    wrong = (edge != 0) & (edge != 1)
    if wrong.any():
        raise UserError(f"{path}: holds the value {edge[wrong][0]}; allowed are 0 and 1")
    return edge.astype(np.uint8)


def _packaging(root: Path, needed: Sequence[str]) -> str:
    """A or B by the kinds of files in normals/ and segmentation/, or in the other folders where normals are missing."""
    kinds = {modality: _kinds(root / folder) for modality, folder in FOLDERS.items()}
    for modality in ("normals", "semseg"):
        if modality in needed and not (root / FOLDERS[modality]).is_dir():
            raise UserError(
                f"{root / FOLDERS[modality]}: this folder is missing; complete the copy, or choose tasks that do "
                "without it (training crops follow the classes of semseg, too, unless dataset.tasks lacks it)"
            )
    if kinds["normals"] == (".jpg",) or kinds["semseg"] == (".mat",):
        raise UserError(
            f"{root}: holds the ASTMT packaging (.jpg normals, .mat labels), which is not supported; use the packaging "
            "with .png or .npy normals and .png segmentation"
        )
    telling = [name for name in ("normals", "semseg") if kinds[name] or name in needed]
    if "normals" not in telling:
        telling += [name for name in ("edge", IMAGE) if kinds[name]]
    for packaging in ("B cropped",) if (root / CROPPED).is_file() else ("A", "B"):
        if all(kinds[name] == (SUFFIXES[packaging][name],) for name in telling):
            return packaging
    shown = "; ".join(f"{FOLDERS[name]}/ has {', '.join(kinds[name]) or 'none'}" for name in telling)
    raise UserError(
        f"{root}: cannot tell the packaging from the kinds of files: {shown}. Allowed are .png normals (A) or .npy "
        "normals (B), not both, with .png segmentation; unpack one archive into an empty folder"
    )


def _kinds(folder: Path) -> tuple[str, ...]:
    """Suffixes of the files in a folder, of those that the packagings use."""
    if not folder.is_dir():
        return ()
    found = {Path(entry.name).suffix for entry in os.scandir(folder) if not entry.name.startswith(".")}
    return tuple(sorted(found & {".png", ".npy", ".jpg", ".mat"}))
