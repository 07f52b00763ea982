"""Solids in their own unit frame, made by trimesh once and then stretched, turned and moved into rooms.

A `Template` holds corners and corner normals (F, 3, 3) of F triangles and the surface each is part of: a box
has six surfaces, a cylinder three, a ball one. Curved surfaces carry the normals of the smooth body.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from atrc_exp.rooms.render.embree import trimesh


@dataclass(frozen=True, eq=False)
class Template:
    """Triangles of a solid in its unit frame: corners and corner normals (F, 3, 3), see above."""

    corners: np.ndarray
    normals: np.ndarray
    surface: np.ndarray  # (F,) int32, counted from 0


def _flat_normals(corners: np.ndarray) -> np.ndarray:
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.repeat(normals[:, None], 3, axis=1)


def _smooth(mesh: "trimesh.Trimesh") -> Template:
    return Template(mesh.triangles.copy(), mesh.vertex_normals[mesh.faces], np.zeros(len(mesh.faces), np.int32))


@cache
def box() -> Template:
    """Cube of side 1 about the origin; surfaces -x, +x, -y, +y, -z, +z."""
    corners = trimesh.creation.box().triangles.copy()
    normals = _flat_normals(corners)
    axis = np.abs(normals[:, 0]).argmax(1)
    return Template(corners, normals, (2 * axis + (normals[np.arange(len(axis)), 0, axis] > 0)).astype(np.int32))


@cache
def frustum(top: float = 1.0) -> Template:
    """Upright body of height 1 about the origin, radius 1 below, `top` above; surfaces side, bottom, top."""
    mesh = trimesh.creation.cylinder(radius=1.0, height=1.0, sections=16)
    corners = mesh.triangles.copy()
    flat = _flat_normals(corners)
    surface = np.where(flat[:, 0, 2] > 0.5, 2, np.where(flat[:, 0, 2] < -0.5, 1, 0)).astype(np.int32)
    normals = corners * [1.0, 1.0, 0.0]
    on_axis = np.linalg.norm(normals, axis=-1) < 1e-6
    normals[on_axis] = flat[on_axis]
    normals[..., 2] += 1.0 - top
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[surface > 0] = flat[surface > 0]
    corners[..., :2] *= np.where(corners[..., 2:] > 0, top, 1.0)
    degenerate = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1) < 1e-12
    return Template(corners[~degenerate], normals[~degenerate], surface[~degenerate])


@cache
def ball() -> Template:
    """Sphere of radius 1 about the origin."""
    return _smooth(trimesh.creation.uv_sphere(radius=1.0, count=[9, 16]))


@cache
def capsule(length: float, radius: float) -> Template:
    """Capsule along z about the origin, in metres: `length` between the centres of its two half-spheres."""
    mesh = trimesh.creation.capsule(height=length, radius=radius, count=[6, 10])
    mesh.apply_translation([0.0, 0.0, -mesh.bounds[:, 2].mean()])
    return _smooth(mesh)


@cache
def limb(length: float, taper: float) -> Template:
    """Round cone along z about the origin: a ball of radius 1 below, of radius `taper` above, and what spans them.

    `length` is the distance of the balls' centres.
    """
    angle = np.linspace(-np.pi / 2, 0, 4)
    below = np.stack([np.cos(angle), np.sin(angle) - length / 2], -1)
    above = np.stack([taper * np.cos(angle), length / 2 - taper * np.sin(angle)], -1)[::-1]
    return _smooth(trimesh.creation.revolve(np.concatenate([below, above]), sections=12))


@cache
def cushion(softness: float) -> Template:
    """Superellipsoid that fills [-0.5, 0.5]^3: nearly a box at softness 0.1, a ball at 1."""
    mesh = trimesh.creation.uv_sphere(radius=1.0, count=[13, 20])
    directions = mesh.vertices
    mesh.vertices = 0.5 * np.sign(directions) * np.abs(directions) ** softness
    return _smooth(mesh)


@cache
def sheet(folds: int, columns: int = 7) -> Template:
    """Hanging cloth in [-0.5, 0.5]^3: one layer, to be seen from both sides, in waves that open downwards."""
    x = np.linspace(-0.5, 0.5, folds * columns + 1)
    z = np.array([-0.5, 0.5])
    xx, zz = np.meshgrid(x, z, indexing="ij")
    sway = np.sin(2 * np.pi * folds * xx + 0.6 * np.sin(9 * xx)) * (0.75 - 0.5 * zz) * 0.5
    vertices = np.stack([xx, sway, zz], -1).reshape(-1, 3)
    first = (np.arange(len(x) - 1)[:, None] * len(z) + np.arange(len(z) - 1)).ravel()
    quads = np.stack([first, first + len(z), first + len(z) + 1, first + 1], -1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return _smooth(trimesh.Trimesh(vertices, faces, process=False))
