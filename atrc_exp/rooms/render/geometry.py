"""Solids placed in a room, and all their triangles as the arrays that rays and shading work on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrc_exp.rooms.pieces.shapes import Template
from atrc_exp.rooms.render.materials import Material, MaterialTable

_NARROW = 0.065  # metres; edges of narrower faces (panels, handles, boards) are no boundaries of their own


@dataclass(frozen=True)
class Piece:
    """A template stretched by `size` (3,), turned by `pose` (3, 3) and moved to `place` (3,)."""

    template: Template
    size: np.ndarray
    pose: np.ndarray
    place: np.ndarray
    instance: int
    kind: int
    part: int
    material: Material


@dataclass(frozen=True)
class Geometry:
    """F triangles with unit normals, texture coordinates in metres, and ids.

    `surface` numbers the smooth faces of all solids, `instance` the objects; `kind` and `part` are positions in
    `classes.KINDS` and `classes.PARTS`; `narrow` marks slim faces.
    """

    corners: np.ndarray  # (F, 3, 3) float32, triangle, corner, axis
    normals: np.ndarray  # (3, 3, F) float32, corner, axis, triangle
    flat: np.ndarray  # (3, F) float32, the triangles' own normals
    uv: np.ndarray  # (3, 2, F) float32
    surface: np.ndarray  # (F,) int32
    instance: np.ndarray  # (F,) int32
    kind: np.ndarray  # (F,) uint8
    part: np.ndarray  # (F,) uint8
    material: np.ndarray  # (F,) int32
    narrow: np.ndarray  # (F,) bool
    materials: MaterialTable


def _place(template: Template, pieces: list[Piece]) -> tuple[np.ndarray, ...]:
    """Corners, normals (P, F, 3, 3), uv (P, F, 3, 2) and narrowness (P, F) of P pieces of one template."""
    size = np.stack([piece.size for piece in pieces])[:, None, None]
    pose = np.stack([piece.pose for piece in pieces])
    place = np.stack([piece.place for piece in pieces])[:, None, None]
    local, normals = template.corners * size, template.normals / size
    axis = np.abs(normals.sum(2)).argmax(-1)  # the axis that a triangle faces; its texture lies in the other two
    others = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    uv = np.take_along_axis(local, others[:, :, None], -1)
    narrow = np.take_along_axis(size[:, 0], others, -1).min(-1) < _NARROW
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    rows, back = (len(pieces), -1, 3), pose.transpose(0, 2, 1)
    corners = (local.reshape(rows) @ back).reshape(local.shape) + place
    return corners, (normals.reshape(rows) @ back).reshape(normals.shape), uv, narrow


def assemble(pieces: Sequence[Piece]) -> Geometry:
    """All triangles of the pieces; those of one template come together, for speed."""
    groups: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        groups[id(piece.template)].append(piece)
    numbers: dict[Material, int] = {}
    columns: list[list[np.ndarray]] = [[] for _ in range(9)]
    surfaces = 0
    for group in groups.values():
        template = group[0].template
        shape = (len(group), len(template.surface))
        corners, normals, uv, narrow = _place(template, group)
        first = surfaces + np.arange(len(group)) * (template.surface.max() + 1)
        surfaces = int(first[-1] + template.surface.max() + 1)
        ids = np.array([(p.instance, p.kind, p.part, numbers.setdefault(p.material, len(numbers))) for p in group])
        spread = (np.broadcast_to(column[:, None], shape) for column in ids.T)
        for column, values in zip(
            columns, (corners, normals, uv, narrow, first[:, None] + template.surface, *spread), strict=True
        ):
            column.append(values.reshape(-1, *values.shape[2:]))
    corners, normals, uv, narrow, surface, instance, kind, part, material = (np.concatenate(c) for c in columns)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    return Geometry(
        corners=corners.astype(np.float32),
        normals=np.ascontiguousarray(normals.transpose(1, 2, 0), np.float32),
        flat=np.ascontiguousarray(flat.T, np.float32),
        uv=np.ascontiguousarray(uv.transpose(1, 2, 0), np.float32),
        surface=surface.astype(np.int32),
        instance=instance.astype(np.int32),
        kind=kind.astype(np.uint8),
        part=part.astype(np.uint8),
        material=material.astype(np.int32),
        narrow=narrow,
        materials=MaterialTable(list(numbers)),
    )
