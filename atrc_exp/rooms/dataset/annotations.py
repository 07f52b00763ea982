"""From a populated room's number to its image and the annotations of PASCAL-Context, VOC and PASCAL-Part.

All but saliency are exact. Saliency is a rule in place of the teacher network that the published set was labelled by:
an object of a VOC class weighs its size times how central it is, people and animals twice that, and its pixels get
that weight as a share of the heaviest object's.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from atrc_exp.rooms.plans.classes import CONTEXT_LABELS, PARTS, VOC, VOC_LABELS
from atrc_exp.rooms.plans.furnish import furnish
from atrc_exp.rooms.render.image import View, develop

_VIEW, _PHOTOGRAPH = 1, 2  # last elements of a seed, which keep the streams of random numbers apart
_PORTRAIT = 0.3  # share of portrait images
_SHORT_SIDES = (1.0, 1.0, 0.888)  # of the size asked for: 500 x 375 and 500 x 333 pixels are the commonest in VOC
_VOID = 0.01  # width of the void border as a share of the longer side: 5 pixels of 500, as in VOC
_SMALL = 0.012  # share of the image below which a person carries no parts, as in PASCAL-Part
_VISIBLE = 1.5e-4  # share of the image below which an object is not annotated
_CENTRAL = 0.6  # distance from the centre, in half diagonals, at which an object weighs 1 / e
_ALIVE = 2.0  # how much more people and animals weigh in the saliency
_FEATURES = ("lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose")  # part of the head's mask, too


@dataclass(frozen=True)
class VocObject:
    """One object: its VOC class, its mask (H, W) bool, and the masks of its visible parts; no parts if seen small."""

    voc: int
    mask: np.ndarray
    parts: dict[str, np.ndarray]


@dataclass(frozen=True)
class PeopleSample:
    """One populated room seen once.

    image (H, W, 3) uint8 RGB; context (H, W) uint16, PASCAL-Context classes; voc (H, W) uint8, VOC classes with void
    (255) along objects' outlines; saliency (H, W) uint8; normals (H, W, 3) float32 unit vectors, x right, y up, z
    towards the camera.
    """

    image: np.ndarray
    context: np.ndarray
    voc: np.ndarray
    saliency: np.ndarray
    normals: np.ndarray
    objects: list[VocObject]


def image_shape(seed: int, index: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of image `index`: landscape of at most `image_size` (H, W), or portrait of at most (W, H)."""
    rng = np.random.default_rng([seed, index, _VIEW])
    portrait, short = rng.random() < _PORTRAIT, rng.choice(_SHORT_SIDES)
    low, high = round(min(image_size) * short), max(image_size)
    return (high, low) if portrait else (low, high)


def render_people(seed: int, index: int, image_size: tuple[int, int]) -> PeopleSample:
    """Build, light and photograph populated room `index` of `seed`: a pure function of its arguments.

    The room, the view's direction and its orientation do not depend on the size; sizes as in `image_shape`.
    """
    size = image_shape(seed, index, image_size)
    rng = np.random.default_rng([seed, index])
    view = View(furnish(rng, populated=True), rng, size, portrait=size[0] > size[1])
    kind, part, instance = (
        view.map(ids[view.at.triangle]) for ids in (view.geometry.kind, view.geometry.part, view.geometry.instance)
    )
    objects = _objects(kind, part, instance)
    return PeopleSample(
        image=develop(view.image(), np.random.default_rng([seed, index, _PHOTOGRAPH])),
        context=CONTEXT_LABELS[kind],
        voc=_with_void(VOC_LABELS[kind], instance),
        saliency=saliency(objects, size),
        normals=np.ascontiguousarray(view.map(view.camera.turned(view.at.normal)).transpose(1, 2, 0)),
        objects=objects,
    )


def _objects(kind: np.ndarray, part: np.ndarray, instance: np.ndarray) -> list[VocObject]:
    """The visible objects of VOC classes, from maps (H, W) of kinds, parts and objects."""
    found = []
    voc = VOC_LABELS[kind]
    for number in np.unique(instance[voc > 0]):
        mask = (instance == number) & (voc > 0)
        if mask.mean() >= _VISIBLE:
            label = int(voc[mask][0])
            small = label == VOC["person"] and mask.mean() < _SMALL
            found.append(VocObject(label, mask, {} if small else _parts(np.where(mask, part, 0))))
    return found


def _parts(part: np.ndarray) -> dict[str, np.ndarray]:
    masks = {PARTS[number]: part == number for number in np.unique(part[part > 0])}
    if "head" in masks:
        masks["head"] = np.any([masks[name] for name in ("head", *_FEATURES) if name in masks], axis=0)
    return masks


def _with_void(voc: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """Set a band along the outlines of objects of VOC classes to 255."""
    which = np.where(voc > 0, instance, 0).astype(np.uint16)
    width = max(2, round(_VOID * max(voc.shape)))
    band = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)) if width > 2 else np.ones((2, 2), np.uint8)
    outline = cv2.dilate(which, band) != cv2.erode(which, band)
    return np.where(outline, np.uint8(255), voc)


def saliency(objects: list[VocObject], size: tuple[int, int]) -> np.ndarray:
    """Weights (H, W) uint8 of objects, 255 for the heaviest; the size of an object is the root of its area."""
    result = np.zeros(size, np.uint8)
    weights = [_weight(one) for one in objects]
    for one, weight in zip(objects, weights, strict=True):
        result[one.mask] = round(255 * weight / max(weights))
    return result


def _weight(one: VocObject) -> float:
    centre = np.argwhere(one.mask).mean(0) / one.mask.shape - 0.5
    away = float(np.linalg.norm(centre)) / np.sqrt(0.5)  # 1 in a corner
    alive = _ALIVE if one.voc in (VOC["person"], VOC["cat"], VOC["dog"]) else 1.0
    return alive * float(np.sqrt(one.mask.mean()) * np.exp(-((away / _CENTRAL) ** 2)))
