"""Light on surfaces: texture colour, direct light with soft shadows, ambient light with occlusion, reflections."""

from dataclasses import dataclass

import numpy as np

from atrc_exp.data.rooms.embree import Hits, Tracer
from atrc_exp.data.rooms.scene import Geometry, Light
from atrc_exp.data.rooms.textures import sample

_LIFT = 2e-3  # metres between a surface and the start of a ray that leaves it
_SOFTENING = 0.4  # square metres added to squared distances: no burnt spots beside lamps


@dataclass(frozen=True)
class Surfels:
    """What N rays hit: triangle (N,), point, shading normal and ray direction (N, 3) in the world, texture uv (N, 2).

    Normals have unit length and face the ray's origin.
    """

    triangle: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    direction: np.ndarray
    uv: np.ndarray
    distance: np.ndarray


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", a, b)


def surfels(geometry: Geometry, origin: np.ndarray, direction: np.ndarray, hits: Hits) -> Surfels:
    """Interpolate the triangles' attributes at first hits; misses take triangle 0's."""
    triangle = np.maximum(hits.triangle, 0)
    weights = np.stack([1 - hits.u - hits.v, hits.u, hits.v], -1)
    normal = np.einsum("nk,nkd->nd", weights, geometry.normals[triangle])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    flat = geometry.flat[triangle]
    flat = np.where(_dot(flat, direction)[:, None] > 0, -flat, flat)
    normal *= np.where(_dot(normal, flat)[:, None] < 0, np.float32(-1), np.float32(1))
    away = _dot(normal, direction) > -1e-3 * np.linalg.norm(direction, axis=-1)
    normal[away] = flat[away]  # smooth normals may point away from the viewer at the rim of a body
    uv = np.einsum("nk,nkd->nd", weights, geometry.uv[triangle])
    point = origin + direction * hits.distance[:, None]
    return Surfels(triangle, point, normal, direction, uv, hits.distance)


def albedo(geometry: Geometry, at: Surfels, pixel: float) -> np.ndarray:
    """Linear colour (N, 3) of the texture; `pixel` is a pixel's width in metres at distance 1."""
    table, material = geometry.materials, geometry.material[at.triangle]
    size = table.size[material]
    uv = np.where(table.turned[material][:, None], at.uv[:, ::-1], at.uv) / size + table.offset[material]
    facing = np.maximum(-_dot(at.normal, at.direction), 0.1)
    footprint = pixel * at.distance / np.sqrt(facing) / size.min(1)
    mix, extra, brightness = sample(table.family[material], uv, footprint).T[..., None]
    colours = table.colours[material]
    base = colours[:, 0] + (colours[:, 1] - colours[:, 0]) * mix
    return (base + (colours[:, 2] - base) * extra) * brightness


def _from_light(light: Light, at: Surfels, jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (N, 3) to jittered points of the light, and the cosine-weighted irradiance without shadows (N,)."""
    spot = light.position + (2 * jitter[:, :1] - 1) * light.across + (2 * jitter[:, 1:] - 1) * light.along
    path = (spot - at.point).astype(np.float32)
    square = _dot(path, path)
    cosine = _dot(path, at.normal)
    if light.normal is not None:
        cosine = (
            np.maximum(cosine, 0) * np.maximum(-(path @ light.normal.astype(np.float32)), 0) / np.sqrt(square)
        )
    return path, np.maximum(cosine, 0) / np.sqrt(square) / (square + _SOFTENING)


def direct_light(tracer: Tracer, lights: list[Light], at: Surfels, jitter: np.ndarray) -> np.ndarray:
    """Irradiance (N, 3) from all lights; `jitter` (N, 2) in [0, 1] picks the point of each light."""
    total = np.zeros_like(at.point)
    start = at.point + _LIFT * at.normal
    for number, light in enumerate(lights):
        path, strength = _from_light(light, at, (jitter + 0.37 * number) % 1.0)
        lit = np.flatnonzero(strength > 1e-3)
        shadow = tracer.occluded(start[lit], 0.98 * path[lit])
        lit = lit[~shadow]
        total[lit] += strength[lit, None] * light.power.astype(np.float32)
    return total


def openness(tracer: Tracer, at: Surfels, jitter: np.ndarray, reach: float = 0.9) -> np.ndarray:
    """1 where a cosine-distributed ray of length `reach` metres leaves the surface freely, else 0; (N,) float32."""
    angle = 2 * np.pi * jitter[:, 0]
    sphere_z = 1 - 2 * jitter[:, 1]
    ring = np.sqrt(np.maximum(1 - sphere_z**2, 0))
    sphere = np.stack([ring * np.cos(angle), ring * np.sin(angle), sphere_z], -1)
    direction = at.normal * 1.001 + sphere  # normal + uniform sphere is cosine-distributed
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    blocked = tracer.occluded(at.point + _LIFT * at.normal, (reach * direction).astype(np.float32))
    return (~blocked).astype(np.float32)


def smooth(values: np.ndarray, surface: np.ndarray, radius: int) -> np.ndarray:
    """Box filter of (H, W, C) values in rows, then columns, over pixels of the same surface (H, W) only."""
    for axis in (0, 1):
        total, count = values.copy(), np.ones((*surface.shape, 1), np.float32)
        for step in range(1, radius + 1):
            here = (slice(step, None), slice(None)) if axis == 0 else (slice(None), slice(step, None))
            there = (slice(None, -step), slice(None)) if axis == 0 else (slice(None), slice(None, -step))
            same = (surface[here] == surface[there])[..., None].astype(np.float32)
            total[here] += same * values[there]
            total[there] += same * values[here]
            count[here] += same
            count[there] += same
        values = total / count
    return values
