"""A room under construction: its triangles with labels, its free floor and wall space, its lights.

World frame in metres: the floor is [0, width] x [0, depth] at z = 0, z points up. Furniture is built in the frame of
a `Site`: x to the right along the wall behind it, y from that wall into the room, z up, the origin on the floor in the
middle of the site's back edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from atrc_exp.data.rooms import shapes
from atrc_exp.data.rooms.classes import STORED
from atrc_exp.data.rooms.materials import Material, MaterialTable, Palette

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


@dataclass(frozen=True)
class Geometry:
    """F triangles: corners and unit corner normals, texture coordinates in metres, and per-triangle ids.

    `surface` numbers the smooth faces of all solids from 0, `instance` the objects.
    """

    corners: np.ndarray  # (F, 3, 3) float32
    normals: np.ndarray  # (F, 3, 3) float32
    flat: np.ndarray  # (F, 3) float32, the triangles' own unit normals
    uv: np.ndarray  # (F, 3, 2) float32
    surface: np.ndarray  # (F,) int32
    instance: np.ndarray  # (F,) int32
    label: np.ndarray  # (F,) uint8
    material: np.ndarray  # (F,) int32
    materials: MaterialTable


def turn(angle: float) -> np.ndarray:
    """Rotation about z by `angle` radians, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt(angle: float) -> np.ndarray:
    """Rotation about x by `angle` radians, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


class Thing:
    """One labelled object; its methods add solids, placed in the frame of the site."""

    def __init__(self, room: "Room", label: str, rotation: np.ndarray, origin: np.ndarray) -> None:
        self._room, self._label = room, STORED[label]
        self._rotation, self._origin = rotation, origin
        self._instance = room.new_instance()

    def _add(self, template: shapes.Template, size, centre, material: Material, rotation=None) -> None:
        size = np.maximum(np.asarray(size, float), 1e-4)
        corners, normals = template.corners * size, template.normals / size
        normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
        axis = np.abs(normals.mean(1)).argmax(1)
        uv = np.where((axis == 0)[:, None, None], corners[..., 1:], corners[..., ::2])
        uv = np.where((axis == 2)[:, None, None], corners[..., :2], uv)
        pose = self._rotation if rotation is None else self._rotation @ rotation
        place = self._rotation @ np.asarray(centre, float) + self._origin
        self._room.append(
            corners @ pose.T + place,
            normals @ pose.T,
            uv,
            template.surface,
            self._instance,
            self._label,
            material,
        )

    def box(self, material: Material, x: Span, y: Span, z: Span, rotation: np.ndarray | None = None) -> None:
        """Box over three spans; `rotation` (3, 3) turns it about its centre."""
        spans = np.array([x, y, z], float)
        self._add(shapes.box(), spans[:, 1] - spans[:, 0], spans.mean(1), material, rotation)

    def cushion(
        self, material: Material, x: Span, y: Span, z: Span, softness: float = 0.4, rotation=None
    ) -> None:
        """Box with soft edges (superellipsoid), from 0.1 = nearly a box to 1 = an ellipsoid."""
        spans = np.array([x, y, z], float)
        self._add(shapes.cushion(softness), spans[:, 1] - spans[:, 0], spans.mean(1), material, rotation)

    def cylinder(
        self, material: Material, at: tuple[float, float], radius: float, z: Span, top: float = 1.0
    ) -> None:
        """Upright cylinder or frustum; `top` is the upper radius over the lower."""
        height = z[1] - z[0]
        self._add(shapes.frustum(round(top, 1)), (radius, radius, height), (*at, sum(z) / 2), material)

    def ball(self, material: Material, centre, radii) -> None:
        """Ellipsoid."""
        self._add(shapes.ball(), radii, centre, material)

    def rod(self, material: Material, start, end, radius: float) -> None:
        """Capsule between two points (centres of its round ends)."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end - start))
        z = (end - start) / max(length, 1e-9)
        x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
        x /= np.linalg.norm(x)
        template = shapes.capsule(round(length, 2), round(radius, 3))
        self._add(template, (1, 1, 1), (start + end) / 2, material, np.stack([x, np.cross(z, x), z], 1))

    def sheet(self, material: Material, x: Span, y: Span, z: Span, folds: int = 5) -> None:
        """Cloth hanging in folds, from wall side y[0] to room side y[1]."""
        spans = np.array([x, y, z], float)
        self._add(shapes.sheet(folds), spans[:, 1] - spans[:, 0], spans.mean(1), material)


