"""Implausible values of label maps: `Kind.doubts` finds them map by map, and one warning tells of all maps."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from atrc_exp.tasks import Task
from atrc_exp.tasks.kinds.kind import Doubt

log = logging.getLogger(__name__)

_FIRST = 8  # training crops that are looked at
_AS_ONE = 0.9  # of them that must look wrong in one way: single crops may show one class, or one wall


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

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.doubts, self.left = Doubts(), _FIRST

    def __call__(self, ids: Sequence[str], labels: Mapping[str, np.ndarray]) -> None:
        """Take label maps (B, H, W) or (B, C, H, W) by task; once enough are seen, more are ignored."""
        if self.left <= 0:
            return
        self.left -= len(ids)
        for task, maps in labels.items():
            for id, label in zip(ids, maps, strict=True):
                array = np.moveaxis(label, 0, 2) if label.ndim == 3 else label
                self.doubts.add(task, id, self.tasks[task].kind.doubts(self.tasks[task], array))
        for line in self.doubts.lines(_AS_ONE) if self.left <= 0 else ():
            log.warning("the first training crops look wrong: %s", line)
