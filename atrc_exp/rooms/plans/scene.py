"""Objects and the places they are built in.

World frame in metres: the floor of a room is [0, width] x [0, depth] at z = 0, z points up. Furniture is
built in the frame of a `Site`: x along the wall behind it, y from that wall into the room, z up, the origin
on the floor in the middle of the site's back edge.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atrc_exp.rooms.pieces import shapes
from atrc_exp.rooms.plans.classes import NUMBERS, PART_NUMBERS
from atrc_exp.rooms.render.geometry import Piece
from atrc_exp.rooms.render.materials import Material, Palette
from atrc_exp.rooms.render.vectors import cross

if TYPE_CHECKING:
    from atrc_exp.rooms.plans.room import Room

Span = tuple[float, float]  # from, to in metres


@dataclass(frozen=True)
class Light:
    """Rectangle of half-sides `across` and `along` about `position`; one-sided if it has a `normal`.

    `power` is the radiant intensity per colour (3,).
    """

    position: np.ndarray
    across: np.ndarray
    along: np.ndarray
    power: np.ndarray
    normal: np.ndarray | None = None


def between(a: float, b: float) -> Span:
    """The span of two ends given in any order."""
    return (a, b) if a <= b else (b, a)


def turn(angle: float) -> np.ndarray:
    """Rotation about z by `angle` radians, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt(angle: float) -> np.ndarray:
    """Rotation about x by `angle` radians, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def along(direction: np.ndarray) -> np.ndarray:
    """A rotation (3, 3) that turns z into a direction (3,) of any length."""
    z = direction / max(float(np.linalg.norm(direction)), 1e-9)
    x = cross(np.array([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0]), z)
    x /= np.linalg.norm(x)
    return np.stack([x, cross(z, x), z], 1)


class Thing:
    """One object of a kind (`classes.KINDS`); its methods add solids, placed in the frame of the site."""

    def __init__(self, room: "Room", kind: str, rotation: np.ndarray, origin: np.ndarray) -> None:
        self._room, self._kind, self._part = room, NUMBERS[kind], 0
        self._rotation, self._origin = rotation, origin
        self._instance = room.new_instance()

    def part(self, name: str) -> "Thing":
        """The same object; what is added to it is its part of that name (`classes.PARTS`)."""
        part = copy(self)
        part._part = PART_NUMBERS[name]
        return part

    def also(self, kind: str) -> "Thing":
        """The same object; what is added to it is of another kind: a screen with its keyboard."""
        other = copy(self)
        other._kind = NUMBERS[kind]
        return other

    def _add(self, template: shapes.Template, size, centre, material: Material, rotation=None) -> None:
        size = np.maximum(np.asarray(size, float), 1e-4)
        pose = self._rotation if rotation is None else self._rotation @ rotation
        place = self._rotation @ np.asarray(centre, float) + self._origin
        ids = (self._instance, self._kind, self._part)
        self._room.pieces.append(Piece(template, size, pose, place, *ids, material))

    def box(self, material: Material, x: Span, y: Span, z: Span, rotation: np.ndarray | None = None) -> None:
        """Box over three spans; `rotation` (3, 3) turns it about its centre."""
        spans = np.array([x, y, z], float)
        self._add(shapes.box(), spans[:, 1] - spans[:, 0], spans.mean(1), material, rotation)

    def cushion(self, material: Material, x: Span, y: Span, z: Span, softness: float = 0.4, rotation=None) -> None:
        """Box with soft edges (superellipsoid), from 0.1 = nearly a box to 1 = an ellipsoid."""
        spans = np.array([x, y, z], float)
        self._add(shapes.cushion(softness), spans[:, 1] - spans[:, 0], spans.mean(1), material, rotation)

    def cylinder(self, material: Material, at: tuple[float, float], radius: float, z: Span, top: float = 1.0) -> None:
        """Upright cylinder or frustum; `top` is the upper radius over the lower."""
        height = z[1] - z[0]
        self._add(shapes.frustum(round(top, 1)), (radius, radius, height), (*at, sum(z) / 2), material)

    def ball(self, material: Material, centre, radii, rotation=None) -> None:
        """Ellipsoid; `rotation` (3, 3) turns it about its centre."""
        self._add(shapes.ball(), radii, centre, material, rotation)

    def rod(self, material: Material, start, end, radius: float) -> None:
        """Capsule between two points (centres of its round ends)."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        template = shapes.capsule(round(float(np.linalg.norm(end - start)), 2), round(radius, 3))
        self._add(template, (1, 1, 1), (start + end) / 2, material, along(end - start))

    def limb(self, material: Material, start, end, radius: float, end_radius: float) -> None:
        """Round cone between two points: as a rod, but it grows thinner or thicker."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end - start))
        template = shapes.limb(round(length / radius, 1), round(end_radius / radius, 1))
        self._add(template, (radius, radius, radius), (start + end) / 2, material, along(end - start))

    def sheet(self, material: Material, x: Span, y: Span, z: Span, folds: int = 5) -> None:
        """Cloth hanging in folds, from wall side y[0] to room side y[1]."""
        spans = np.array([x, y, z], float)
        self._add(shapes.sheet(folds), spans[:, 1] - spans[:, 0], spans.mean(1), material)


@dataclass(frozen=True)
class Site:
    """A place for a piece of furniture: `width` along x about 0, `depth` along y from 0, `height` along z.

    `wall` is the wall behind it and how far along it the middle is, for sites that a room gave out at a wall.
    """

    room: "Room"
    rotation: np.ndarray
    origin: np.ndarray
    width: float
    depth: float
    height: float
    wall: tuple[int, float] | None = None

    @property
    def rng(self) -> np.random.Generator:
        """The room's random numbers."""
        return self.room.rng

    @property
    def look(self) -> Palette:
        """The room's materials."""
        return self.room.look

    def thing(self, kind: str) -> Thing:
        """A new object of a kind (`classes.KINDS`), in this site's frame."""
        return Thing(self.room, kind, self.rotation, self.origin)

    def inner(
        self, x: float, y: float, z: float, width: float, depth: float, height: float = 1.0, angle: float = 0.0
    ) -> "Site":
        """A smaller site whose back edge is centred at (x, y, z), turned about z by `angle` radians."""
        origin = self.rotation @ np.array([x, y, z]) + self.origin
        return Site(self.room, self.rotation @ turn(angle), origin, width, depth, height)

    def light(self, position, power, half: float = 0.05) -> None:
        """A lamp: a small horizontal square light that shines in all directions."""
        at = self.rotation @ np.asarray(position, float) + self.origin
        self.room.lights.append(Light(at, np.array([half, 0, 0]), np.array([0, half, 0]), np.asarray(power)))


def spread(site: Site, z: float, slots: int, margin: float = 0.04) -> Iterator[Site]:
    """Divide a site's top at height `z` into `slots` places side by side, in random order."""
    width = site.width / slots
    for slot in site.rng.permutation(slots):
        x = -site.width / 2 + (slot + 0.5) * width
        yield site.inner(x, margin, z, width - margin, site.depth - 2 * margin)
