"""Batches in an order that is a pure function of the seed, from plain torch data loaders.

Iteration i of a run takes the same images with the same augmentation whatever iteration the process started at, however
many workers load them, and into however many micro-batches and ranks the batch is split.
"""

import logging
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.batch import Batch, join
from atrc_exp.data.decode import read_ids
from atrc_exp.data.finish import finish
from atrc_exp.data.prepare.plausible import FirstLook
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.packed import pack
from atrc_exp.data.readers.sample import Data, Sample, Source
from atrc_exp.errors import UserError
from atrc_exp.normalisation import Normalisation
from atrc_exp.processes import signals
from atrc_exp.tasks import Task
from atrc_exp.words import counted

log = logging.getLogger(__name__)

CROP_LABELS = "semseg"  # the classes that training crops mix where the configuration names no others
_ORDER, _AUGMENTATION = 0, 1  # first element of a seed: keeps the streams of random numbers apart
WORKER_GRACE = 30  # seconds for which a loader process outlives a signal
Key = tuple[int, int]  # epoch and index of an image


def build_datasets(config: Config) -> Data:
    """Open both splits; packed files are made first where they are missing.

    In a distributed run rank 0 calls this before the others do.

    Raises:
        UserError: an unknown reader, what the reader finds missing, or `evaluation.boundary_ids` that are not in
            the validation split.
    """
    needed = needed_labels(config)
    data = open_dataset(config.dataset, needed)
    if config.evaluation.boundary_ids is not None:
        _check_boundary_ids(config.evaluation.boundary_ids, data.val.ids)
    return pack(data, config, needed) if config.dataset.packed else data


def needed_labels(config: Config) -> list[str]:
    """Tasks of the dataset whose labels a run reads: its own, and the one whose classes guide training crops."""
    guide = crop_labels(config)
    return list(dict.fromkeys([*config.task_names, *([guide] if guide else [])]))


def crop_labels(config: Config) -> str | None:
    """The class map that guides training crops; it need not be a task of the run."""
    default = CROP_LABELS if CROP_LABELS in config.dataset.tasks else None
    return config.dataset.crop_labels or default


def _check_boundary_ids(path: str, ids: list[str]) -> None:
    unknown = sorted(set(read_ids(Path(path))) - set(ids))
    if unknown:
        raise UserError(
            f"evaluation.boundary_ids={path}: not in the validation split: {counted(len(unknown), 'id')}, "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
        )


def check_batch(config: Config, images: int, world: int, kind: str = "training images") -> None:
    """Whether `images` of a `kind` fill a batch, and the batch divides among ranks and micro-batches.

    Raises:
        UserError: it does not.
    """
    size, parts = config.engine.batch_size, world * config.engine.accumulate
    if size > images:
        raise UserError(
            f"engine.batch_size={size}: must be at most the {images} {kind}, since an incomplete batch is "
            "dropped and nothing would be left; take a smaller batch"
        )
    if size % parts:
        raise UserError(
            f"engine.batch_size={size}: must be divisible by ranks x engine.accumulate = {world} x "
            f"{config.engine.accumulate} = {parts}"
        )


def train_loader(
    data: Data,
    config: Config,
    *,
    start_iteration: int,
    iterations: int,
    rank: int,
    world: int,
    device: torch.device,
) -> Iterable[Batch]:
    """Micro-batches of iterations `start_iteration` to `iterations` - 1, `engine.accumulate` for each, on `device`.

    With `debug.overfit` every iteration has the first batch, without augmentation. On rank 0 the first crops are looked
    at: a warning tells of values that cannot be meant.

    Raises:
        UserError: a batch larger than the training split, or not divisible by ranks and micro-batches; while iterating,
            a damaged file.
    """
    from atrc_exp.data.augment import TrainTransform

    augment, guide = not config.debug.overfit, crop_labels(config)
    if guide is None and augment:
        log.info("training crops are drawn uniformly: %s has no semseg, and dataset.crop_labels names no other classes",
                 config.dataset.name)  # fmt: skip
    transform = TrainTransform(config.dataset.crop, build_tasks_of(config), guide, augment=augment)
    batches = _TrainBatches(len(data.train), config, start_iteration, iterations, rank, world)
    loader = _data_loader(_Loaded(data.train, transform, config.seed), batches, config, device)
    look = FirstLook(transform.tasks) if rank == 0 else None
    return _OnDevice(loader, transform.tasks, device, data.normalisation, look)


def val_loader(data: Data, config: Config, *, rank: int, world: int, device: torch.device) -> Iterable[Batch]:
    """The validation images of this rank, each image once over all ranks, in batches of one canvas size.

    The loader can be iterated again and again; its workers stay alive in between.
    """
    from atrc_exp.data.augment import EvalTransform

    keys = [(0, index) for index in range(rank, val_count(data, config), world)]
    size = config.engine.val_batch_size
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    transform = EvalTransform(config.dataset.crop, build_tasks_of(config))
    loader = _data_loader(_Loaded(data.val, transform, config.seed), batches, config, device, persistent=True)
    return _OnDevice(loader, transform.tasks, device, data.normalisation)


