"""From a room's number to its image and labels.

Camera frame of the normals: x to the right of the image, y up, z towards the camera (channels 0, 1, 2).
"""

from dataclasses import dataclass

import numpy as np

from atrc_exp.rooms.plans.classes import NYUD_LABELS
from atrc_exp.rooms.plans.furnish import furnish
from atrc_exp.rooms.plans.room import Room
from atrc_exp.rooms.render.camera import choose_camera
from atrc_exp.rooms.render.embree import Tracer
from atrc_exp.rooms.render.geometry import assemble
from atrc_exp.rooms.render.shading import LIFT, Surfels, albedo, direct_light, openness, smooth, surfels
from atrc_exp.rooms.render.vectors import dot, fraction

_LARGE = 100_000  # pixels of an image from which on only its outlines are supersampled
_CREASE = np.cos(np.deg2rad(40.0))  # normals that differ by more make a boundary within one object
_STEP = 0.05  # step in depth within one object, as a share of the depth, that makes a boundary
_OFFSETS: tuple[tuple[float, float], ...] = (
    (-0.17, -0.33),
    (0.33, -0.17),
    (-0.33, 0.17),
    (0.17, 0.33),
    (-0.4, -0.05),
    (0.4, 0.1),
)  # in pixels


@dataclass(frozen=True)
class RoomSample:
    """One room seen once; all labels are exact.

    image (H, W, 3) uint8 RGB; semseg (H, W) uint8, 1 to 40, 0 = unlabelled; depth (H, W) float32, metres
    along the optical axis; normals (H, W, 3) float32 unit vectors, x right, y up, z towards the camera;
    edge (H, W) bool, boundaries one pixel wide.
    """

    image: np.ndarray
    semseg: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    edge: np.ndarray


_NEIGHBOURS = (
    (np.s_[..., :, :-1], np.s_[..., :, 1:]),
    (np.s_[..., :-1, :], np.s_[..., 1:, :]),
)  # right, lower


