"""Values that a file may hold, but that nobody can mean: found map by map, told once for all maps that look so."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atrc_exp.tasks import DEPTH_RANGE, IGNORE, TASKS

log = logging.getLogger(__name__)

_FIRST = 8  # training crops that are looked at
_AS_ONE = 0.9  # of them that must look wrong in one way: single crops may show one class, or one wall
_METRES = (0.01, 100.0)  # depths outside are in another unit
_LENGTHS = (0.5, 1.5)  # of normals; the coarsest eight bits and an unnormalised teacher stay well inside
_NOISE = 0.01  # what eight bits make of a component that is zero, and more


@dataclass(frozen=True)
class Doubt:
    """One way in which a map looks wrong."""

    what: str
    """What the map holds; the same for all maps that look so."""
    cure: str
    """The likely mistake, and what to do about it."""
    share: float = 0.0
    """Of the maps that must look so: single maps may do so by right."""
    detail: str = ""
    """Numbers of this map."""


def doubts(task: str, label: np.ndarray) -> Iterator[Doubt]:
    """What looks wrong in a label map in the conventions of `Sample.labels`, or in a crop of it."""
    kind = TASKS[task].label
    if kind == "depth":
        yield from _doubts_of_depth(label[label > 0])
    elif kind == "normals":
        yield from _doubts_of_normals(label[label.any(axis=2)])
    elif not TASKS[task].background_is_unlabelled:  # images without people are many
        yield from _doubts_of_classes(np.bincount(label.reshape(-1), minlength=IGNORE + 1), TASKS[task].regions == 2)


class Doubts:
    """The doubts of many maps, by task."""

    def __init__(self) -> None:
        self.maps: Counter[str] = Counter()
        self.found: dict[tuple[str, str], list[tuple[str, Doubt]]] = {}

    def add(self, task: str, name: str, found: Iterable[Doubt]) -> None:
        """Take note of a map by the name of its file or image."""
        self.maps[task] += 1
        for doubt in found:
            self.found.setdefault((task, doubt.what), []).append((name, doubt))

    def lines(self, share: float = 0.0) -> list[str]:
        """A sentence for each kind of doubt that holds for enough maps, at least for `share` of them."""
        lines = []
        for (task, what), entries in self.found.items():
            (name, first), total = entries[0], self.maps[task]
            if len(entries) >= max(share, first.share) * total:
                example = f"{name}: {first.detail}" if first.detail else name
                lines.append(f"{task}: {what} in {len(entries)} of {total} files ({example}); {first.cure}")
        return lines


class FirstLook:
    """Looks at the first crops of a training, not yet on the device, and warns once of what looks wrong."""

    def __init__(self) -> None:
        self.doubts, self.left = Doubts(), _FIRST

    def __call__(self, ids: Sequence[str], labels: Mapping[str, np.ndarray]) -> None:
        """Take label maps (B, H, W) or (B, 3, H, W) by task; after enough of them nothing is done."""
        if self.left <= 0:
            return
        self.left -= len(ids)
        for task, maps in labels.items():
            for id, label in zip(ids, maps, strict=True):
                self.doubts.add(task, id, doubts(task, np.moveaxis(label, 0, 2) if label.ndim == 3 else label))
        for line in self.doubts.lines(_AS_ONE) if self.left <= 0 else ():
            log.warning("the first training crops look wrong: %s", line)


def _doubts_of_depth(metres: np.ndarray) -> Iterator[Doubt]:
    if not metres.size:
        yield _EMPTY
        return
    low, high = float(metres.min()), float(metres.max())
    detail = f"{low:.4g} to {high:.4g} m"
    if high <= 1:
        cure = "are they scaled to [0, 1]?" if high > 0.1 else "is folders.labels.depth.scale too small?"
        yield Doubt("no depth above 1 m", f"{cure} Metres are wanted", 1.0, detail)
    elif low < _METRES[0] or high > _METRES[1]:
        middle = float(np.median(metres))
        cure = "are values without a label among them? folders.labels.depth.invalid lists those of one's own dataset"
        for unit, scale, least in (("centimetres", "0.01", 30.0), ("millimetres", "0.001", 600.0)):
            if middle >= least:
                cure = f"are they {unit}? folders.labels.depth.scale={scale} makes metres of one's own dataset"
        yield Doubt("depths that cannot be metres", cure, detail=detail)
    elif ((metres < DEPTH_RANGE[0]) | (metres > DEPTH_RANGE[1])).mean() > 0.5:
        near, far = DEPTH_RANGE
        cure = f"the label regions of depth are bins between {near:g} and {far:g} m, and tell the others not apart"
        yield Doubt(f"more depths outside {near:g} to {far:g} m than inside", cure, 0.5, detail)


def _doubts_of_normals(vectors: np.ndarray) -> Iterator[Doubt]:
    if not len(vectors):
        yield _EMPTY
        return
    lengths = np.linalg.norm(vectors, axis=1)
    low, high = float(vectors.min()), float(vectors.max())
    to_one_side = (vectors[:, 0] > -_NOISE).all() or (vectors[:, 0] < _NOISE).all()  # the flip of a crop changes x
    wrong = int(((lengths < _LENGTHS[0]) | (lengths > _LENGTHS[1])).sum())
    if wrong:
        cure = "are these 8-bit values? They mean v = 2 u / 255 - 1" if high > 2 else "unit vectors are wanted"
        detail = f"{wrong} of length {lengths.min():.3g} to {lengths.max():.3g}"
        yield Doubt("vectors far from length 1", f"{cure}, and (0, 0, 0) where there is no label", detail=detail)
    if to_one_side and (vectors[:, 1:] > -_NOISE).all():
        cure = "are they stored in [0, 1]? v = 2 n - 1 is wanted"
        yield Doubt("components of a single sign", cure, 1.0, f"{low:.3g} to {high:.3g}")
    elif (vectors[:, 2] < -_NOISE).mean() > 0.5:
        cure = "z must be positive towards the camera: change its sign"
        yield Doubt("normals that point away from the camera", cure, 0.5)


def _doubts_of_classes(counts: np.ndarray, binary: bool) -> Iterator[Doubt]:
    labelled = counts[:IGNORE].sum()
    if not labelled:
        yield _EMPTY
    elif counts.max() == counts.sum():
        yield Doubt(f"the value {counts.argmax()} in every pixel", "are these the right files?")
    elif counts[0] == labelled:
        cure = f"files of 0 and {IGNORE} are masks: encoding: mask in folders.labels of one's own dataset"
        yield Doubt("nothing but class 0 and unlabelled pixels", cure, 1.0)
    elif binary and counts[1] > 0.9 * labelled:
        yield Doubt("class 1 nearly everywhere", "are the files inverted? Class 1 is what is looked for", 0.5)


_EMPTY = Doubt("no labelled pixel", "is the value of every pixel among those without a label?")
