"""The camera: a pinhole with the field of view of the Kinect, held at eye height and pointed at the furniture."""

from dataclasses import dataclass

import numpy as np

from atrc_exp.data.rooms.classes import STORED
from atrc_exp.data.rooms.embree import Tracer
from atrc_exp.data.rooms.scene import Geometry, Room

HALF_WIDTH = np.tan(np.deg2rad(57.0 / 2))  # half the image width at depth 1
NEAREST = 0.7  # metres; nearer views are refused
_PROBE = (18, 24)  # rays for judging a view; the same for every image size, so that a room has one view
_SHELL = [STORED["wall"], STORED["ceiling"], STORED["floor"]]


@dataclass(frozen=True)
class Camera:
    """Position (3,) in the world and axes (3, 3), whose rows are right, up and backwards."""

    position: np.ndarray
    axes: np.ndarray

    def rays(self, size: tuple[int, int], row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """World directions (N, 3) float32 through image points in pixels, of length 1 along the optical axis.

        The ray parameter of a hit is therefore its z-depth. `size` is (H, W); pixel centres are at + 0.5.
        """
        pitch = 2 * HALF_WIDTH / size[1]
        x, y = (column - size[1] / 2) * pitch, (size[0] / 2 - row) * pitch
        local = np.stack([x, y, np.full_like(x, -1.0)], -1).astype(np.float32)
        return local @ self.axes.astype(np.float32)

    def pixel_rays(self, size: tuple[int, int]) -> np.ndarray:
        """Directions through all pixel centres, (H * W, 3)."""
        row, column = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
        return self.rays(size, row.ravel(), column.ravel())


def _look(position: np.ndarray, target: np.ndarray, roll: float) -> Camera:
    back = position - target
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    c, s = np.cos(roll), np.sin(roll)
    return Camera(position, np.stack([c * right + s * up, c * up - s * right, back]))


def _score(camera: Camera, geometry: Geometry, tracer: Tracer) -> float:
    """Higher for views with many objects of many classes; below zero for views that are too close to something."""
    rays = camera.pixel_rays(_PROBE)
    hits = tracer.first_hits(np.broadcast_to(camera.position.astype(np.float32), rays.shape).copy(), rays)
    if (hits.triangle < 0).any() or hits.distance.min() < NEAREST:
        return float(np.minimum(hits.distance.min(), NEAREST)) - NEAREST
    labels = geometry.label[hits.triangle]
    classes = (np.bincount(labels, minlength=41) >= 2).sum()
    objects = (np.bincount(geometry.instance[hits.triangle]) >= 2).sum()
    bare = np.isin(labels, _SHELL).mean()
    return float(classes + 0.3 * objects - 12 * max(0.0, bare - 0.55))


def choose_camera(rng: np.random.Generator, room: Room, geometry: Geometry, tracer: Tracer) -> Camera:
    """The best of several random views from within the room."""
    best, best_score, tries = None, -np.inf, 0
    size = np.array([room.width, room.depth])
    while tries < 12 or (best_score < 0 and tries < 80):
        tries += 1
        position = np.array([*(rng.uniform(0.12, 0.88, 2) * size), rng.uniform(1.2, 1.65)])
        target = np.array([*(rng.uniform(0.1, 0.9, 2) * size), rng.uniform(0.35, 1.1)])
        if np.hypot(*(target - position)[:2]) < 0.35 * size.min():
            continue
        camera = _look(position, target, rng.normal(0, 0.015))
        score = _score(camera, geometry, tracer)
        if score > best_score:
            best, best_score = camera, score
    assert best is not None
    return best