def boundaries(
    instance: np.ndarray, surface: np.ndarray, narrow: np.ndarray, normals: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Pixels (H, W) whose right or lower neighbour belongs to another object, lies beyond a crease or a step.

    instance, surface (H, W) ids; narrow (H, W), faces without creases; normals (3, H, W); points (3, H, W),
    metres with the camera at the origin.
    """
    edge = np.zeros(instance.shape, bool)
    for here, there in _NEIGHBOURS:
        crease = (surface[here] != surface[there]) & ~(narrow[here] | narrow[there])
        crease &= dot(normals[here], normals[there]) < _CREASE
        way, near = points[there] - points[here], np.minimum(-points[here][2], -points[there][2])
        step = np.maximum(np.abs(dot(way, normals[here])), np.abs(dot(way, normals[there])))
        edge[here] |= (instance[here] != instance[there]) | crease | (step > _STEP * near)
    return edge


class View:
    """One room seen by its camera at one image size (H, W): from rays to surfaces, light and colour."""

    def __init__(self, room: Room, rng: np.random.Generator, size: tuple[int, int], portrait: bool = False) -> None:
        self.size, self.lights = size, room.lights
        self.geometry = assemble(room.pieces)
        self.tracer = Tracer(self.geometry.corners)
        self.camera = choose_camera(rng, room, self.geometry, self.tracer, portrait)
        self.pixel = 2 * self.camera.half_width / size[1]
        area = 2 * (room.width * room.depth + (room.width + room.depth) * room.height)
        flux = np.sum([light.power * (np.pi if light.normal is not None else 4 * np.pi) for light in room.lights], 0)
        # what one diffuse bounce off walls that reflect about half spreads over the whole room
        self.ambient = (0.5 * flux / area).astype(np.float32)[:, None]
        self.at = self.hit(self.camera.pixel_rays(size))
        self.irradiance = self._irradiance()
        self.white = 1.2 * float(np.median(self.irradiance[:, ::5].mean(0)))

    def map(self, values: np.ndarray) -> np.ndarray:
        """Per-pixel values (..., H * W) as (..., H, W)."""
        return values.reshape(*values.shape[:-1], *self.size)

    def hit(self, rays: np.ndarray) -> Surfels:
        """What world directions (3, N) from the camera meet first."""
        return surfels(self.geometry, self.camera.origin, rays, self.tracer.first_hits(self.camera.origin, rays))

    def direct(self, at: Surfels, jitter: np.ndarray) -> np.ndarray:
        """Light (3, N) that reaches surfels from the lamps and windows; `jitter` as in `direct_light`."""
        return direct_light(self.tracer, self.lights, at, jitter, least=0.03 * float(self.ambient.mean()))

    def _irradiance(self) -> np.ndarray:
        """Light on each pixel's surface (3, H * W), smoothed over the surface.

        In large images every other pixel is traced, like the white squares of a chessboard, and those without
        a neighbour on their surface; the others take the mean of what surrounds them on their surface.
        """
        h, w = self.size
        surface = self.map(self.geometry.surface[self.at.triangle])
        row, column = np.indices(self.size)
        if h * w < _LARGE:
            which, samples, radius = np.arange(h * w), int(np.clip(_LARGE // (h * w), 2, 6)), 1
        else:
            alone = np.ones(self.size, bool)
            for here, there in _NEIGHBOURS:
                same = surface[here] == surface[there]
                alone[here] &= ~same
                alone[there] &= ~same
            which, samples, radius = np.flatnonzero(((row + column) % 2 == 0) | alone), 1, 2
        place = np.stack([row.ravel(), column.ravel()])[:, which].astype(np.float32)
        total = np.zeros((4, h * w), np.float32)  # light and the number of traced pixels
        total[:3, which] = self._traced(self.at.take(which), place, samples)
        total[3, which] = 1
        total = smooth(self.map(total), surface, radius).reshape(4, -1)
        return total[:3] / total[3]

    def _traced(self, at: Surfels, place: np.ndarray, samples: int) -> np.ndarray:
        """Light (3, N) on the surfels of pixels at `place` (2, N), the mean of some samples."""
        total = np.zeros_like(at.point)
        sky = self.ambient * (0.75 + 0.25 * at.normal[2])
        # an additive recurrence over the pixels: every small neighbourhood samples the lights evenly
        start = np.stack([place[0] * a + place[1] * b for a, b in ((0.7548777, 0.5698403), (0.2887, 0.618034))])
        for number in range(samples):
            jitter = fraction(start + np.float32(0.4343 * number))
            total += self.direct(at, jitter)
            total += (0.25 + 0.75 * openness(self.tracer, at, fraction(jitter + np.float32(0.5)))) * sky
        return total / samples

    def colour(self, at: Surfels, irradiance: np.ndarray) -> np.ndarray:
        """Linear colour (3, N) of what is hit under irradiance (3, N), with mirror images."""
        radiance = self._diffuse(at, irradiance)
        table, material = self.geometry.materials, self.geometry.material[at.triangle]
        length = np.sqrt(dot(at.direction, at.direction))
        cosine = -dot(at.normal, at.direction) / length
        grazing = (1 - cosine) ** 2
        polish = table.sheen[material] * (0.06 + 0.9 * grazing * grazing)
        share = np.maximum(table.mirror[material], polish)
        which = np.flatnonzero(share > 0.04)
        normal, ray, share = at.normal.take(which, 1), (at.direction / length).take(which, 1), share[which]
        start, ray = at.point.take(which, 1) + LIFT * normal, ray + 2 * cosine[which] * normal
        seen = surfels(self.geometry, start, ray, self.tracer.first_hits(start, ray))
        centre = np.full((2, len(which)), 0.5, np.float32)
        image = self._diffuse(seen, self.direct(seen, centre) + 0.8 * self.ambient)
        radiance[:, which] += share * (image - radiance[:, which])
        return radiance

    def _diffuse(self, at: Surfels, irradiance: np.ndarray) -> np.ndarray:
        """As `colour` without mirror images; lamps, screens and windows glow by themselves."""
        glow = self.geometry.materials.glow[self.geometry.material[at.triangle]]
        return albedo(self.geometry, at, self.pixel) * np.where(glow > 0, glow * self.white, irradiance)

    def image(self) -> np.ndarray:
        """Linear colour (3, H, W): one sample a pixel, several on outlines and in small images."""
        result = self.colour(self.at, self.irradiance)
        surface = self.map(self.geometry.surface[self.at.triangle])
        if surface.size < _LARGE:
            which, offsets = np.arange(surface.size), _OFFSETS
        else:
            outline = np.zeros(self.size, bool)
            for here, there in _NEIGHBOURS:
                changes = surface[here] != surface[there]
                outline[here] |= changes
                outline[there] |= changes
            which, offsets = np.flatnonzero(outline), _OFFSETS[:3]
        for offset in offsets:
            result[:, which] += self._off_centre(which, offset)
        result[:, which] /= 1 + len(offsets)
        return self.map(result)

    def _off_centre(self, which: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
        """Colour (3, N) at an offset (row, column) in pixels from the centres of some pixels.

        Its irradiance is that of the same surface at the nearest pixels towards the offset.
        """
        h, w = self.size
        row, column = which // w, which % w
        at = self.hit(self.camera.rays(self.size, row + 0.5 + offset[0], column + 0.5 + offset[1]))
        surface = self.geometry.surface[at.triangle]
        down, right = (
            np.clip(row + np.sign(offset[0]), 0, h - 1),
            np.clip(column + np.sign(offset[1]), 0, w - 1),
        )
        source = which.copy()
        for neighbour in (down * w + right, row * w + right, down * w + column, which):
            neighbour = neighbour.astype(which.dtype)
            same = self.geometry.surface[self.at.triangle[neighbour]] == surface
            source[same] = neighbour[same]
        return self.colour(at, self.irradiance.take(source, 1))


def develop(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear colour (3, H, W) to uint8 (H, W, 3): white balance, vignette, exposure, tone curve, noise."""
    _, h, w = radiance.shape
    balance = (1 + rng.normal(0, 0.035, 3)).astype(np.float32)[:, None, None]
    row, column = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    light = radiance * balance * (1 - np.float32(rng.uniform(0.02, 0.1)) * (row**2 + column**2))
    grey = light.mean(0)[::2, ::3]
    exposure = rng.uniform(0.32, 0.5) / float(np.median(grey))
    light *= min(exposure, 2.2 / float(np.percentile(grey, 92)))  # the tone curve reaches white at 2.45
    light = light * (1 + light / 6) / (1 + light)
    noise = np.float32(rng.uniform(1.0, 3.5)) * rng.standard_normal(radiance.shape, np.float32)
    developed = np.clip(255 * np.sqrt(light) + noise, 0, 255)  # gamma 2: a root is ten times cheaper than a power
    return np.ascontiguousarray(np.rint(developed).astype(np.uint8).transpose(1, 2, 0))


def render_room(seed: int, index: int, image_size: tuple[int, int]) -> RoomSample:
    """Build, light and photograph room `index` of `seed` at (H, W) pixels: a pure function of its arguments.

    The room and the view do not depend on the size.
    """
    rng = np.random.default_rng([seed, index])
    view = View(furnish(rng), rng, image_size)
    geometry, at = view.geometry, view.at
    normals = view.map(view.camera.turned(at.normal))
    points = view.map(view.camera.turned(at.point - view.camera.origin))
    ids = (geometry.instance, geometry.surface, geometry.narrow)
    instance, surface, narrow = (view.map(values[at.triangle]) for values in ids)
    return RoomSample(
        image=develop(view.image(), np.random.default_rng([seed, index, *image_size])),
        semseg=view.map(NYUD_LABELS[geometry.kind[at.triangle]]),
        depth=view.map(at.distance),
        normals=np.ascontiguousarray(normals.transpose(1, 2, 0)),
        edge=boundaries(instance, surface, narrow, normals, points),
    )
