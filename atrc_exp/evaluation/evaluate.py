"""Validation: every image once, at its own size, over all ranks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from atrc_exp.data.batch import Batch
from atrc_exp.evaluation.predictions import load_prediction, save_prediction
from atrc_exp.evaluation.scores import Scores
from atrc_exp.losses import build_losses
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import Decoder


@dataclass(frozen=True)
class ImageResult:
    """One validation image without its padding."""

    id: str
    image: Tensor
    """(3, h, w), normalised RGB."""
    labels: Mapping[str, Tensor]
    """(h, w) classes, (1, h, w) depth, (3, h, w) normals."""
    predictions: Mapping[str, Tensor]
    """(c, h, w) by task, float32 or float64: logits, metres or unnormalised vectors, whatever the task's form."""


class Observer(Protocol):
    """Something that looks at every image of a validation, such as a file writer."""

    def __call__(self, result: ImageResult) -> None: ...


class PredictionWriter:
    """Writes every prediction to `<folder>/<task>/<id>.<suffix>`.

    All ranks write here, each the images that it evaluates.
    """

    def __init__(self, folder: Path, tasks: Sequence[Task]) -> None:
        self.folder, self.tasks = folder, tasks

    def __call__(self, result: ImageResult) -> None:
        for task in self.tasks:
            save_prediction(self.folder, task, result.id, result.predictions[task.name])


class FirstImages:
    """Keeps the first images that this rank sees, in CPU memory."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.kept: list[ImageResult] = []

    def __call__(self, result: ImageResult) -> None:
        if len(self.kept) < self.number:
            labels = {task: label.cpu() for task, label in result.labels.items()}
            predictions = {task: prediction.cpu() for task, prediction in result.predictions.items()}
            self.kept.append(ImageResult(result.id, result.image.cpu(), labels, predictions))


@torch.inference_mode()
def evaluate(
    predict: nn.Module,
    batches: Iterable[Batch],
    tasks: Sequence[Task],
    ranks: Ranks,
    observers: Sequence[Observer] = (),
    scores: Scores | None = None,
    codebook: Tensor | None = None,
) -> dict[str, float]:
    """Scores and losses over all images of all ranks; collective, the same result on every rank.

    The loss of a task is the sum over its valid pixels divided by their number, as if all images were one batch
    (weights that depend on a batch are those of the single image), so it depends on neither batch nor rank sizes.
    It is the loss of the task's form; metrics and observers get metres and unit vectors in every form.

    Args:
        predict: called with images and `labels=`, gives an `Output`.
        scores: where images are scored, for rules other than the published ones; all tasks if None.
        codebook: unit normals (40, 3), where normals have the form of a classification.

    Returns:
        "<task>/<metric>", "<task>/loss" and "loss", their weighted sum.
    """
    training = predict.training
    ranks.copy_from_main(predict.buffers())
    predict.eval()
    losses = build_losses(tasks, codebook=codebook).to(ranks.device)
    decode = Decoder(tasks, codebook).to(ranks.device)
    scores = scores or Scores(tasks, ranks)
    zero = torch.zeros((), dtype=torch.float64, device=ranks.device)
    sums: dict[str, Tensor] = {key: zero.clone() for task in tasks for key in (task.name, f"{task.name} pixels")}
    for batch in batches:
        for result in _without_padding(batch, predict(batch.image, labels=batch.labels).final):
            labels = {task: label[None] for task, label in result.labels.items()}
            predictions = {task: prediction[None] for task, prediction in result.predictions.items()}
            counts, terms = losses.counts(labels), losses(predictions, {}, labels)
            for task in tasks:
                sums[task.name] += terms[task.name].double() * counts[task.name]
                sums[f"{task.name} pixels"] += counts[task.name]
            values = decode(predictions)
            decoded = replace(result, predictions={task: value[0] for task, value in values.items()})
            scores.add(decoded.id, decoded.predictions, decoded.labels)
            for observe in observers:
                observe(decoded)
    predict.train(training)
    total = ranks.sum(sums)
    results = scores.compute()
    for task in tasks:
        results[f"{task.name}/loss"] = float(total[task.name] / total[f"{task.name} pixels"].clamp(min=1))
    results["loss"] = sum(task.weight * results[f"{task.name}/loss"] for task in tasks)
    return results


def evaluate_files(
    folder: Path,
    batches: Iterable[Batch],
    tasks: Sequence[Task],
    scores: Scores,
    observers: Sequence[Observer] = (),
) -> dict[str, float]:
    """Scores of predictions that lie in files; collective. There are no losses, since files hold no logits.

    Args:
        folder: holds a file for every image and task that `scores` looks at, see `predictions`.
        batches: of this rank's images.

    Raises:
        UserError: a file that is damaged, or of another kind or size.
    """
    for batch in batches:
        for image in _without_padding(batch, {}):
            wanted = [task for task in tasks if scores.wants(task.name, image.id)]
            size = image.image.shape[-2:]
            predictions = {task.name: load_prediction(folder, task, image.id, size) for task in wanted}
            result = replace(image, predictions=predictions)
            scores.add(result.id, result.predictions, result.labels)
            for observe in observers:
                observe(result)
    return scores.compute()


def _without_padding(batch: Batch, final: Mapping[str, Tensor]) -> Iterator[ImageResult]:
    """Cut each image of the batch out of the centre of its canvas."""
    for index, size in enumerate(batch.sizes.tolist()):
        window = (..., *content(size, batch.canvas))
        yield ImageResult(
            batch.ids[index],
            batch.image[index][window],
            {task: label[index][window] for task, label in batch.labels.items()},
            {task: full_precision(prediction[index][window]) for task, prediction in final.items()},
        )


def content(size: Sequence[int], canvas: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of an image of `size` (h, w) at the centre of its canvas (H, W)."""
    starts = [(whole - own) // 2 for own, whole in zip(size, canvas, strict=True)]
    rows, columns = (slice(start, start + own) for start, own in zip(starts, size, strict=True))
    return rows, columns


def full_precision(prediction: Tensor) -> Tensor:
    """A prediction in single precision; one in double stays as it is."""
    return prediction if prediction.dtype == torch.float64 else prediction.float()
