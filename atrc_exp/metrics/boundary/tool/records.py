"""Counts of images that are scored already, one line of JSON an image, so that a stopped run goes on."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..counts import ImageCounts
from ..protocols import Protocol
from .pairing import Pair

VERSION = 1  # of the counts: another number makes older ones worthless


@dataclass(frozen=True)
class Record:
    """What is known of one image: its counts and the doubts about its files."""

    counts: ImageCounts
    doubts: tuple[str, ...]


def key_of(pair: Pair, max_dist: float, protocol: Protocol, reading: str) -> str:
    """Return all that the record of an image depends on: the state of both files and the rules."""
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (pair.prediction, pair.truth)]
    rules = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    return repr((VERSION, states, max_dist, reading, {**rules, "precision": np.dtype(protocol.precision).name}))


class Records:
    """A file that grows by a line for each image; a last line that a killed run left unfinished is dropped."""

    def __init__(self, path: Path | None, max_dist: float, protocol: Protocol) -> None:
        """Take up what `path` holds; None keeps nothing."""
        self.path, self.max_dist, self.protocol = path, max_dist, protocol
        self._lines: dict[str, dict] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    stored = json.loads(line)
                    self._lines[stored["image"]] = stored
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, name: str, key: str) -> Record | None:
        """Return the record of an image if it was made of the same files by the same rules."""
        stored = self._lines.get(name)
        if stored is None or stored["key"] != _digest(key):
            return None
        matched, hits, predicted = (np.array(stored[part], np.int32) for part in ("matched", "hits", "predicted"))
        counts = ImageCounts(matched, hits, predicted, stored["truth"], self.max_dist, self.protocol)
        return Record(counts, tuple(stored["doubts"]))

    def open(self) -> Callable[[str, str, Record], None]:
        """Rewrite the whole lines; return a function that adds the record of an image by its name and key."""
        if self.path is None:
            return lambda name, key, record: None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".unfinished")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in self._lines.values()), encoding="utf-8")
        os.replace(temporary, self.path)
        return self._add

    def _add(self, name: str, key: str, record: Record) -> None:
        counts = record.counts
        arrays = {part: getattr(counts, part).tolist() for part in ("matched", "hits", "predicted")}
        line = {"image": name, "key": _digest(key), **arrays, "truth": int(counts.truth), "doubts": list(record.doubts)}
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _digest(key: str) -> str:
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()
