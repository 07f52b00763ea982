"""`stage=predict`: all tasks on images of any size, as panels to look at and, on request, as arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrc_exp.coding import Decoder
from atrc_exp.config import Config
from atrc_exp.data.decode import read_rgb
from atrc_exp.engine.distributed import Ranks
from atrc_exp.engine.predictions import save_prediction
from atrc_exp.engine.sizing import predict_resized, predict_tiled
from atrc_exp.errors import UserError
from atrc_exp.logging.console import image_progress, show_messages
from atrc_exp.report.panels import prediction_panel, save_panel
from atrc_exp.stages.common import TrainedRun, build_tasks_of, load_run
from atrc_exp.tasks import Task
from atrc_exp.words import counted

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def run(config: Config) -> None:
    """Write `<output>/panels/<name>.png`, and with `predict.arrays` the files of `engine.predictions`.

    Raises:
        UserError: no such run or checkpoint, no image, or images that cannot be read (one message for all).
    """
    ranks = Ranks.start(config.engine.device)
    show_messages(ranks.is_main)
    if ranks.world > 1:
        raise UserError("stage=predict runs in one process; start it without torchrun")
    paths = find_images(Path(str(config.input)).expanduser())
    tasks = build_tasks_of(config)
    trained = load_run(config, ranks, tasks)
    folder = Path(config.output).expanduser() if config.output else trained.folder / "predicted"
    with image_progress("images", len(paths), bar=config.engine.progress) as advance:
        for path in paths:
            image = read_rgb(path)
            predictions = _predict(config, trained, tasks, ranks.device, image)
            figure = prediction_panel(image, predictions, tasks, trained.dataset["class_names"])
            save_panel(figure, folder / "panels" / f"{path.stem}.png")
            for task in tasks if config.predict.arrays else ():
                save_prediction(folder, task, path.stem, predictions[task.name])
            advance()
    print(f"{counted(len(paths), 'image')} predicted, panels in {folder / 'panels'}")


@torch.inference_mode()
def _predict(
    config: Config, trained: TrainedRun, tasks: Sequence[Task], device: torch.device, image: np.ndarray
) -> Mapping[str, Tensor]:
    """Outputs (c, H, W) by task on the CPU for an image (H, W, 3)."""

    def forward(canvas: Tensor) -> dict[str, Tensor]:
        final = trained.predict(canvas[None].to(device)).final
        outputs = {task.name: final[task.name][0].float().cpu() for task in tasks}
        for task in tasks:
            if task.loss == "unit_l1":  # tiles are blended as unit vectors; classifications as logits
                outputs[task.name] = torch.nn.functional.normalize(outputs[task.name], dim=0)
        return outputs

    if config.predict.sizing == "resize":
        outputs = predict_resized(forward, image, config.dataset.crop)
    else:
        outputs = predict_tiled(forward, image, config.dataset.crop, config.predict.overlap)
    codebook = None if trained.codebook is None else trained.codebook.cpu()
    decoded = Decoder(tasks, codebook)({task: output[None] for task, output in outputs.items()})
    return {task: values[0] for task, values in decoded.items()}


def find_images(source: Path) -> list[Path]:
    """The image itself, or all images of a folder by name, each decoded once: a long job ends early or not at all.

    Raises:
        UserError: nothing there, images that cannot be read, or two that would be written to one file.
    """
    if not source.exists():
        raise UserError(f"input={source}: does not exist; give an image or a folder of images")
    paths = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"input={source}: holds no image ({', '.join(SUFFIXES)})")
    problems = []
    for path in paths:
        try:
            read_rgb(path)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))
    stems = [path.stem for path in paths]
    for path in paths:
        if stems.count(path.stem) > 1:
            raise UserError(f"input={source}: several images are called {path.stem}; rename all but one")
    return paths
