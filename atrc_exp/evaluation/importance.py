"""Importance of context blocks: scores of a trained network with the outputs of one block exchanged (Sec. 4.4).

"Randomly permuted over the validation set" is read as: every image gets the block's output of another image, while its
own features and the outputs of all other blocks stay. Only the prediction of the block's target reads the output, so
that task alone is predicted again and scored.

The images are put into a random ring, and permutation r gives each image the outputs of the one r places before it. No
image keeps its own, its donors in different permutations differ, and the permutations are the same for all blocks. A
single pass along the ring then serves all of them: the network runs once an image (and again for the last images, which
come before the first ones) and the outputs of as many images as there are permutations are kept. On top of the pass
come permutations x blocks times the fusion, the predictor and the metric of one task.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.data.loader import val_count, val_loader
from atrc_exp.data.readers.sample import Data, DatasetInfo, Sample, Source, Truth
from atrc_exp.errors import UserError
from atrc_exp.evaluation.evaluate import content, full_precision
from atrc_exp.evaluation.scores import Scores
from atrc_exp.genotype import scale_of, task_of
from atrc_exp.metrics.boundary import available_cores
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.inspection import BlockView
from atrc_exp.models.predictor import Predictor, autocast
from atrc_exp.processes.ranks import Ranks
from atrc_exp.resizing import resize
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import Decoder

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Importance:
    """Headline metrics, NaN where nothing is labelled; tasks that were not scored are absent."""

    headline: dict[str, float]
    """Metric of each task with all outputs in their places."""
    permuted: dict[Block, list[float]]
    """Metrics of the block's target, one for each permutation of its output."""


class Donor(NamedTuple):
    """Outputs (1, D, h, w) of all blocks for one image, and by scale which part of these maps is not padding."""

    outputs: dict[Block, Tensor]
    windows: list[Window]


