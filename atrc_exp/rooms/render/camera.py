"""The camera: a pinhole with the field of view of the Kinect, held at eye height, pointed at furniture."""

from dataclasses import dataclass

import numpy as np

from atrc_exp.rooms.plans.classes import NUMBERS, NYUD_LABELS, STORED, VOC_LABELS
from atrc_exp.rooms.plans.room import Room
from atrc_exp.rooms.render.embree import Tracer
from atrc_exp.rooms.render.geometry import Geometry
from atrc_exp.rooms.render.vectors import cross, dot

_HALF_WIDTH = float(np.tan(np.deg2rad(57.0 / 2)))  # of a landscape image
NEAREST = 0.7  # metres; nearer views are refused
_PROBE = (18, 24)  # rays for judging a view; the same for every image size, so that a room has one view
_ALIVE = [NUMBERS[name] for name in ("person", "cat", "dog")]
_BARE = [STORED[name] for name in ("wall", "ceiling", "floor", "door")]


@dataclass(frozen=True)
class Camera:
    """Position (3,) in the world and axes (3, 3), whose rows are right, up and backwards.

    `half_width` is half the image's width at distance 1.
    """

    position: np.ndarray
    axes: np.ndarray
    half_width: float

    def rays(self, size: tuple[int, int], row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """World directions (3, N) float32 through image points in pixels, of length 1 along the optical axis.

        The ray parameter of a hit is therefore its z-depth. `size` is (H, W); pixel centres are at + 0.5.
        """
        pitch = 2 * self.half_width / size[1]
        right, up, back = self.axes[:, :, None].astype(np.float32)
        x, y = (
            ((column - size[1] / 2) * pitch).astype(np.float32),
            ((size[0] / 2 - row) * pitch).astype(np.float32),
        )
        return x * right + y * up - back

    def pixel_rays(self, size: tuple[int, int]) -> np.ndarray:
        """Directions through all pixel centres, (3, H * W)."""
        row, column = np.indices(size) + 0.5
        return self.rays(size, row.ravel(), column.ravel())

    @property
    def origin(self) -> np.ndarray:
        """The position as (3, 1) float32."""
        return self.position.astype(np.float32)[:, None]

    def turned(self, vectors: np.ndarray) -> np.ndarray:
        """World vectors (3, N) in the camera's axes."""
        right, up, back = self.axes.astype(np.float32)
        return np.stack([dot(vectors, right), dot(vectors, up), dot(vectors, back)])


def _look(position: np.ndarray, target: np.ndarray, roll: float, half_width: float) -> Camera:
    back = position - target
    back /= np.linalg.norm(back)
    right = cross(np.array([0.0, 0.0, 1.0]), back)
    right /= np.linalg.norm(right)
    up = cross(back, right)
    c, s = np.cos(roll), np.sin(roll)
    return Camera(position, np.stack([c * right + s * up, c * up - s * right, back]), half_width)


def _score(camera: Camera, probe: tuple[int, int], geometry: Geometry, tracer: Tracer, populated: bool) -> float:
    """Higher for views with many objects of many classes; below zero for views too close to something.

    In populated rooms people, animals and the classes of VOC count most.
    """
    rays = camera.pixel_rays(probe)
    hits = tracer.first_hits(camera.origin, rays)
    if (hits.triangle < 0).any() or hits.distance.min() < NEAREST:
        return float(np.minimum(hits.distance.min(), NEAREST)) - NEAREST
    labels = NYUD_LABELS[geometry.kind[hits.triangle]]
    classes = (np.bincount(labels, minlength=41) >= 2).sum()
    objects = (np.bincount(geometry.instance[hits.triangle]) >= 2).sum()
    bare = np.isin(labels, _BARE).mean()
    wide = min(float(np.median(hits.distance)), 3.5)
    score = float(classes + 0.3 * objects + 2.5 * wide - 16 * max(0.0, bare - 0.35))
    if populated:
        kinds = geometry.kind[hits.triangle]
        alive = float(np.isin(kinds, _ALIVE).mean())
        score += 50 * min(alive, 0.16) - 40 * max(0.0, alive - 0.3)
        score += 2.0 * float((np.bincount(VOC_LABELS[kinds])[1:] >= 3).sum())
    return score


def choose_camera(
    rng: np.random.Generator, room: Room, geometry: Geometry, tracer: Tracer, portrait: bool = False
) -> Camera:
    """The best of several random views from near the walls into the room, mostly towards its subjects if it has any.

    The longer side of the image, of 4:3 in portrait, sees 57 degrees.
    """
    half_width, probe = (0.75 * _HALF_WIDTH, _PROBE[::-1]) if portrait else (_HALF_WIDTH, _PROBE)
    best, best_score, tries = None, -np.inf, 0
    size = np.array([room.width, room.depth])
    while best is None or tries < 20 or (best_score < 0 and tries < 80):
        tries += 1
        ring = np.where(rng.random(2) < 0.5, rng.uniform(0.08, 0.3, 2), rng.uniform(0.7, 0.92, 2))
        if rng.random() < 0.5:
            ring[rng.integers(2)] = rng.uniform(0.1, 0.9)
        position = np.array([*(ring * size), rng.uniform(1.2, 1.65)])
        target = np.array([*(rng.uniform(0.15, 0.85, 2) * size), 0.0])
        distance = np.hypot(*(target - position)[:2])
        if distance < 0.4 * size.min():
            continue
        target[2] = position[2] + distance * np.tan(np.deg2rad(rng.uniform(-24.0, 2.0)))
        if room.subjects and rng.random() < 0.75:
            target = room.subjects[rng.integers(len(room.subjects))] + rng.normal(0, 0.25, 3)
        camera = _look(position, target, rng.normal(0, 0.015), half_width)
        score = _score(camera, probe, geometry, tracer, room.populated)
        if score > best_score:
            best, best_score = camera, score
    return best
