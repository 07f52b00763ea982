"""`stage=attention`: what one pixel of an image attends to, by every block of a target (Fig. 3)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.decode import read_photo
from atrc_exp.errors import UserError
from atrc_exp.evaluation.tiled import on_canvas
from atrc_exp.genotype import scale_of, task_of
from atrc_exp.models.contexts.attention_rows import AttentionRow, attention_row
from atrc_exp.models.contexts.maps import TaskMaps
from atrc_exp.models.inspection import BlockView
from atrc_exp.processes.ranks import Ranks
from atrc_exp.report.figures import attention, drawing
from atrc_exp.report.figures.attention import Place
from atrc_exp.runs.logging.console import show_messages
from atrc_exp.stages.common import TrainedRun, load_run


def run(config: Config) -> None:
    """Write `<output>/attention/<image>_<y>_<x>/<target>.png`, `.pdf` and `.npz`.

    The image is treated as in validation, in one pass on a canvas of the crop size; where it does not fit it is scaled
    down until it does. The network runs in single precision.

    Raises:
        UserError: no such run, checkpoint or image, a pixel outside of it, a network without context blocks, or a
            target that the run does not have.
    """
    # Rows are taken from inside the network, and compared in full precision.
    config = replace(config, engine=replace(config.engine, compile=False, precision="fp32"))
    ranks = Ranks.start(config.engine.device)
    show_messages(ranks.is_main)
    if ranks.world > 1:
        raise UserError("stage=attention runs in one process; start it without torchrun")
    path = Path(str(config.image)).expanduser()
    image, pixel = _read(path), _pixel(config)
    if pixel[0] >= image.shape[0] or pixel[1] >= image.shape[1]:
        raise UserError(
            f"pixel={pixel[0]},{pixel[1]}: is outside of {path}, which has rows 0 to {image.shape[0] - 1} and columns "
            f"0 to {image.shape[1] - 1}"
        )
    tasks = build_tasks_of(config)
    trained = load_run(config, ranks, tasks)
    view = BlockView(trained.predict.network)
    targets = _targets(config, view.genotype.rows)
    observed = observe(trained, view, image, pixel, config.dataset.crop, ranks.device)
    names = {task.name: task.kind.region_names(task, trained.dataset["class_names"].get(task.name)) for task in tasks}
    folder = Path(config.output or trained.folder).expanduser() / "attention" / f"{path.stem}_{pixel[0]}_{pixel[1]}"
    for target in targets:
        maps, place = observed[scale_of(target)]
        rows = rows_of(view, target, maps, place.cell)
        densities = {task: maps.regions[task][0] for task in maps.regions}
        attention.save_arrays(folder / f"{target}.npz", place, rows, densities)
        drawing.save(attention.draw(target, place, rows, names), folder / target)
    print(f"attention of {', '.join(targets)} at ({pixel[0]}, {pixel[1]}): panels and arrays in {folder}")


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"image={path}: does not exist; give an image file")
    return read_photo(path)


def _pixel(config: Config) -> tuple[int, int]:
    assert config.pixel is not None
    return config.pixel[0], config.pixel[1]


def _targets(config: Config, rows: Sequence[str]) -> list[str]:
    """Rows that are looked at: all, one, or those of a task at every scale."""
    targets = [row for row in rows if config.target in (None, row, task_of(row))]
    if not targets:
        raise UserError(f"target={config.target}: is no target of the run; one of {', '.join(rows)}")
    return targets


@torch.inference_mode()
def observe(
    trained: TrainedRun,
    view: BlockView,
    image: np.ndarray,
    pixel: tuple[int, int],
    crop: Sequence[int],
    device: torch.device,
) -> list[tuple[TaskMaps, Place]]:
    """By scale, what the blocks read for an image (H, W, 3) uint8, and the place of the pixel in these maps."""
    scale = min(1.0, crop[0] / image.shape[0], crop[1] / image.shape[1])
    fitted = image
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        fitted = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    canvas, top, left = on_canvas(fitted, crop, trained.normalisation)
    with view.watching() as seen:
        trained.predict(canvas[None].to(device))
        read = seen()[0]
    grids = [next(iter(maps.features.values())).shape[2:] for maps in read]
    return [(maps, _place(image, pixel, fitted.shape, canvas, (top, left), grid))
            for maps, grid in zip(read, grids, strict=True)]  # fmt: skip


def _place(
    image: np.ndarray,
    pixel: tuple[int, int],
    fitted: Sequence[int],
    canvas: Tensor,
    offset: tuple[int, int],
    grid: Sequence[int],
) -> Place:
    """Place the pixel by its edges: row y of the image covers y to y + 1 before the image is scaled and moved."""
    cell, edges = [], []
    for axis in (0, 1):
        scale = fitted[axis] / image.shape[axis]
        cells, whole = grid[axis], canvas.shape[1 + axis]
        centre = (pixel[axis] + 0.5) * scale + offset[axis]
        cell.append(min(int(centre * cells / whole), cells - 1))
        edges.append((-offset[axis] / scale - 0.5, (whole - offset[axis]) / scale - 0.5))
    (top, bottom), (left, right) = edges
    return Place(image, pixel, (cell[0], cell[1]), (left, right, bottom, top))


@torch.inference_mode()
def rows_of(view: BlockView, target: str, maps: TaskMaps, cell: tuple[int, int]) -> dict[str, list[AttentionRow]]:
    """Return the attention rows of a target by source, one for each context of the block."""
    rows: dict[str, list[AttentionRow]] = {source: [] for source in view.genotype.tasks}
    for block in (each for each in view.blocks if each.target == target):
        rows[block.source] = [
            replace(attention_row(view.context(part), part._replace(target=task_of(target)), maps, cell), share=share)
            for part, share in zip(block.parts, view.shares(block, maps), strict=True)
        ]
    return rows