def val_samples(
    data: Data, config: Config, *, rank: int, world: int, ids: Collection[str] | None = None
) -> Iterator[Batch]:
    """The validation images of this rank one by one at their own size, without padding.

    Args:
        ids: the images to load, all by default.

    Raises:
        UserError: a damaged file.
    """
    from atrc_exp.data.augment import EvalTransform

    tasks = build_tasks_of(config)
    transform = EvalTransform((1, 1), tasks)
    wanted = [i for i in range(val_count(data, config)) if ids is None or data.val.ids[i] in ids]
    for index in wanted[rank::world]:
        yield finish(transform(data.val.load(index, transform.names)), tasks, torch.device("cpu"), data.normalisation)


def val_count(data: Data, config: Config) -> int:
    """Number of validation images over all ranks."""
    return min(len(data.val), config.debug.limit_val or len(data.val))


class _TrainBatches:
    """Batch sampler: the keys of this rank's micro-batches.

    Every epoch is a permutation of the images without those that fill no whole batch.
    """

    def __init__(self, images: int, config: Config, start: int, stop: int, rank: int, world: int) -> None:
        check_batch(config, images, world)
        size, parts = config.engine.batch_size, world * config.engine.accumulate
        self.images, self.size, self.seed, self.overfit = images, size, config.seed, config.debug.overfit
        self.start, self.stop = start, stop
        self.micro = size // parts
        self.slice = range(rank * size // world, (rank + 1) * size // world)

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * len(self.slice) // self.micro

    def __iter__(self) -> Iterator[list[Key]]:
        order, ordered_epoch = np.empty(0, dtype=np.int64), -1
        for iteration in range(self.start, self.stop):
            epoch, position = divmod(0 if self.overfit else iteration, self.images // self.size)
            if epoch != ordered_epoch:
                order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(self.images)
                ordered_epoch = epoch
            own = order[position * self.size :][self.slice.start : self.slice.stop]
            for start in range(0, len(own), self.micro):
                yield [(epoch, int(index)) for index in own[start : start + self.micro]]


class _Loaded(Dataset):
    """Decoded and transformed images by key. A user's mistake is returned, not raised: a worker's exception would reach
    the main process with its traceback as the message."""

    def __init__(self, source: Source, transform: Any, seed: int) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, key: Key) -> Batch | UserError:
        epoch, index = key
        try:
            sample: Sample = self.source.load(index, self.transform.names)
        except UserError as error:
            return error
        return self.transform(sample, (_AUGMENTATION, self.seed, epoch, index))


class _OnDevice:
    """Finished batches of a loader; raises what `_Loaded` returned."""

    def __init__(
        self,
        loader: DataLoader,
        tasks: Sequence[Task],
        device: torch.device,
        normalisation: Normalisation,
        look: FirstLook | None = None,
    ) -> None:
        self.loader, self.tasks, self.device, self.normalisation, self.look = loader, tasks, device, normalisation, look

    def __iter__(self) -> Iterator[Batch]:
        with signals.held():  # until a new worker answers them itself
            loaded = iter(self.loader)
        for batches in loaded:
            if isinstance(batches, UserError):
                raise batches
            for batch in batches:
                if self.look is not None:
                    self.look(batch.ids, {task.name: batch.labels[task.name].numpy() for task in self.tasks})
                yield finish(batch, self.tasks, self.device, self.normalisation)


def _data_loader(
    dataset: _Loaded, batches: Iterable[list[Key]], config: Config, device: torch.device, persistent: bool = False
) -> DataLoader:
    workers = config.engine.workers
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_init_worker,
        pin_memory=device.type == "cuda",
        persistent_workers=persistent and workers > 0,
        generator=torch.Generator(),  # every iterator draws a number; the global stream belongs to the network
    )


def _collate(items: list[Batch | UserError]) -> list[Batch] | UserError:
    """Join the images of one canvas size, in the order in which the sizes occur."""
    groups: dict[tuple[int, int], list[Batch]] = {}
    for item in items:
        if isinstance(item, UserError):
            return item
        groups.setdefault(item.canvas, []).append(item)
    return [join(group) for group in groups.values()]


def _init_worker(worker: int) -> None:
    signals.answer(_end_soon)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)  # the run held them when it started this worker
    import cv2

    cv2.setNumThreads(0)  # one thread a worker: OpenCV's own pool would compete with the other workers


def _end_soon(*_: object) -> None:
    """A signal to the whole process group ends the run after its step, for which its workers are still needed."""
    pending = signal.alarm(WORKER_GRACE)
    if pending:
        signal.alarm(pending)  # the first signal counts
