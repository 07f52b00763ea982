"""Light on surfaces: texture colour, direct light with soft shadows, and occlusion of the ambient light.

Vectors are stored as (3, N): arithmetic on long rows is several times faster in numpy than on rows of three.
"""

from dataclasses import dataclass, fields

import numpy as np

from atrc_exp.rooms.plans.scene import Light
from atrc_exp.rooms.render.embree import Hits, Tracer
from atrc_exp.rooms.render.geometry import Geometry
from atrc_exp.rooms.render.textures import sample
from atrc_exp.rooms.render.vectors import dot, fraction

LIFT = 2e-3  # metres between a surface and the start of a ray that leaves it
_SOFTENING = 0.4  # square metres added to squared distances: no burnt spots beside lamps


@dataclass(frozen=True)
class Surfels:
    """What N rays hit: triangle, distance (N,), world point, normal, ray direction (3, N), uv (2, N).

    Normals have unit length and face the ray's origin.
    """

    triangle: np.ndarray
    distance: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    direction: np.ndarray
    uv: np.ndarray

    def take(self, which: np.ndarray) -> "Surfels":
        """Those at the given positions."""
        return Surfels(*(getattr(self, field.name).take(which, -1) for field in fields(self)))


def surfels(geometry: Geometry, origin: np.ndarray, direction: np.ndarray, hits: Hits) -> Surfels:
    """Interpolate the triangles' attributes at first hits; misses take triangle 0's."""
    triangle = np.maximum(hits.triangle, 0)
    normal = _interpolate(geometry.normals, triangle, hits)
    normal /= np.sqrt(dot(normal, normal))
    flat = geometry.flat.take(triangle, 1)
    flat *= -np.sign(dot(flat, direction))
    normal *= np.where(dot(normal, flat) < 0, np.float32(-1), np.float32(1))
    # smooth normals may point away from the viewer at the rim of a body
    away = np.flatnonzero(dot(normal, direction) > -1e-3)
    normal[:, away] = flat[:, away]
    uv = _interpolate(geometry.uv, triangle, hits)
    return Surfels(triangle, hits.distance, origin + direction * hits.distance, normal, direction, uv)


def _interpolate(corners: np.ndarray, triangle: np.ndarray, hits: Hits) -> np.ndarray:
    """Barycentric interpolation of corner values (3, D, F) at hits; (D, N)."""
    first, second, third = (corner.take(triangle, 1) for corner in corners)
    return first + (second - first) * hits.u + (third - first) * hits.v


def albedo(geometry: Geometry, at: Surfels, pixel: float) -> np.ndarray:
    """Linear colour (3, N) of the texture; `pixel` is a pixel's width in metres at distance 1."""
    table, material = geometry.materials, geometry.material.take(at.triangle)
    turned = table.turned[material]
    size = table.size.take(material, 1)
    uv = np.where(turned, at.uv[::-1], at.uv) / size + table.offset.take(material, 1)
    facing = np.maximum(-dot(at.normal, at.direction), 0.1)
    footprint = pixel * at.distance / np.sqrt(facing) / np.minimum(size[0], size[1])
    mix, extra, brightness = sample(table.family[material], uv, footprint)
    first, second, third = (colour.take(material, 1) for colour in table.colours)
    base = first + (second - first) * mix
    return (base + (third - base) * extra) * brightness


def _from_light(light: Light, at: Surfels, jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (3, N) to jittered points of the light, and the irradiance without shadows (N,)."""
    place, across, along = (v.astype(np.float32)[:, None] for v in (light.position, light.across, light.along))
    path = place + (2 * jitter[0] - 1) * across + (2 * jitter[1] - 1) * along - at.point
    square = dot(path, path)
    inverse = 1 / np.sqrt(square)
    strength = np.maximum(dot(path, at.normal), 0) * inverse / (square + np.float32(_SOFTENING))
    if light.normal is not None:
        strength *= np.maximum(-dot(path, light.normal.astype(np.float32)), 0) * inverse
    return path, strength


def direct_light(tracer: Tracer, lights: list[Light], at: Surfels, jitter: np.ndarray, least: float) -> np.ndarray:
    """Irradiance (3, N) from all lights; `jitter` (2, N) in [0, 1] picks the point of each light.

    A light that gives a point less than `least` is not traced and gives it nothing.
    """
    total = np.zeros_like(at.point)
    start = at.point + LIFT * at.normal
    for number, light in enumerate(lights):
        path, strength = _from_light(light, at, fraction(jitter + np.float32(0.37 * number)))
        lit = np.flatnonzero(strength > least / light.power.max())
        lit = lit[~tracer.occluded(start.take(lit, 1), np.float32(0.98) * path.take(lit, 1))]
        seen = np.zeros_like(strength)
        seen[lit] = strength[lit]
        total += seen * light.power.astype(np.float32)[:, None]
    return total


def openness(tracer: Tracer, at: Surfels, jitter: np.ndarray, reach: float = 0.9) -> np.ndarray:
    """1 where a cosine-distributed ray of length `reach` metres leaves the surface freely, else 0; (N,)."""
    angle, z = np.float32(2 * np.pi) * jitter[0], 1 - 2 * jitter[1]
    ring = np.sqrt(1 - z * z)
    # the normal plus a point of the unit sphere is cosine-distributed about the normal
    direction = np.stack([ring * np.cos(angle), ring * np.sin(angle), z]) + np.float32(1.001) * at.normal
    direction *= reach / np.sqrt(dot(direction, direction))
    return (~tracer.occluded(at.point + LIFT * at.normal, direction)).astype(np.float32)


def smooth(values: np.ndarray, surface: np.ndarray, radius: int) -> np.ndarray:
    """Sums of (C, H, W) values over windows of 2 * radius + 1 pixels, within each surface (H, W)."""
    for axis in (0, 1):
        total = values.copy()
        for step in range(1, radius + 1):
            here = np.s_[step:, :] if axis == 0 else np.s_[:, step:]
            there = np.s_[:-step, :] if axis == 0 else np.s_[:, :-step]
            same = (surface[here] == surface[there]).astype(np.float32)
            for channel, source in zip(total, values, strict=True):
                channel[here] += same * source[there]
                channel[there] += same * source[here]
        values = total
    return values
