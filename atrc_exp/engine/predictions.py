"""Prediction files, one per image and task, in the form that the usual scoring tools read."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atrc_exp.files import replacing
from atrc_exp.tasks import Task


def as_array(task: Task, prediction: Tensor) -> np.ndarray:
    """Convert a network output (c, h, w) to what is stored, by the task's loss or label; classifications are decoded.

    - `cross_entropy`: most likely class, uint8 (h, w).
    - `balanced_cross_entropy`: floor(255 p) of the second class, uint8 (h, w).
    - `weighted_binary`: floor(255 sigmoid), uint8 (h, w).
    - depth, in any form: metres, float32 (h, w).
    - normals, in any form: unit vector n as floor(255 (n + 1) / 2 + 0.5), uint8 (h, w, 3).
    """
    if task.loss == "cross_entropy":
        stored = prediction.argmax(0).to(torch.uint8)
    elif task.loss == "balanced_cross_entropy":
        stored = (255 * prediction.softmax(0)[1]).floor().to(torch.uint8)
    elif task.loss == "weighted_binary":
        stored = (255 * prediction[0].sigmoid()).floor().to(torch.uint8)
    elif task.label == "depth":
        stored = prediction[0].float()
    else:
        unit = torch.nn.functional.normalize(prediction, dim=0)
        stored = (127.5 * (unit + 1) + 0.5).floor().to(torch.uint8).permute(1, 2, 0)
    return stored.cpu().numpy()


def save_prediction(folder: Path, image_id: str, task: Task, prediction: Tensor) -> Path:
    """Write `<folder>/<image_id>.png`, or `.npy` for floating-point values, and return its path."""
    array = as_array(task, prediction)
    path = folder / f"{image_id}{'.npy' if array.dtype.kind == 'f' else '.png'}"
    with replacing(path) as temporary:
        if array.dtype.kind == "f":
            np.save(temporary, array)
        else:
            Image.fromarray(array).save(temporary)
    return path
