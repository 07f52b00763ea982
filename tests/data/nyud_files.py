"""Writes tiny datasets in the NYUD layout, both packagings, and says what a reader must deliver."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = ("images", "segmentation", "depth", "normals", "edge")


def write_nyud(
    root: Path,
    packaging: str = "A",
    *,
    train: int = 3,
    val: int = 2,
    size: tuple[int, int] = (40, 52),
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """Write `train` + `val` random images; return by id the image and the labels in the conventions of `Sample`.

    Every image has unlabelled pixels, classes 0 and 39, a zero, a negative, an infinite and a NaN depth, and two holes
    in its normals, whose truth is exact for packaging B and quantised to 8 bits in A.
    """
    rng = np.random.default_rng(seed)
    for folder in (*FOLDERS, "gt_sets"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    ids = [f"{number:04d}" for number in range(1, train + val + 1)]
    (root / "gt_sets" / "train.txt").write_text("".join(f"{id}\n" for id in ids[:train]))
    (root / "gt_sets" / "val.txt").write_text("".join(f"{id}\n" for id in ids[train:]))
    return {id: write_image(root, packaging, id, size, rng) for id in ids}


def write_image(
    root: Path, packaging: str, id: str, size: tuple[int, int], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Write the five files of one image; see `write_nyud`."""
    height, width = size
    image = blocks(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), size)
    stored = blocks(rng.integers(0, 41, (6, 7), dtype=np.uint8), size)
    stored[0, :3] = (0, 1, 40)
    depth = rng.uniform(0.7, 10, size).astype(np.float32)
    depth[1, :4] = (0, -1, np.inf, np.nan)
    normals = rng.normal(size=(height, width, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    edge = (rng.random(size) < 0.1).astype(np.uint8)

    Image.fromarray(stored).save(root / "segmentation" / f"{id}.png")
    np.save(root / "depth" / f"{id}.npy", depth)
    if packaging == "A":
        Image.fromarray(image).save(root / "images" / f"{id}.png")
        raw = np.round((normals + 1) * 127.5).astype(np.uint8)
        raw[2, 0], raw[2, 1] = 127, 0
        Image.fromarray(raw).save(root / "normals" / f"{id}.png")
        Image.fromarray(edge * np.uint8(255)).save(root / "edge" / f"{id}.png")
        normals = raw / 127.5 - 1
    else:
        Image.fromarray(image).save(root / "images" / f"{id}.jpg", quality=95)
        normals[2, 0], normals[2, 1] = 0, np.nan
        np.save(root / "normals" / f"{id}.npy", normals)
        np.save(root / "edge" / f"{id}.npy", edge.astype(np.float64))

    normals[2, :2] = 0
    depth[1, :4] = 0
    semseg = np.where(stored == 0, 255, stored - 1.0).astype(np.uint8)
    return {"image": image, "semseg": semseg, "depth": depth, "normals": normals.astype(np.float32), "edge": edge}


def blocks(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge a few cells to `size`, as JPEG keeps them and crops find more than one class."""
    rows = np.arange(size[0]) * cells.shape[0] // size[0]
    columns = np.arange(size[1]) * cells.shape[1] // size[1]
    return cells[rows][:, columns]