@dataclass(frozen=True)
class Site:
    """A place for a piece of furniture: `width` along x about 0, `depth` along y from 0, `height` available."""

    room: "Room"
    rotation: np.ndarray
    origin: np.ndarray
    width: float
    depth: float
    height: float

    @property
    def rng(self) -> np.random.Generator:
        return self.room.rng

    @property
    def look(self) -> Palette:
        return self.room.look

    def thing(self, label: str) -> Thing:
        """A new object of a class, in this site's frame."""
        return Thing(self.room, label, self.rotation, self.origin)

    def inner(
        self,
        x: float,
        y: float,
        z: float,
        width: float,
        depth: float,
        height: float = 1.0,
        angle: float = 0.0,
    ):
        """A smaller site whose back edge is centred at (x, y, z), turned about z by `angle` radians."""
        origin = self.rotation @ np.array([x, y, z]) + self.origin
        return Site(self.room, self.rotation @ turn(angle), origin, width, depth, height)

    def light(self, position, power, half: float = 0.05) -> None:
        """A lamp: a small horizontal square light that shines in all directions."""
        at = self.rotation @ np.asarray(position, float) + self.origin
        self.room.lights.append(Light(at, np.array([half, 0, 0]), np.array([0, half, 0]), np.asarray(power)))


@dataclass
class Room:
    """Width x depth x height metres with all that stands in it; `look` and `rng` are shared by all builders."""

    rng: np.random.Generator
    width: float
    depth: float
    height: float
    look: Palette = field(init=False)
    lights: list[Light] = field(default_factory=list)
    taken: list[tuple[float, float, float, float, float]] = field(
        default_factory=list
    )  # x0, y0, x1, y1, height
    hung: list[tuple[int, float, float, float, float]] = field(default_factory=list)  # wall, s0, s1, z0, z1
    _pieces: list[tuple] = field(default_factory=list)
    _materials: dict[Material, int] = field(default_factory=dict)
    _instances: int = 0

    def __post_init__(self) -> None:
        self.look = Palette(self.rng)

    def new_instance(self) -> int:
        self._instances += 1
        return self._instances

    def append(self, corners, normals, uv, surface, instance: int, label: int, material: Material) -> None:
        number = self._materials.setdefault(material, len(self._materials))
        self._pieces.append((corners, normals, uv, surface, instance, label, number))

    def geometry(self) -> Geometry:
        """All triangles so far."""
        corners, normals, uv, surfaces, instances, labels, materials = zip(*self._pieces, strict=True)
        counts = [len(piece) for piece in corners]
        starts = np.cumsum([0, *(int(surface.max()) + 1 for surface in surfaces)])
        triangles = np.concatenate(corners)
        flat = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
        return Geometry(
            triangles.astype(np.float32),
            np.concatenate(normals).astype(np.float32),
            flat.astype(np.float32),
            np.concatenate(uv).astype(np.float32),
            np.concatenate([s + start for s, start in zip(surfaces, starts, strict=False)]).astype(np.int32),
            np.repeat(np.array(instances, np.int32), counts),
            np.repeat(np.array(labels, np.uint8), counts),
            np.repeat(np.array(materials, np.int32), counts),
            MaterialTable(list(self._materials)),
        )

    def wall_length(self, wall: int) -> float:
        return self.width if wall % 2 == 0 else self.depth

    def wall_site(
        self, wall: int, s: float, width: float, depth: float, height: float, z: float = 0.0
    ) -> Site:
        """Site with its back centred at `s` along a wall (0: y = 0, then counter-clockwise)."""
        corner = [(0, 0), (self.width, 0), (self.width, self.depth), (0, self.depth)][wall]
        rotation = np.round(turn(wall * np.pi / 2))
        return Site(self, rotation, np.array([*corner, z]) + rotation @ [s, 0.0, 0.0], width, depth, height)

    def _footprint(self, site: Site) -> tuple[float, float, float, float]:
        corners = np.array(
            [
                [-site.width / 2, 0, 0],
                [site.width / 2, site.depth, 0],
                [-site.width / 2, site.depth, 0],
                [site.width / 2, 0, 0],
            ]
        )
        world = corners @ site.rotation.T + site.origin
        return (*world[:, :2].min(0), *world[:, :2].max(0))

    def _fits(self, site: Site, gap: float) -> bool:
        x0, y0, x1, y1 = self._footprint(site)
        if x0 < -1e-6 or y0 < -1e-6 or x1 > self.width + 1e-6 or y1 > self.depth + 1e-6:
            return False
        return all(
            x1 + gap <= a0 or x0 - gap >= a1 or y1 + gap <= b0 or y0 - gap >= b1
            for a0, b0, a1, b1, _ in self.taken
        )

    def _wall_free(self, wall: int, s: Span, z: Span) -> bool:
        return all(
            wall != other or s[1] <= s0 or s[0] >= s1 or z[1] <= z0 or z[0] >= z1
            for other, s0, s1, z0, z1 in self.hung
        )

    def _walls(self, wall: int | None) -> list[int]:
        return [wall] if wall is not None else [int(w) for w in self.rng.permutation(4)]

    def against_wall(
        self,
        width: float,
        depth: float,
        height: float,
        wall: int | None = None,
        s: float | None = None,
        corner: bool = False,
        reserve: float = 0.0,
    ) -> Site | None:
        """Claim floor and wall space for furniture at a random place against a wall, or None where none is free.

        `corner` prefers the wall's ends; `reserve` metres of floor before it stay free of other furniture.
        """
        for candidate in self._walls(wall):
            length = self.wall_length(candidate)
            if width > length:
                continue
            for _ in range(6):
                at = self.rng.uniform(width / 2, length - width / 2) if s is None else s
                if corner:
                    at = width / 2 + 0.01 if self.rng.random() < 0.5 else length - width / 2 - 0.01
                site = self.wall_site(candidate, at, width, depth, height)
                if self._fits(
                    self.wall_site(candidate, at, width, depth + reserve, height), 0.03
                ) and self._wall_free(candidate, (at - width / 2, at + width / 2), (0.0, height)):
                    self.hung.append((candidate, at - width / 2, at + width / 2, 0.0, height))
                    self.taken.append((*self._footprint(site), height))
                    return site
        return None

    def hang(
        self, width: float, height: float, z: float, wall: int | None = None, s: float | None = None
    ) -> Site | None:
        """Claim wall space from height `z` up for something flat, or None; the site's z = 0 is at `z`."""
        for candidate in self._walls(wall):
            length = self.wall_length(candidate)
            for _ in range(5):
                if width + 0.1 > length or z + height > self.height:
                    break
                at = self.rng.uniform(width / 2 + 0.05, length - width / 2 - 0.05) if s is None else s
                if self._wall_free(
                    candidate, (at - width / 2 - 0.04, at + width / 2 + 0.04), (z, z + height)
                ):
                    self.hung.append((candidate, at - width / 2, at + width / 2, z, z + height))
                    return self.wall_site(candidate, at, width, 0.1, height, z)
        return None

    def block(self, site: Site, reach: float) -> None:
        """Keep furniture away from the wall below a hung site and from `reach` metres of floor before it."""
        x0, y0, x1, y1 = self._footprint(site)
        self.taken.append((x0 - reach, y0 - reach, x1 + reach, y1 + reach, 0.0))

    def in_the_open(self, width: float, depth: float, height: float, gap: float = 0.3) -> Site | None:
        """Claim free floor away from the walls, or None."""
        for _ in range(12):
            x, y = self.rng.uniform(0.35, 0.65) * self.width, self.rng.uniform(0.3, 0.7) * self.depth
            rotation = np.round(turn(int(self.rng.integers(4)) * np.pi / 2))
            site = Site(
                self, rotation, np.array([x, y, 0.0]) - rotation @ [0, depth / 2, 0], width, depth, height
            )
            if self._fits(site, gap):
                self.taken.append((*self._footprint(site), height))
                return site
        return None

    def claim(self, site: Site, gap: float = 0.0) -> bool:
        """Claim a given site's floor if it is free."""
        if not self._fits(site, gap):
            return False
        self.taken.append((*self._footprint(site), site.height))
        return True


def spread(site: Site, z: float, slots: int, margin: float = 0.04) -> Iterator[Site]:
    """Divide a site's top at height `z` into `slots` places side by side, in random order."""
    width = site.width / slots
    for slot in site.rng.permutation(slots):
        x = -site.width / 2 + (slot + 0.5) * width
        yield site.inner(x, margin, z, width - margin, site.depth - 2 * margin)
