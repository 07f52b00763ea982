"""What `atrc_exp.report.constant` computes: constants of the training split and their scores on the other images."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from atrc_exp.config import DatasetConfig
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.sample import Source
from atrc_exp.errors import UserError
from atrc_exp.metrics import build_metrics
from atrc_exp.metrics.boundary import evaluate
from atrc_exp.report.results.constants import Constants
from atrc_exp.tasks import IGNORE, build_tasks

NAMES = ("semseg", "depth", "normals")
CLASSES = 40
MAX_DISTANCE = 0.011  # of the boundary score, share of the diagonal, as on NYUD-v2


def training_constants(train: Source) -> dict[str, torch.Tensor]:
    """One value a task, as network outputs (c,): logits of the most frequent class, metres, a unit vector."""
    classes, depth, pixels, direction = np.zeros(CLASSES, np.int64), 0.0, 0, np.zeros(3)
    for index in range(len(train)):
        labels = train.load(index, NAMES).labels
        semseg, metres = labels["semseg"], labels["depth"]
        classes += np.bincount(semseg[semseg != IGNORE], minlength=CLASSES)
        depth += float(metres.sum(dtype=np.float64))  # invalid pixels are 0
        pixels += int((metres > 0).sum())
        direction += labels["normals"].reshape(-1, 3).sum(0, dtype=np.float64)
    return {
        "semseg": torch.nn.functional.one_hot(torch.tensor(classes.argmax()), CLASSES).float(),
        "depth": torch.tensor([depth / pixels]).float(),
        "normals": torch.from_numpy(direction / np.linalg.norm(direction)).float(),
    }


def boundary_frequency(train: Source) -> np.ndarray:
    """Share of the training images in which each pixel is a boundary, (H, W), scaled to a maximum of 1.

    Raises:
        UserError: images of different sizes.
    """
    maps = [train.load(index, ["edge"]).labels["edge"] == 1 for index in range(len(train))]
    if len(sizes := {found.shape for found in maps}) > 1:
        raise UserError(f"images of {len(sizes)} sizes have no mean map of boundaries; crop them to one size")
    total = np.sum(maps, axis=0, dtype=np.float64)
    return total / max(total.max(), 1.0)


def constant_scores(root: str) -> Constants:
    """Score the constants of the training split on the validation split.

    Raises:
        UserError: what the reader finds missing, or images of different sizes.
    """
    classes = {"semseg": CLASSES}
    config = DatasetConfig(
        name="constant", reader="nyud", root=root, tasks=[*NAMES, "edge"], num_classes=classes,
        edge_positive_weight=0.8, edge_max_distance=MAX_DISTANCE,
    )  # fmt: skip
    tasks = build_tasks(NAMES, num_classes=classes, edge_positive_weight=None, edge_max_distance=None)
    data = open_dataset(config)
    constants, metrics = training_constants(data.train), build_metrics(tasks)
    for index in range(len(data.val)):
        labels = data.val.load(index, NAMES).labels
        size = labels["semseg"].shape
        tensors = {
            "semseg": torch.from_numpy(labels["semseg"]).long()[None],
            "depth": torch.from_numpy(labels["depth"])[None, None],
            "normals": torch.from_numpy(labels["normals"]).permute(2, 0, 1)[None],
        }
        for name, metric in metrics.items():
            metric.update(constants[name].view(1, -1, 1, 1).expand(1, -1, *size), tensors[name])
    headline = {task.name: float(metrics[task.name].compute()[task.metric]) for task in tasks}
    edge = _boundary_score(boundary_frequency(data.train), data.val, MAX_DISTANCE)
    return Constants(data.info.fingerprint, headline | {"edge": edge})


def _boundary_score(frequency: np.ndarray, val: Source, max_dist: float) -> float:
    """odsF of one and the same map for all validation images."""
    with tempfile.TemporaryDirectory() as folder:
        prediction = Path(folder) / "frequency.png"
        Image.fromarray(np.round(255 * frequency).astype(np.uint8)).save(prediction)
        truths = [Path(folder) / f"{index}.png" for index in range(len(val))]
        for index, path in enumerate(truths):
            Image.fromarray((val.load(index, ["edge"]).labels["edge"] == 1).astype(np.uint8)).save(path)
        return float(evaluate([prediction] * len(truths), truths, max_dist=max_dist).odsF)
