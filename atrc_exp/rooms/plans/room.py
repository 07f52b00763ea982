"""A room under construction: its lights and solids, and which floor and wall space is still free."""

from dataclasses import dataclass, field

import numpy as np

from atrc_exp.rooms.plans.scene import Light, Site, Span, turn
from atrc_exp.rooms.render.geometry import Piece
from atrc_exp.rooms.render.materials import Palette


@dataclass(frozen=True)
class Seat:
    """A place to sit: the origin of `site` is the floor below the middle of the pelvis, y points forward."""

    site: Site
    height: float  # metres, of the seat
    before: str  # what stands before it: "table", or "" for free floor


@dataclass
class Room:
    """Width x depth x height metres and what stands in it; `look` and `rng` are shared by all builders.

    `populated` rooms get people and animals by `population.populate` instead of plain figures.
    """

    rng: np.random.Generator
    width: float
    depth: float
    height: float
    populated: bool = False
    look: Palette = field(init=False)
    lights: list[Light] = field(default_factory=list)
    taken: list[tuple[float, float, float, float, float]] = field(default_factory=list)  # x0, y0, x1, y1, height
    hung: list[tuple[int, float, float, float, float]] = field(default_factory=list)  # wall, s0, s1, z0, z1
    pieces: list[Piece] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    fronts: list[Site] = field(default_factory=list)  # furniture against walls, which people may stand before
    subjects: list[np.ndarray] = field(default_factory=list)  # world points (3,) that a photographer aims at
    _instances: int = 0

    def __post_init__(self) -> None:
        self.look = Palette(self.rng)

    def new_instance(self) -> int:
        """The number of a new object, counted from 1."""
        self._instances += 1
        return self._instances

    def wall_length(self, wall: int) -> float:
        """Metres along wall 0 to 3."""
        return self.width if wall % 2 == 0 else self.depth

    def wall_site(self, wall: int, s: float, width: float, depth: float, height: float, z: float = 0.0) -> Site:
        """Site with its back centred at `s` along a wall (0: y = 0, then counter-clockwise)."""
        corner = [(0, 0), (self.width, 0), (self.width, self.depth), (0, self.depth)][wall]
        rotation = np.round(turn(wall * np.pi / 2))
        origin = np.array([*corner, z]) + rotation @ [s, 0.0, 0.0]
        return Site(self, rotation, origin, width, depth, height, (wall, s))

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
            x1 + gap <= a0 or x0 - gap >= a1 or y1 + gap <= b0 or y0 - gap >= b1 for a0, b0, a1, b1, _ in self.taken
        )

    def _wall_free(self, wall: int, s: Span, z: Span) -> bool:
        return all(
            wall != other or s[1] <= s0 or s[0] >= s1 or z[1] <= z0 or z[0] >= z1 for other, s0, s1, z0, z1 in self.hung
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
        """Claim floor and wall space for furniture at a random place against a wall; None if none is free.

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
                if self._fits(self.wall_site(candidate, at, width, depth + reserve, height), 0.03) and self._wall_free(
                    candidate, (at - width / 2, at + width / 2), (0.0, height)
                ):
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
                if self._wall_free(candidate, (at - width / 2 - 0.04, at + width / 2 + 0.04), (z, z + height)):
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
            site = Site(self, rotation, np.array([x, y, 0.0]) - rotation @ [0, depth / 2, 0], width, depth, height)
            if self._fits(site, gap):
                self.taken.append((*self._footprint(site), height))
                return site
        return None

    def anywhere(self, width: float, depth: float, height: float) -> Site | None:
        """Claim free floor anywhere, turned by any angle, or None."""
        for _ in range(12):
            x, y = self.rng.uniform(0.1, 0.9, 2) * (self.width, self.depth)
            site = Site(self, turn(self.rng.uniform(0, 2 * np.pi)), np.array([x, y, 0.0]), width, depth, height)
            if self.claim(site, 0.05):
                return site
        return None

    def claim(self, site: Site, gap: float = 0.0) -> bool:
        """Claim a given site's floor if it is free."""
        if not self._fits(site, gap):
            return False
        self.taken.append((*self._footprint(site), site.height))
        return True
