"""From a room's number to its image and labels.

Camera frame of the normals: x to the right of the image, y up, z towards the camera (channels 0, 1, 2).
"""

from dataclasses import dataclass

import numpy as np

from atrc_exp.data.rooms.camera import HALF_WIDTH, Camera, choose_camera
from atrc_exp.data.rooms.embree import Tracer
from atrc_exp.data.rooms.plans import furnish
from atrc_exp.data.rooms.scene import Geometry, Room
from atrc_exp.data.rooms.shading import Surfels, albedo, direct_light, openness, smooth, surfels

_FULL_SIZE = 120_000  # pixels from which on one light sample a pixel is enough
_CREASE = np.cos(
    np.deg2rad(40.0)
)  # surfaces of one object meet in a boundary if their normals differ by more
_GAP = 0.05  # step in depth within one object, as a share of the depth, that makes a boundary


@dataclass(frozen=True)
class RoomSample:
    """One room seen once; all labels are exact.

    image (H, W, 3) uint8 RGB; semseg (H, W) uint8, 1 to 40, 0 = unlabelled; depth (H, W) float32, metres along the
    optical axis; normals (H, W, 3) float32 unit vectors (x right, y up, z towards the camera); edge (H, W) bool,
    boundaries one pixel wide.
    """

    image: np.ndarray
    semseg: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    edge: np.ndarray