@torch.inference_mode()
def measure_importance(
    predict: Predictor,
    data: Data,
    config: Config,
    tasks: Sequence[Task],
    ranks: Ranks,
    codebook: Tensor | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Importance:
    """Score the validation images with every block's output permuted; collective, the same result on every rank.

    Args:
        predict: the trained network in evaluation mode.
        config: its `importance`, `evaluation` and `engine` sections are read.
        codebook: unit normals (40, 3), where normals have the form of a classification.
        advance: called after every image of this rank.

    Raises:
        UserError: a network without context blocks, or fewer images than permutations + 1.
    """
    view, permutations = BlockView(predict.network), config.importance.permutations
    order = _ring(val_count(data, config), permutations, config.importance.seed)
    decode = Decoder(tasks, codebook).to(ranks.device)
    with ThreadPoolExecutor(max(1, available_cores() // ranks.world)) as pool:
        scores = _Board(view, tasks, ranks, config, data, pool)
        earlier: deque[Donor] = deque(maxlen=permutations)
        with view.watching() as seen:
            for batch in _along(order, permutations, data, config, ranks):
                predict(batch.image, labels=batch.labels)
                maps, outputs = seen()
                features = [each.features for each in maps]
                own = Donor(outputs, [_on_grid(batch, next(iter(each.values()))) for each in features])
                if len(earlier) == permutations:
                    scores.add(batch, features, own, list(reversed(earlier)), decode)
                    advance()
                earlier.append(own)
        return scores.compute()


def _ring(images: int, permutations: int, seed: int) -> np.ndarray:
    if permutations >= images:
        raise UserError(
            f"importance.permutations={permutations}: must be less than the {images} validation images, so that each "
            "gets the output of another one in every permutation"
        )
    return np.random.default_rng(seed).permutation(images)


def _along(order: np.ndarray, before: int, data: Data, config: Config, ranks: Ranks) -> Iterable[Batch]:
    """This rank's part of the ring, image by image, after the images `before` it."""
    start, stop = (len(order) * rank // ranks.world for rank in (ranks.rank, ranks.rank + 1))
    part = _Reordered(data.val, [int(order[at % len(order)]) for at in range(start - before, stop)])
    one_by_one = replace(config, engine=replace(config.engine, val_batch_size=1))
    one_by_one = replace(one_by_one, debug=replace(config.debug, limit_val=None))  # `order` keeps to the limit
    return val_loader(replace(data, val=part), one_by_one, rank=0, world=1, device=ranks.device)


class _Reordered:
    """Images of a split in another order, some more than once."""

    def __init__(self, source: Source, order: Sequence[int]) -> None:
        self.source, self.order = source, order
        self.ids = [source.ids[index] for index in order]
        self.info: DatasetInfo = source.info

    def __len__(self) -> int:
        return len(self.order)

    def load(self, index: int, tasks: Sequence[str]) -> Sample:
        return self.source.load(self.order[index], tasks)


def _on_grid(batch: Batch, output: Tensor) -> Window:
    """Cells of the (..., h, w) maps that see the image, not its padding alone."""
    pixels = content(batch.sizes[0].tolist(), batch.canvas)
    rows, columns = (
        slice(part.start * cells // whole, ceil(part.stop * cells / whole))
        for part, cells, whole in zip(pixels, output.shape[-2:], batch.canvas, strict=True)
    )
    return rows, columns


def transplanted(own: Tensor, window: Window, other: Tensor, other_window: Window) -> Tensor:
    """`own` (1, D, h, w) with its window filled by the window of `other`, resized where their sizes differ.

    Images of different sizes have different parts of their canvas padded: padding must not come where the image is.
    """
    filled = own.clone()
    place = (..., *window)
    filled[place] = resize(other[(..., *other_window)], filled[place].shape[-2:])
    return filled


class _Board:
    """One `Scores` for every task as it is, and one for every block and permutation."""

    def __init__(
        self, view: BlockView, tasks: Sequence[Task], ranks: Ranks, config: Config, data: Data, pool: ThreadPoolExecutor
    ) -> None:
        borders, stored = data.truth.borders, data.truth.stored
        truth = Truth(  # an image is scored many times in a row
            borders and lru_cache(maxsize=1)(borders), stored and lru_cache(maxsize=len(tasks))(stored)
        )

        def scores(task: Task) -> Scores:
            boundaries = config.importance.boundaries
            return Scores([task], ranks, config.evaluation, boundaries=boundaries, truth=truth, pool=pool)

        self.view, self.precision = view, config.engine.precision
        self.tasks = {task.name: task for task in tasks}
        self.plain = {task.name: scores(task) for task in tasks}
        each = range(config.importance.permutations)
        self.permuted = {block: [scores(self.tasks[task_of(block.target)]) for _ in each] for block in view.blocks}

    def add(
        self, batch: Batch, features: list[dict[str, Tensor]], own: Donor, donors: Sequence[Donor], decode: Decoder
    ) -> None:
        """Score one image with its own outputs, and with those of `donors`, one for each permutation.

        Args:
            features: by scale and task.
        """
        window = (0, ..., *content(batch.sizes[0].tolist(), batch.canvas))

        def score(scores: Scores, target: str, outputs: dict[Block, Tensor]) -> None:
            with autocast(batch.image.device, self.precision):
                final = self.view.predict(target, [each[target] for each in features], outputs, batch.canvas)
            decoded = decode({target: full_precision(final[window])[None]})
            label = batch.labels[target][window]
            scores.add(batch.ids[0], {target: decoded[target][0]}, {target: label})

        for target in self.tasks:
            outputs = {block: own.outputs[block] for block in self.view.of(target)}
            score(self.plain[target], target, outputs)
            for block in outputs:
                scale = scale_of(block.target)
                for scores, donor in zip(self.permuted[block], donors, strict=True):
                    given = donor.outputs[block]
                    other = transplanted(outputs[block], own.windows[scale], given, donor.windows[scale])
                    score(scores, target, outputs | {block: other})

    def compute(self) -> Importance:
        """All headline metrics; collective."""

        def value(scores: Scores, target: str) -> list[float]:
            found = scores.compute().get(f"{target}/{self.tasks[target].metric}")
            return [] if found is None else [found]

        headline = {task: found[0] for task, scores in self.plain.items() if (found := value(scores, task))}
        permuted = {
            block: [number for scores in each for number in value(scores, task_of(block.target))]
            for block, each in self.permuted.items()
        }
        return Importance(headline, permuted)
