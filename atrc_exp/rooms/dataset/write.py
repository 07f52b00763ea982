"""Rooms as a data set on disk, in the layout of NYUD-v2 or PASCAL-Context."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atrc_exp.errors import UserError
from atrc_exp.files import alone, read_json, write_json
from atrc_exp.rooms.dataset.layouts import LAYOUTS, Layout

RECORD = "rooms.json"  # written last: its folder is complete
_VERSION = 1  # version of the rooms; raise it when the same settings give other files


def _write_room(index: int, root: Path, seed: int, image_size: tuple[int, int], packaging: str) -> None:
    layout = LAYOUTS[packaging]
    layout.write(root, layout.name(index), seed, index, image_size)


def _each(task: partial, count: int, workers: int) -> Iterator[None]:
    """Run task(0) ... task(count - 1), in processes if there is more than one worker."""
    if workers == 1:
        yield from map(task, range(count))
        return
    # spawned, not forked: the caller may hold threads (torch, W&B) that do not survive a fork
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(task, range(count))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _unfinished(root: Path, layout: Layout) -> Iterator[Path]:
    """A hidden folder beside `root` that takes its place at the end and is removed on any error."""
    folder = root.parent / f".{root.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)  # a killed process left it: the lock is held, so nobody else writes there
    try:
        for part in (*layout.folders, layout.lists):
            (folder / part).mkdir(parents=True)
        yield folder
        os.replace(folder, root)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_finished(root: Path, settings: dict) -> bool:
    """Tell whether these rooms stand in `root` already.

    Raises:
        UserError: something else stands there.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / RECORD).is_file():
        raise UserError(
            f"{root} holds other files, not generated rooms: rooms are made in a new or empty folder (dataset.root). "
            "Photos and label maps of one's own are read by a dataset of their own, see docs/own_dataset.md"
        )
    found = read_json(root / RECORD)
    different = [key for key in settings if found.get(key) != settings[key]]
    if different:
        have = ", ".join(f"{key}={found.get(key)}" for key in different)
        want = ", ".join(f"{key}={settings[key]}" for key in different)
        raise UserError(f"{root} holds rooms with {have}; asked for {want}. Choose another folder.")
    return True


def _cores() -> int:
    """Count the cores that this process may use. Some systems only tell how many exist."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(train: int, val: int, image_size: tuple[int, int], packaging: str, workers: int) -> None:
    if len(image_size) != 2 or min(image_size) < 16:
        raise UserError(f"image_size={tuple(image_size)}: give height and width in pixels, each at least 16.")
    if packaging not in LAYOUTS:
        allowed = "'A' (NYUD; 8-bit normals, PNG), 'B' (NYUD; arrays, JPEG) or 'pascal' (PASCAL-Context, with people)"
        raise UserError(f"packaging={packaging!r}: choose {allowed}.")
    most = LAYOUTS[packaging].most
    if train < 0 or val < 0 or not 1 <= train + val <= most:
        raise UserError(f"train={train}, val={val}: the layout's ids allow 1 to {most} rooms in all.")
    if workers < 1:
        raise UserError(f"workers={workers}: give at least 1.")


def generate(
    root: Path,
    *,
    train: int,
    val: int,
    image_size: tuple[int, int],
    seed: int = 0,
    packaging: str = "A",
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Write train + val rooms of (H, W) pixels to `root`, or return if they stand there.

    Packagings "A" and "B" are those of NYUD, "pascal" is the layout of PASCAL-Context with people in the rooms and
    images of at most H x W, or W x H in portrait.

    Rooms are numbered through: the first `train` are the training split, the next `val` the validation split,
    so the splits share no room. Each file depends on seed, room number, image size and packaging only, not on
    `workers` (processes; None: one a core). `root` appears when all is written; processes that ask for the
    same root at the same time wait for the first. Raises UserError for settings out of range, for a folder
    that holds something else, and when the files cannot be written.
    """
    root = Path(root).absolute()
    workers = _cores() if workers is None else workers
    _check(train, val, image_size, packaging, workers)
    settings = {
        "version": _VERSION,
        "train": train,
        "val": val,
        "image_size": list(image_size),
        "seed": seed,
        "packaging": packaging,
    }
    try:
        if _is_finished(root, settings):  # this comes before the lock, for which read-only storage has no place
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with alone(root.parent / f".{root.name}.lock"):
            if not _is_finished(root, settings):
                _generate(root, settings, workers, progress)
    except OSError as error:
        raise UserError(f"Rooms cannot be written to {root}: {error.strerror or error}.") from error


def _generate(root: Path, settings: dict, workers: int, progress: bool) -> None:
    train, count = settings["train"], settings["train"] + settings["val"]
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    layout = LAYOUTS[settings["packaging"]]
    with _unfinished(root, layout) as folder, Progress(*columns, disable=not progress) as bar:
        size, packaging = tuple(settings["image_size"]), settings["packaging"]
        task = partial(_write_room, root=folder, seed=settings["seed"], image_size=size, packaging=packaging)
        row = bar.add_task("rooms", total=count, note=str(root))
        for _ in _each(task, count, min(workers, count)):
            bar.advance(row)
        names = [f"{layout.name(index)}\n" for index in range(count)]
        (folder / layout.lists / "train.txt").write_text("".join(names[:train]))
        (folder / layout.lists / "val.txt").write_text("".join(names[train:]))
        write_json(folder / RECORD, settings)
