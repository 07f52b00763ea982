"""Decoded images and labels in memory-mapped files: any image in a fraction of a millisecond, without decoding.

There is one file for each split and kind of map, so that runs on different tasks share them. A file holds the arrays
one after the other, each at a multiple of 64 bytes, then their index in JSON, then the length of the index and a magic
word. It belongs to the files it was decoded from: when one of them changes, it is written anew.
"""

import hashlib
import json
import logging
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from atrc_exp.config import Config, DatasetConfig
from atrc_exp.data.cache import cache_dir
from atrc_exp.data.decode import U8_TO_UNIT
from atrc_exp.data.readers.reader import IMAGE, Split
from atrc_exp.data.readers.sample import Data, Sample
from atrc_exp.errors import UserError
from atrc_exp.files import alone, replacing

log = logging.getLogger(__name__)

_VERSION = 2  # of the format and of what readers decode; a new one makes all files anew
_MAGIC = b"atrcpack"
_END = struct.Struct("<Q8s")
_ALIGNMENT = 64
_UNIT_8, _UNIT_8_HOLES = "unit8", "unit8 with holes"  # codings of unit vectors; others are the names of dtypes
_UNREADABLE = (OSError, ValueError, KeyError, struct.error)  # what reading a damaged file can raise


def pack(data: Data, config: Config, modalities: Sequence[str]) -> Data:
    """The same dataset read from packed files in the cache folder; those missing or out of date are written first.

    Processes may do this at the same time: one writes, the others wait.

    Args:
        data: with `Split`s of a reader.
        modalities: tasks, and class maps that guide crops; the images are always packed.

    Raises:
        UserError: a damaged file of the dataset, or a cache folder that cannot be written.
    """
    folder = cache_dir(config.dataset) / "packed" / _settings_key(config.dataset)
    kinds = (IMAGE, *modalities)
    train, val = (_pack_split(split, name, folder, kinds, config)
                  for name, split in (("train", data.train), ("val", data.val)))  # fmt: skip
    return replace(data, train=train, val=val)


class PackedSplit:
    """A `Source` that reads images and labels from packed files; other labels come from the reader as before."""

    def __init__(self, split: Split, files: dict[str, "PackedFile"]) -> None:
        self.split, self.files = split, files
        self.ids, self.info = split.ids, split.info

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int, tasks: Sequence[str]) -> Sample:
        """See `Source.load`."""
        if not self.files.keys() >= set(tasks):
            return self.split.load(index, tasks)
        labels = {task: self.files[task].read(index) for task in tasks}
        return Sample(self.ids[index], self.files[IMAGE].read(index), labels)


class PackedFile:
    """A memory-mapped file of arrays. Its pages are shared by all processes; a write to an array stays private.

    Args:
        stamp: of the files it must have been made from.

    Raises:
        ValueError, KeyError, OSError, struct.error: the file is missing, damaged, or made from others.
    """

    def __init__(self, path: Path, stamp: str) -> None:
        self.path, self.stamp = path, stamp
        with path.open("rb") as file:
            end = file.seek(-_END.size, os.SEEK_END)
            length, magic = _END.unpack(file.read())
            if magic != _MAGIC or length > end:
                raise ValueError("incomplete")
            file.seek(end - length)
            index = json.loads(file.read(length))
        if index["stamp"] != stamp:
            raise ValueError("made from other files")
        self.entries: list[tuple[int, list[int], str, int]] = index["entries"]
        self._bytes: np.ndarray | None = None
        self._checked = np.zeros(len(self.entries), dtype=bool)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}  # another process maps the file itself

    def read(self, index: int) -> np.ndarray:
        """The array of an image; its checksum is compared at the first access of a process.

        Raises:
            UserError: the file has changed since it was written, or is no longer there.
        """
        if self._bytes is None:
            try:
                self._bytes = np.asarray(np.memmap(self.path, mode="c"))
            except OSError as error:
                reason = error.strerror or error
                raise UserError(f"{self.path}: {reason}; the same command writes it anew and goes on") from None
        offset, shape, coding, checksum = self.entries[index]
        dtype = np.dtype(np.uint8 if coding in (_UNIT_8, _UNIT_8_HOLES) else coding)
        stored = self._bytes[offset : offset + dtype.itemsize * int(np.prod(shape))]
        if not self._checked[index]:
            if zlib.crc32(stored.data) != checksum:
                raise UserError(f"{self.path}: is damaged; delete it, and it is written anew")
            self._checked[index] = True
        return _expanded(stored.view(dtype).reshape(shape), coding)


