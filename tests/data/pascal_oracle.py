"""The labels of an image in the PASCAL-Context layout, read a second time: by position, not by name, with its own
Laplacian and thinning."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat

from atrc_exp.metrics.boundary.kernels.thinning import thin

GROUPS = {"head": "hair head lear rear lebrow rebrow leye reye mouth nose", "torso": "neck torso",
          "upper arm": "luarm ruarm", "lower arm": "llarm rlarm lhand rhand", "upper leg": "luleg ruleg",
          "lower leg": "llleg rlleg lfoot rfoot"}  # fmt: skip


def read_labels(root: Path, id: str, with_normals: list[int]) -> dict[str, np.ndarray]:
    """All five labels in the conventions of `Sample`; `with_normals` lists the context classes whose normals count."""
    context = loadmat(root / "pascal-context" / "trainval" / f"{id}.mat")["LabelMap"]
    height, width = context.shape
    raw = np.array(Image.open(root / "normals_distill" / f"{id}.png"))
    normals = raw / 127.5 - 1
    valid = np.isin(context, with_normals) & (np.linalg.norm(normals, axis=2) >= 0.5) & (raw != 0).any(axis=2)
    return {
        "semseg": np.array(Image.open(root / "semseg" / "VOC12" / f"{id}.png")),
        "human_parts": _parts(root / "human_parts" / f"{id}.mat", (height, width)),
        "sal": (np.array(Image.open(root / "sal_distill" / f"{id}.png")) >= 128).astype(np.uint8),
        "normals": np.where(valid[..., None], normals, 0),
        "edge": _edges(context),
    }


def _parts(path: Path, size: tuple[int, int]) -> np.ndarray:
    _, objects = loadmat(path)["anno"][0, 0]
    target = np.zeros(size, np.uint8)
    seen = [entry for entry in objects[0] if entry[1].item() == 15 and entry[2].sum() > 0]
    for entry in objects[0] if seen else []:
        if entry[1].item() != 15 or entry[3].size == 0:
            continue
        for name, mask in entry[3][0]:
            (part,) = (index for index, names in enumerate(GROUPS.values(), 1) if name.item() in names.split())
            target[mask.astype(bool)] = part
    return target


def _edges(context: np.ndarray) -> np.ndarray:
    padded = np.pad(context.astype(np.int64), 1, mode="reflect")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return thin(neighbours != 4 * context.astype(np.int64)).astype(np.uint8)
