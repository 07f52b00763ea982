"""Every file of a dataset read once: what is wrong, file by file, and what the labels hold."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from atrc_exp.data.decode import read_orientation
from atrc_exp.data.prepare.plausible import Doubts
from atrc_exp.data.readers.reader import IMAGE, SPLITS, Reader, list_files, require_size
from atrc_exp.errors import UserError
from atrc_exp.tasks.kinds.depth import histogram_edges
from atrc_exp.tasks.kinds.kind import Doubt

DEPTH_EDGES = histogram_edges()
_CHUNK = 8  # images handed to a process at a time


@dataclass
class Labels:
    """What the labels of one task hold over a split."""

    pixels: int = 0
    valid: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels by value, for class maps."""
    range: tuple[float, float] = (np.inf, -np.inf)
    """Smallest and largest valid depth in metres."""
    total: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """Sum of valid depths in metres (first element) or of unit normals."""
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(len(DEPTH_EDGES) - 1, np.int64))
    """Pixels by depth, between `DEPTH_EDGES`."""

    def __iadd__(self, other: "Labels") -> "Labels":
        self.pixels += other.pixels
        self.valid += other.valid
        self.counts += other.counts
        self.range = min(self.range[0], other.range[0]), max(self.range[1], other.range[1])
        self.total += other.total
        self.histogram += other.histogram
        return self


@dataclass
class Findings:
    """The result of a check."""

    files: dict[str, int]
    """Paths under the root with sizes in bytes of all files that are there."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Paths under the root with what is wrong with each."""
    images: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of images by height and width."""
    labels: dict[str, dict[str, Labels]] = field(default_factory=dict)
    """By split and task."""
    doubts: Doubts = field(default_factory=Doubts)
    """What looks wrong without being refused."""


@dataclass
class _Image:
    """What was found of one image."""

    problems: list[tuple[str, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    labels: dict[str, Labels] = field(default_factory=dict)
    doubts: list[tuple[str, str, list[Doubt]]] = field(default_factory=list)
    """Modality, file, and what looks wrong."""


def check_files(
    reader: Reader,
    tasks: Iterable[str],
    *,
    values: bool = False,
    workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Findings:
    """Read every file of both splits, except those whose derived map is in the cache.

    A file that is missing, damaged, of another size than its image or outside the conventions is one problem; the
    others are read all the same.

    Args:
        values: what looks wrong in a single file is a problem, too.
        workers: processes that read; 0 reads in this one.
        advance: called after every image.
    """
    tasks = list(tasks)
    sizes, missing = list_files(reader, tasks)
    findings = Findings(sizes, [(path, "is missing") for path in missing])
    findings.labels = {split: {task: Labels() for task in tasks} for split in SPLITS}
    images = [(split, id) for split in SPLITS for id in reader.ids[split]]
    examine = partial(_examine, reader, tasks, frozenset(missing), values)
    for (split, _), found in zip(images, _each(examine, [id for _, id in images], workers), strict=True):
        findings.problems += found.problems
        if found.size is not None:
            findings.images[found.size] += 1
        for task, labels in found.labels.items():
            findings.labels[split][task] += labels
        for modality, file, doubted in found.doubts:
            findings.doubts.add(modality, file, doubted)
        advance()
    return findings


def _each(examine: partial[_Image], ids: list[str], workers: int) -> Iterator[_Image]:
    if workers == 0:
        yield from map(examine, ids)
        return
    # spawned, not forked: the caller may hold threads that do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(examine,))
    try:
        yield from pool.map(_examine_here, ids, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


_EXAMINE: list[partial[_Image]] = []  # in a worker: sent once, since a reader lists every image


def _start(examine: partial[_Image]) -> None:
    import cv2

    cv2.setNumThreads(0)  # one thread a worker
    _EXAMINE.append(examine)


def _examine_here(id: str) -> _Image:
    return _EXAMINE[-1](id)


def _examine(reader: Reader, tasks: list[str], missing: frozenset[str], values: bool, id: str) -> _Image:
    found = _Image()

    def report(file: str, problem: str) -> None:
        if (file, problem) not in found.problems:  # two tasks may read one file
            found.problems.append((file, problem))

    def doubt(modality: str, doubted: list[Doubt]) -> None:
        file = reader.files(modality, id)[0]
        found.doubts.append((modality, file, doubted))
        for one in doubted if values else ():
            if not one.share:
                report(file, f"{one.what} ({one.detail})" if one.detail else one.what)

    def attempt(modality: str) -> np.ndarray | None:
        if missing.isdisjoint(files := reader.files(modality, id)) and files:
            try:
                return reader.image(id) if modality == IMAGE else reader.label(modality, id)
            except UserError as error:
                report(*_located(reader, files, error))
        return None

    image = attempt(IMAGE)
    if image is not None:
        found.size = image.shape[0], image.shape[1]
        doubt(IMAGE, list(_doubts_of_image(image, read_orientation(reader.root / reader.files(IMAGE, id)[0]))))
    for task in tasks:
        label = attempt(task)
        if label is None:
            continue
        if image is not None:
            try:
                require_size(reader, task, id, label, image)
            except UserError as error:
                report(*_located(reader, reader.files(task, id), error))
        row = reader.tasks[task]
        found.labels[task] = Labels(label.shape[0] * label.shape[1], **row.kind.statistics(row, label))
        doubt(task, list(row.kind.doubts(row, label)))
    return found


def _doubts_of_image(image: np.ndarray, orientation: int) -> Iterator[Doubt]:
    if (image == image[0, 0]).all():
        yield Doubt("the same colour in every pixel", "are these the right files?")
    if orientation != 1:
        cure = "labels must fit the upright images, as viewers show them"
        yield Doubt("an EXIF orientation that turns or mirrors the photo", cure, detail=f"orientation {orientation}")


def _located(reader: Reader, files: tuple[str, ...], error: UserError) -> tuple[str, str]:
    """The file that a message names, and the message without it."""
    for file in files:
        with suppress(ValueError):
            _, text = str(error).split(f"{reader.root / file}: ", 1)
            return file, text
    return files[0], str(error)
