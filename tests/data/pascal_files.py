"""Writes tiny datasets in the PASCAL-Context layout, with every kind of image that the real one has."""

from pathlib import Path

import numpy as np
from nyud_files import blocks
from PIL import Image
from scipy.io import savemat

PARTS = ("hair", "head", "lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose", "neck", "torso",
         "luarm", "ruarm", "llarm", "rlarm", "lhand", "rhand", "luleg", "ruleg", "llleg", "rlleg", "lfoot",
         "rfoot")  # fmt: skip
PARTED, BARE, HIDDEN, NOBODY = "person with parts", "person without parts", "person without pixels", "no person"
KINDS = (PARTED, NOBODY, BARE, HIDDEN)


def write_pascal(root: Path, *, train: int = 3, val: int = 2, seed: int = 0) -> dict[str, str]:
    """Write `train` + `val` random images of both orientations; return by id which of `KINDS` an image is."""
    rng = np.random.default_rng(seed)
    for folder in ("JPEGImages", "semseg/VOC12", "pascal-context/trainval", "human_parts", "normals_distill",
                   "sal_distill", "ImageSets/Context"):  # fmt: skip
        (root / folder).mkdir(parents=True, exist_ok=True)
    ids = [f"2008_{number:06d}" for number in range(1, train + val + 1)]
    (root / "ImageSets" / "Context" / "train.txt").write_text("".join(f"{id}\n" for id in ids[:train]))
    (root / "ImageSets" / "Context" / "val.txt").write_text("".join(f"{id}\n" for id in ids[train:]))
    kinds = {id: KINDS[number % len(KINDS)] for number, id in enumerate(ids)}
    for number, (id, kind) in enumerate(kinds.items()):
        write_image(root, id, kind, (37, 50) if number % 2 else (50, 37), rng)
    return kinds


def write_image(root: Path, id: str, kind: str, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Write the six files of one image (H, W) of a kind of `KINDS`."""
    image = blocks(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), size)
    Image.fromarray(image).save(root / "JPEGImages" / f"{id}.jpg", quality=95)

    semseg = blocks(rng.integers(0, 21, (4, 5), dtype=np.uint8), size)
    semseg[[0, -1]] = semseg[:, [0, -1]] = 255
    label = Image.fromarray(semseg)
    label.putpalette([255 - value // 3 for value in range(768)])
    label.save(root / "semseg" / "VOC12" / f"{id}.png")

    context = blocks(rng.choice([0, 3, 7, 8, 9, 284, 360, 440, 459], (6, 7)).astype(np.uint16), size)
    savemat(root / "pascal-context" / "trainval" / f"{id}.mat", {"LabelMap": context}, do_compression=True)

    normals = rng.normal(size=(*size, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    raw = np.round((normals + 1) * 127.5).astype(np.uint8)
    raw[2, 0], raw[2, 1] = 127, 0
    Image.fromarray(raw).save(root / "normals_distill" / f"{id}.png")
    saliency = rng.integers(0, 256, size, dtype=np.uint8)
    saliency[3, :2] = (127, 128)
    Image.fromarray(saliency).save(root / "sal_distill" / f"{id}.png")
    write_annotation(root / "human_parts" / f"{id}.mat", objects_of(kind, size, rng))


def objects_of(kind: str, size: tuple[int, int], rng: np.random.Generator) -> list[dict]:
    """The objects of an annotation: always a dog with a head, which is no human part, and people by `kind`."""
    objects = [_object("dog", 12, size, rng, ["head"])]
    if kind == PARTED:  # all names over two people, the second one partly over the first, and a person without parts
        objects.append(_object("person", 15, size, rng, list(rng.permutation(PARTS))))
        objects.append(_object("person", 15, size, rng, []))
        objects.append(_object("person", 15, size, rng, list(rng.choice(PARTS, 1))))
    elif kind == BARE:
        objects.append(_object("person", 15, size, rng, []))
    elif kind == HIDDEN:
        objects.append(_object("person", 15, size, rng, ["torso"]) | {"mask": np.zeros(size, np.uint8)})
    return objects


def write_annotation(path: Path, objects: list[dict]) -> None:
    """Write an annotation as MATLAB does: 1 x n structure arrays, nothing where there is no part."""
    anno = {"imname": path.stem, "objects": _structures(objects, ("class", "class_ind", "mask", "parts"))}
    savemat(path, {"anno": anno}, do_compression=True)


def _object(name: str, index: int, size: tuple[int, int], rng: np.random.Generator, parts: list[str]) -> dict:
    structures = [{"part_name": part, "mask": _mask(size, rng)} for part in parts]
    return described(name, index, _mask(size, rng), structures)


def described(name: str, index: float, mask: np.ndarray, parts: list[dict]) -> dict:
    """An object of an annotation; each part has a `part_name` and a `mask`."""
    structures = _structures(parts, ("part_name", "mask")) if parts else np.zeros((0, 0))
    return {"class": name, "class_ind": index, "mask": mask, "parts": structures}


def _mask(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A rectangle of at least one pixel."""
    (top, bottom), (left, right) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in size)
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def _structures(elements: list[dict], fields: tuple[str, ...]) -> np.ndarray:
    array = np.zeros((1, len(elements)), dtype=[(field, object) for field in fields])
    for position, element in enumerate(elements):
        for field in fields:
            array[0, position][field] = element[field]
    return array
