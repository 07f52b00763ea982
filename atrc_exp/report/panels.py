"""Pictures of one image: labels above predictions, and the genotype as a map; arrays, so that any writer takes them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from atrc_exp.genotype import CONTEXTS, Genotype
from atrc_exp.tasks import IGNORE, Task

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # ImageNet, as the transforms normalise
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
_UNLABELLED = 0.5  # grey


def panel(
    image: Tensor, labels: Mapping[str, Tensor], predictions: Mapping[str, Tensor], tasks: Sequence[Task]
) -> Figure:
    """One column a task, label above prediction, the image in front.

    Args:
        image: (3, h, w) normalised RGB on the CPU.
        labels: (h, w) classes, (1, h, w) depth or (3, h, w) normals by task.
        predictions: network outputs (c, h, w) by task.
    """
    columns = len(tasks) + 1
    height, width = image.shape[-2:]
    figure = Figure(figsize=(2.4 * columns, 2 * 2.4 * height / width + 0.4), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow((image.float() * _STD + _MEAN).clamp(0, 1).permute(1, 2, 0).numpy())
    axes[0, 0].set_title("image")
    axes[1, 0].text(0.5, 0.5, "above: label\nbelow: prediction", ha="center", va="center")
    for column, task in enumerate(tasks, start=1):
        above, below = task_pictures(task, labels[task.name], predictions[task.name])
        axes[0, column].imshow(above)
        axes[0, column].set_title(task.title)
        axes[1, column].imshow(below)
    return figure


def task_pictures(task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) in [0, 1] of a label and its prediction on one scale; unlabelled pixels are grey."""
    if task.label == "depth":
        valid = label[0] > 0
        low, high = (label[0][valid].min(), label[0][valid].max()) if valid.any() else (torch.tensor(0.0), 1.0)
        scaled = [(depth[0].float() - low) / max(float(high - low), 1e-6) for depth in (label, prediction)]
        return _grey_out(_coloured(scaled[0], "viridis"), valid), _coloured(scaled[1], "viridis")
    if task.label == "normals":
        unit = torch.nn.functional.normalize(prediction.float(), dim=0)
        above, below = (((normals + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy() for normals in (label.float(), unit))
        return _grey_out(above, (label != 0).any(0)), below
    valid = label != IGNORE
    if task.channels > 2:
        return _grey_out(_palette(label), valid), _palette(prediction.argmax(0))
    positive = prediction[0].float().sigmoid() if task.channels == 1 else prediction.float().softmax(0)[1]
    return _grey_out(_coloured((label == 1).float(), "gray"), valid), _coloured(positive, "gray")


def genotype_map(genotype: Genotype) -> Figure:
    """Context types of all blocks, targets as rows and sources as columns, with probabilities where known."""
    tasks = genotype.tasks
    codes = np.array([[CONTEXTS.index(genotype.blocks[t][s]) for s in tasks] for t in tasks])
    figure = Figure(figsize=(1.2 * len(tasks) + 1.5, 1.0 * len(tasks) + 1.2), layout="constrained")
    axis = figure.subplots()
    axis.imshow(codes, cmap="Pastel1", vmin=0, vmax=8)
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_xlabel("source")
    axis.set_ylabel("target")
    probabilities = genotype.details.get("probabilities")
    for row, target in enumerate(tasks):
        for column, source in enumerate(tasks):
            name = genotype.blocks[target][source]
            share = f"\n{probabilities[target][source][name]:.2f}" if probabilities else ""
            axis.text(column, row, name + share, ha="center", va="center", fontsize=9)
    return figure


def rendered(figure: Figure) -> np.ndarray:
    """The figure as an (H, W, 3) uint8 array."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _coloured(values: Tensor, name: str) -> np.ndarray:
    return colormaps[name](values.clamp(0, 1).numpy())[..., :3]


def _palette(classes: Tensor) -> np.ndarray:
    """Distinct colours of up to 60 classes, the rest share them."""
    colours = np.concatenate([colormaps[name].colors for name in ("tab20", "tab20b", "tab20c")])  # type: ignore[attr-defined]
    return colours[classes.numpy().astype(np.int64) % len(colours)]


def _grey_out(picture: np.ndarray, valid: Tensor) -> np.ndarray:
    return np.where(valid.numpy()[..., None], picture, _UNLABELLED)