def boundaries(
    instance: np.ndarray, surface: np.ndarray, normals: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Pixels (H, W) whose right or lower neighbour belongs to another object, lies beyond a crease or a step.

    instance, surface (H, W) ids; normals (H, W, 3); points (H, W, 3), metres with the camera at the origin.
    """
    edge = np.zeros(instance.shape, bool)
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b, way = normals[here], normals[there], points[there] - points[here]
        crease = (surface[here] != surface[there]) & (np.einsum("hwd,hwd->hw", a, b) < _CREASE)
        step = np.maximum(np.abs(np.einsum("hwd,hwd->hw", way, a)), np.abs(np.einsum("hwd,hwd->hw", way, b)))
        near = np.minimum(np.abs(points[here][..., 2]), np.abs(points[there][..., 2]))
        edge[here] |= (instance[here] != instance[there]) | crease | (step > _GAP * near)
    return edge


class _View:
    """One room seen by its camera: rays to surfaces, light and colour."""

    def __init__(self, room: Room, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.room, self.size = room, size
        self.geometry: Geometry = room.geometry()
        self.tracer = Tracer(self.geometry.corners)
        self.camera: Camera = choose_camera(rng, room, self.geometry, self.tracer)
        self.pixel = 2 * HALF_WIDTH / size[1]
        share = 4 * np.pi * 0.5 / (2 * (room.width * room.depth + (room.width + room.depth) * room.height))
        self.ambient = (
            sum(light.power * (0.4 if light.normal is not None else 1.0) for light in room.lights) * share
        )

    def hit(self, rays: np.ndarray) -> Surfels:
        origin = np.broadcast_to(self.camera.position.astype(np.float32), rays.shape).copy()
        return surfels(self.geometry, origin, rays, self.tracer.first_hits(origin, rays))

    def light(self, at: Surfels) -> np.ndarray:
        """Irradiance (H, W, 3), smoothed over each surface."""
        h, w = self.size
        samples = int(np.clip(_FULL_SIZE // (h * w), 1, 8))
        row, column = (index.ravel() for index in np.indices(self.size))
        total = np.zeros_like(at.point)
        upward = 0.75 + 0.25 * at.normal[:, 2:]
        for number in range(samples):
            # an additive recurrence over the pixels: every 5 x 5 neighbourhood samples the lights evenly
            jitter = (
                np.stack(
                    [
                        row * 0.7548777 + column * 0.5698403 + 0.4343 * number,
                        row * 0.2887 + column * 0.6180340 + 0.7071 * number,
                    ],
                    -1,
                ).astype(np.float32)
                % 1.0
            )
            total += direct_light(self.tracer, self.room.lights, at, jitter)
            free = openness(self.tracer, at, (jitter + 0.5) % 1.0)
            total += (0.25 + 0.75 * free[:, None]) * upward * self.ambient.astype(np.float32)
        surface = self.geometry.surface[at.triangle].reshape(h, w)
        return smooth((total / samples).reshape(h, w, 3), surface, 2 if samples == 1 else 1)

    def reflect(self, at: Surfels, radiance: np.ndarray) -> None:
        """Blend mirror images into the radiance (N, 3) of mirrors, and of polished surfaces seen at a low angle."""
        table, material = self.geometry.materials, self.geometry.material[at.triangle]
        length = np.linalg.norm(at.direction, axis=-1)
        cosine = -np.einsum("nd,nd->n", at.normal, at.direction) / length
        share = table.mirror[material] + (table.sheen[material] * (0.1 + 0.9 * (1 - cosine) ** 5)) * (
            table.mirror[material] == 0
        )
        which = np.flatnonzero(share > 0.035)
        if not len(which):
            return
        normal, ray = at.normal[which], at.direction[which] / length[which, None]
        bounced = ray + 2 * cosine[which, None] * normal
        start = at.point[which] + 2e-3 * normal
        seen = surfels(self.geometry, start, bounced, self.tracer.first_hits(start, bounced))
        lit = (
            direct_light(self.tracer, self.room.lights, seen, np.full((len(which), 2), 0.5, np.float32))
            + self.ambient.astype(np.float32) * 0.8
        )
        radiance[which] *= 1 - share[which, None]
        radiance[which] += share[which, None] * self.radiance(seen, lit)

    def radiance(self, at: Surfels, light: np.ndarray) -> np.ndarray:
        """Linear colour (N, 3) of what is hit under irradiance (N, 3); lamps, screens and windows glow by themselves."""
        glow = self.geometry.materials.glow[self.geometry.material[at.triangle]][:, None]
        return albedo(self.geometry, at, self.pixel) * (light * (glow == 0) + glow * self.white)

    white = 1.0


def _develop(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, white balance, vignetting, tone curve and sensor noise; uint8 (H, W, 3)."""
    h, w, _ = radiance.shape
    balance = 1 + rng.normal(0, 0.035, 3)
    row, column = np.linspace(-1, 1, h)[:, None, None], np.linspace(-1, 1, w)[None, :, None]
    light = radiance * (balance * (1 - rng.uniform(0.02, 0.1) * (row**2 + column**2))).astype(np.float32)
    light *= rng.uniform(0.3, 0.5) / np.median(light.mean(-1))
    light = light * (1 + light / 6.0) / (1 + light)
    noise = rng.uniform(1.0, 3.5) * rng.standard_normal(radiance.shape, np.float32)
    return np.clip(255 * light ** np.float32(1 / 2.2) + noise + 0.5, 0, 255).astype(np.uint8)


def render_room(seed: int, index: int, image_size: tuple[int, int]) -> RoomSample:
    """Build, light and photograph room `index` of `seed` at (H, W) pixels; a pure function of its arguments."""
    rng = np.random.default_rng([seed, index])
    view = _View(furnish(rng), rng, image_size)
    h, w = image_size
    at = view.hit(view.camera.pixel_rays(image_size))
    geometry = view.geometry
    light = view.light(at).reshape(-1, 3)
    view.white = 1.2 * float(np.median(light.mean(-1)))
    radiance = view.radiance(at, light)
    view.reflect(at, radiance)
    points = ((at.point - view.camera.position) @ view.camera.axes.T).reshape(h, w, 3)
    normals = (at.normal @ view.camera.axes.T).astype(np.float32).reshape(h, w, 3)
    instance = geometry.instance[at.triangle].reshape(h, w)
    surface = geometry.surface[at.triangle].reshape(h, w)
    return RoomSample(
        image=_develop(radiance.reshape(h, w, 3), np.random.default_rng([seed, index, h, w])),
        semseg=geometry.label[at.triangle].reshape(h, w),
        depth=at.distance.astype(np.float32).reshape(h, w),
        normals=normals,
        edge=boundaries(instance, surface, normals, points),
    )