def _pack_split(split: Any, name: str, folder: Path, kinds: Sequence[str], config: Config) -> PackedSplit:
    paths = {kind: folder / f"{name}-{kind}.bin" for kind in kinds}
    stamps = {kind: _stamp(split, kind) for kind in kinds}
    if not _open_whole(paths, stamps).keys() >= set(kinds):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder / ".lock"):
                missing = [kind for kind in kinds if kind not in _open_whole(paths, stamps)]
                if missing:
                    _write(split, name, {kind: paths[kind] for kind in missing}, stamps, config.engine.progress)
        except OSError as error:
            raise UserError(
                f"packed data cannot be written to {folder} ({error.strerror or error}); free space, set another "
                "dataset.cache_dir, or dataset.packed=false"
            ) from error
    return PackedSplit(split, {kind: PackedFile(paths[kind], stamps[kind]) for kind in kinds})


def _open_whole(paths: dict[str, Path], stamps: dict[str, str]) -> dict[str, PackedFile]:
    """The files that are there, complete and up to date."""
    files = {}
    for kind, path in paths.items():
        with suppress(*_UNREADABLE):
            files[kind] = PackedFile(path, stamps[kind])
    return files


def _write(split: Split, name: str, paths: dict[str, Path], stamps: dict[str, str], bar: bool) -> None:
    """Decode the split once and write all `paths`, each of which appears whole."""
    from atrc_exp.runs.logging.console import image_progress

    log.info("packing %s of %d %s images in %s", ", ".join(paths), len(split), name, next(iter(paths.values())).parent)
    with ExitStack() as stack:
        temporary = {kind: stack.enter_context(replacing(path)) for kind, path in paths.items()}
        files = {kind: stack.enter_context(path.open("wb")) for kind, path in temporary.items()}
        entries: dict[str, list[tuple]] = {kind: [] for kind in paths}
        advance: Callable[..., None] = stack.enter_context(image_progress(f"packing {name}", len(split), bar=bar))
        for index in range(len(split)):
            sample = split.load(index, [kind for kind in paths if kind != IMAGE])
            for kind, file in files.items():
                entries[kind].append(_append(file, sample.image if kind == IMAGE else sample.labels[kind]))
            advance()
        for kind, file in files.items():
            index_bytes = json.dumps({"stamp": stamps[kind], "entries": entries[kind]}).encode()
            file.write(index_bytes + _END.pack(len(index_bytes), _MAGIC))
            file.flush()
            os.fsync(file.fileno())  # the name must not outlive the content when the machine goes down


def _append(file: IO[bytes], array: np.ndarray) -> tuple[int, tuple[int, ...], str, int]:
    """Write an array and return its entry: offset, shape, coding and checksum."""
    stored, coding = _compact(array)
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    offset, content = file.tell(), np.ascontiguousarray(stored).tobytes()
    file.write(content)
    return offset, stored.shape, coding, zlib.crc32(content)


def _compact(array: np.ndarray) -> tuple[np.ndarray, str]:
    """The array in as few bytes as give exactly it back, and how: vectors that came from 8 bits take 8 bits again."""
    if array.dtype == np.float32 and array.ndim == 3 and np.isfinite(array).all():
        codes = np.clip(np.rint((array + 1) * 127.5), 0, 255).astype(np.uint8)
        holes = ~array.any(axis=2)
        codes[holes] = 0
        coding = _UNIT_8_HOLES if holes.any() else _UNIT_8
        if np.array_equal(_expanded(codes, coding), array):
            return codes, coding
    return array, array.dtype.str


def _expanded(stored: np.ndarray, coding: str) -> np.ndarray:
    """Undo `_compact`."""
    if coding not in (_UNIT_8, _UNIT_8_HOLES):
        return stored
    import cv2

    vectors = cv2.LUT(stored, U8_TO_UNIT)
    if coding == _UNIT_8_HOLES:
        vectors[(stored[..., 0] | stored[..., 1] | stored[..., 2]) == 0] = 0
    return vectors


def _settings_key(dataset: DatasetConfig) -> str:
    """Digest of the settings that decide what a reader delivers; those of the training take no part."""
    keys = ("reader", "num_classes", "folders")
    settings = {key: value for key, value in asdict(dataset).items() if key in keys}
    if dataset.task_table:
        settings["task_table"] = {name: [row.kind, row.channels] for name, row in dataset.task_table.items()}
    text = json.dumps([str(Path(dataset.root).expanduser().absolute()), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(split: Split, kind: str) -> str:
    """Digest of the files behind a kind of map: their paths, sizes and times of change, in the order of the images."""
    digest = hashlib.sha256(f"{_VERSION}\n".encode())
    for id in split.ids:
        digest.update(f"{id}\n".encode())
        for path in split.reader.files(kind, id):
            stat = (split.reader.root / path).stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
