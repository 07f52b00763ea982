"""Scoring of two folders, image by image, in several processes, with records that let a stopped run go on."""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ..counts import count
from ..errors import BoundaryError
from ..files import read_prediction, read_truth
from ..maps import partition_to_boundary
from ..protocols import Protocol
from .doubts import doubts_about
from .pairing import Pair
from .records import Record, Records, key_of

LOOKED_AT = 3  # images whose complement is scored, too
_SHARE = 4  # images for which another process is worth its start


@dataclass(frozen=True)
class Rules:
    """How every image is scored: the protocol, the distance, and whether truths are maps of regions."""

    protocol: Protocol
    max_dist: float
    partition: bool


def load(pair: Pair, rules: Rules) -> tuple[Any, Any]:
    """Read the prediction and the ground truth of an image as `count` takes them."""
    prediction, truth = read_prediction(pair.prediction), read_truth(pair.truth)
    return prediction, partition_to_boundary(truth) if rules.partition and not isinstance(truth, list) else truth


def _score(pair: Pair, rules: Rules, invert: bool) -> Record:
    """Count one image; raises BoundaryError with its name."""
    try:
        prediction, truth = load(pair, rules)
        counts = count(prediction, truth, max_dist=rules.max_dist, protocol=rules.protocol)
    except BoundaryError as error:
        raise BoundaryError(f"{pair.name}: {error}") from error
    invert_within = rules.max_dist if invert else None
    return Record(counts, tuple(doubts_about(pair.prediction, prediction, truth, rules.protocol, invert_within)))


def score_folders(
    pairs: Sequence[Pair], rules: Rules, records: Records, workers: int, progress: bool
) -> Iterator[tuple[str, Record]]:
    """Yield the records of all images by name, those already counted first; new ones are kept as they come.

    Raises:
        BoundaryError: a file that is no such map, with the name of the image, or a process that was killed.
    """
    keys = {pair.name: key_of(pair, rules.max_dist, rules.protocol, f"partition={rules.partition}") for pair in pairs}
    known = {pair.name: records.get(pair.name, keys[pair.name]) for pair in pairs}
    todo = [(pair, rules, index < LOOKED_AT) for index, pair in enumerate(pairs) if known[pair.name] is None]
    add = records.open()
    with Progress(disable=not progress, console=Console(stderr=True)) as bar:
        task = bar.add_task("boundaries", total=len(pairs), completed=len(pairs) - len(todo))
        for name, record in known.items():
            if record is not None:
                yield name, record
        for pair, record in _scored(todo, min(workers, len(todo) // _SHARE)):
            add(pair.name, keys[pair.name], record)
            bar.advance(task)
            yield pair.name, record


def _scored(todo: Sequence[tuple[Pair, Rules, bool]], workers: int) -> Iterator[tuple[Pair, Record]]:
    if workers <= 1:
        for item in todo:
            yield item[0], _score(*item)
        return
    waiting: deque[tuple[Pair, Future[Record]]] = deque()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker)
    try:
        for item in todo:
            waiting.append((item[0], pool.submit(_score, *item)))
            if len(waiting) >= 3 * workers:
                pair, future = waiting.popleft()
                yield pair, future.result()
        while waiting:
            pair, future = waiting.popleft()
            yield pair, future.result()
    except BrokenExecutor as error:
        raise BoundaryError("a process was killed, for want of memory perhaps; give fewer --workers") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to the main process, which takes what is finished, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
