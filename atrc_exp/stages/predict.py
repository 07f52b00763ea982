"""`stage=predict`: all tasks on images of any size, as panels to look at and, on request, as arrays."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.decode import SUFFIXES, read_photo
from atrc_exp.errors import UserError
from atrc_exp.evaluation.panels import prediction_panel, save_panel
from atrc_exp.evaluation.predictions import as_array, save_array
from atrc_exp.evaluation.tiled import Bands, choose_tile, predict_resized, predict_tiled
from atrc_exp.processes.memory import free_bytes, inference_bytes
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.configurations import run_folder
from atrc_exp.runs.logging.console import image_progress, show_messages
from atrc_exp.stages.common import TrainedRun, load_run
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import Decoder
from atrc_exp.words import counted

log = logging.getLogger(__name__)

_SHOWN = 10  # images in the message at the end; a warning has named each
_SHARE = 0.5  # of the free memory that a pass may take
_BLENDED = 3 * 4  # bytes of a value of float32: its sum, what is divided, and what is decoded of it


def run(config: Config) -> None:
    """Write `<output>/panels/<id>.png`, and with `predict.arrays` the files of `evaluation.predictions`.

    An id is the image's path in the folder, without its suffix. An image that cannot be read is left out, and the
    command ends with an error once all others are predicted.

    Raises:
        UserError: no such run or checkpoint, no image, or images that cannot be read (one message for all).
    """
    # Images of many sizes would be compiled for each of them.
    config = replace(config, engine=replace(config.engine, compile=False))
    ranks = Ranks.start(config.engine.device)
    show_messages(ranks.is_main)
    if ranks.world > 1:
        raise UserError("stage=predict runs in one process; start it without torchrun")
    tasks = build_tasks_of(config)
    folder = Path(config.output).expanduser() if config.output else run_folder(config) / "predicted"
    paths = find_images(Path(str(config.input)).expanduser(), folder)
    trained = load_run(config, ranks, tasks)
    network = _Network(config, trained, tasks, ranks.device)
    unread: list[str] = []
    with image_progress("images", len(paths), bar=config.engine.progress) as advance:
        for image_id, path in paths.items():
            try:
                image = read_photo(path)
            except UserError as error:
                log.warning("left out: %s", error)
                unread.append(str(error))
                advance()
                continue
            arrays = network.predict(image, advance)
            figure = prediction_panel(image, arrays, tasks, trained.dataset["class_names"])
            save_panel(figure, folder / "panels" / f"{image_id}.png")
            for task in tasks if config.predict.arrays else ():
                save_array(folder, task, image_id, arrays[task.name])
    print(f"{len(paths) - len(unread)} of {counted(len(paths), 'image')} predicted, panels in {folder / 'panels'}")
    if unread:
        shown = "; ".join(unread[:_SHOWN]) + ("; ..." if len(unread) > _SHOWN else "")
        raise UserError(f"{len(unread)} of {counted(len(paths), 'image')} left out: {shown}")


class _Network:
    """The trained network as it is applied to images of any size."""

    def __init__(self, config: Config, trained: TrainedRun, tasks: Sequence[Task], device: torch.device) -> None:
        self.options, self.crop, self.tasks, self.device = config.predict, config.dataset.crop, tasks, device
        self.network, self.normalisation = trained.predict, trained.normalisation
        self.decode = Decoder(tasks, None if trained.codebook is None else trained.codebook.cpu())

    @torch.inference_mode()
    def predict(self, image: np.ndarray, advance: Callable[..., None]) -> dict[str, np.ndarray]:
        """Predict what is stored (`as_array`) by task for an image (H, W, 3) uint8; `advance` gets the share done."""
        arrays: dict[str, list[np.ndarray]] = {task.name: [] for task in self.tasks}
        for band in self._bands(image):
            decoded = self.decode({task: output[None] for task, output in band.items()})
            for task in self.tasks:
                arrays[task.name].append(as_array(task, decoded[task.name][0]))
            advance(share=len(arrays[self.tasks[0].name][-1]) / image.shape[0])
        return {task: np.concatenate(parts) for task, parts in arrays.items()}

    def _bands(self, image: np.ndarray) -> Bands:
        if self.options.sizing == "resize":
            return predict_resized(self._forward, image, self.crop, self.normalisation)
        overlap = self.options.overlap
        return predict_tiled(self._forward, image, self.crop, self._tile(image), overlap, self.normalisation)

    def _forward(self, canvas: Tensor) -> dict[str, Tensor]:
        final = self.network(canvas[None].to(self.device)).final
        outputs = {task.name: final[task.name][0].float().cpu() for task in self.tasks}
        for task in self.tasks:
            if not task.is_classification:  # tiles of classifications are blended as logits
                outputs[task.name] = task.kind.blended(outputs[task.name])
        return outputs

    def _tile(self, image: np.ndarray) -> Sequence[int]:
        canvas = [max(pair) for pair in zip(image.shape, self.crop, strict=False)]
        if self.options.tile is not None or canvas == self.crop:
            return self.options.tile or self.crop
        per_pixel, free = self._bytes_per_pixel, free_bytes(self.device)
        if per_pixel is None:
            return self.crop
        if free is None:
            return canvas
        row = _BLENDED * sum(task.channels for task in self.tasks) * canvas[1]

        def needed(height: int, width: int) -> float:
            return per_pixel * height * width + (0 if [height, width] == canvas else row * height)

        tile = choose_tile(canvas, self.crop, self.options.overlap, lambda *size: needed(*size) <= _SHARE * free)
        if list(tile) != canvas:
            log.info("%d x %d pixels in tiles of %d x %d: in one pass they need %.1f GiB, %.1f GiB are free",
                     *image.shape[:2], *tile, needed(*canvas) / 2**30, free / 2**30)  # fmt: skip
        return tile

    @cached_property
    def _bytes_per_pixel(self) -> float | None:
        """Bytes that a pass takes for each pixel; None if the network takes the crop size alone."""
        height, width = 2 * self.crop[0], 2 * self.crop[1]
        canvas = torch.zeros(3, height, width)
        try:
            return inference_bytes(lambda: self._forward(canvas)) / (height * width)
        except UserError:
            raise
        except Exception as error:  # each backbone refuses other sizes in its own way
            log.info("tiles of the crop size: the network takes no other (%s)", str(error).splitlines()[0])
            return None


def find_images(source: Path, output: Path) -> dict[str, Path]:
    """The image itself, or all images of a folder and its sub-folders but for hidden ones and `output`, by id.

    Ids have the suffix where they would not be different without it.

    Raises:
        UserError: there is no image.
    """
    if not source.exists():
        raise UserError(f"input={source}: does not exist; give an image or a folder of images")
    if source.is_file():
        return {source.stem: source}
    files = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    own = [path for path in files if not path.absolute().is_relative_to(output.absolute())]
    names = [path.relative_to(source) for path in own]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not names:
        raise UserError(f"input={source}: holds no image ({', '.join(SUFFIXES)})")
    stems = Counter(name.with_suffix("") for name in names)
    ids = {str(name if stems[name.with_suffix("")] > 1 else name.with_suffix("")): source / name for name in names}
    return ids if len(ids) == len(names) else {str(name): source / name for name in names}
