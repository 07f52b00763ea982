"""Scores of constant predictions, which a trained network has to beat on unseen images.

`python -m atrc_exp.report.constant ROOT` reads a dataset in the NYUD layout and scores the most frequent class, the
mean depth and the mean direction of the training split on the validation split.
"""

import argparse

import numpy as np
import torch

from atrc_exp.config import DatasetConfig
from atrc_exp.data.datasets import open_dataset
from atrc_exp.data.sample import Source
from atrc_exp.metrics import build_metrics
from atrc_exp.tasks import IGNORE, build_tasks

NAMES = ("semseg", "depth", "normals")
CLASSES = 40


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


def constant_scores(root: str) -> dict[str, float]:
    """Headline metric by task of the constants of the training split, on the validation split.

    Raises:
        UserError: what the reader finds missing.
    """
    classes = {"semseg": CLASSES}
    config = DatasetConfig(name="constant", reader="nyud", root=root, tasks=list(NAMES), num_classes=classes)
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
    return {task.name: float(metrics[task.name].compute()[task.metric]) for task in tasks}


def main() -> None:
    """Print the scores of the dataset at the root that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.constant", description=__doc__.split("\n")[0])
    parser.add_argument("root", help="folder with images/ and gt_sets/")
    for task, score in constant_scores(parser.parse_args().root).items():
        print(f"{task}: {score:.4f}")


if __name__ == "__main__":
    main()
