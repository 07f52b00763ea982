"""Materials: a texture family with colours, size and sheen; and a room's palette, which chooses them."""

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from atrc_exp.rooms.render.textures import FAMILIES

Colour = tuple[float, float, float]  # sRGB in [0, 1]


@dataclass(frozen=True)
class Material:
    """Look of a surface: a texture `family` in three colours; `size` (u, v) metres of one tile.

    `mirror` is the reflected share, `sheen` the same at a grazing angle, `glow` the emitted radiance.
    """

    family: str
    colours: tuple[Colour, Colour, Colour]
    size: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    turned: bool = False
    sheen: float = 0.0
    mirror: float = 0.0
    glow: float = 0.0

    def fitted(self, width: float, height: float) -> "Material":
        """The same material with one tile over a face of width x height metres, centred on it."""
        return replace(self, size=(width, height), offset=(0.5, 0.5), turned=False)


class MaterialTable:
    """M materials as arrays: colours (3, 3, M) linear RGB, size and offset (2, M), the rest (M,)."""

    def __init__(self, materials: list[Material]) -> None:
        self.family = np.array([FAMILIES[m.family] for m in materials], np.int32)
        self.colours = np.array([m.colours for m in materials], np.float32).transpose(1, 2, 0) ** np.float32(2.2)
        self.size = np.array([m.size for m in materials], np.float32).T
        self.offset = np.array([m.offset for m in materials], np.float32).T
        self.turned = np.array([m.turned for m in materials])
        self.sheen = np.array([m.sheen for m in materials], np.float32)
        self.mirror = np.array([m.mirror for m in materials], np.float32)
        self.glow = np.array([m.glow for m in materials], np.float32)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (a full turn is 1), saturation and value; the latter two are clipped to [0, 1]."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker (< 1) or lighter (> 1)."""
    return tuple(min(channel * factor, 1.0) for channel in colour)  # type: ignore[return-value]


class Palette:
    """Draws materials for one room: a wood tone and two hues recur, all else varies from object to object."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._wood = hsv(rng.uniform(0.03, 0.11), rng.uniform(0.25, 0.75), rng.uniform(0.22, 0.85))
        self._hues = rng.random(2)

    def _make(self, family: str, a: Colour, b: Colour, c: Colour, size: float, **more) -> Material:
        jitter = size * self.rng.uniform(0.8, 1.25)
        return Material(family, (a, b, c), (jitter, jitter), tuple(self.rng.random(2)), **more)

    def _hue(self) -> float:
        if self.rng.random() < 0.6:
            return self.rng.choice(self._hues) + self.rng.normal(0, 0.03)
        return self.rng.random()

    def any_colour(
        self, saturation: tuple[float, float] = (0.05, 0.8), value: tuple[float, float] = (0.2, 0.95)
    ) -> Colour:
        """One of the room's hues or any other, with saturation and value from two ranges."""
        return hsv(self._hue(), self.rng.uniform(*saturation), self.rng.uniform(*value))

    def wood(self, upright: bool = False) -> Material:
        """Grain along u, or along v when `upright`; a fifth of the furniture is painted instead."""
        rng = self.rng
        if rng.random() < 0.2:
            return self.paint(self.any_colour((0.0, 0.35), (0.55, 0.95)))
        tone = (
            self._wood
            if rng.random() < 0.6
            else hsv(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.9))
        )
        return self._make("wood", tone, shade(tone, rng.uniform(0.65, 0.88)), tone, 0.5, turned=upright, sheen=0.12)

    def paint(self, colour: Colour, sheen: float = 0.05) -> Material:
        """Flat paint in a colour."""
        return self._make("paint", colour, shade(colour, 0.93), colour, 1.3, sheen=sheen)

    def white(self, sheen: float = 0.05) -> Material:
        """Paint that is almost white."""
        return self.paint(hsv(self.rng.random(), self.rng.uniform(0, 0.07), self.rng.uniform(0.82, 0.98)), sheen)

    def fabric(self, families: tuple[str, ...] = ("weave",), size: float = 0.35, value=(0.2, 0.95)) -> Material:
        """Cloth of one of the texture families; `size` metres of one tile, `value` the range of brightness."""
        family = str(self.rng.choice(families))
        a = self.any_colour(value=value)
        b = shade(a, self.rng.uniform(0.75, 0.9)) if family in ("weave", "carpet") else self.any_colour(value=value)
        return self._make(family, a, b, self.any_colour(), size)

    def leather(self) -> Material:
        """Brown to black, slightly glossy."""
        tone = hsv(self.rng.uniform(0.0, 0.1), self.rng.uniform(0.1, 0.6), self.rng.uniform(0.1, 0.55))
        return self._make("plaster", tone, shade(tone, 0.85), tone, 0.5, sheen=0.25)

    def metal(self, bright: float | None = None) -> Material:
        """Brushed grey metal; `bright` in [0, 1], random if not given."""
        value = self.rng.uniform(0.35, 0.8) if bright is None else bright
        tone = hsv(0.6, 0.04, value)
        return self._make("metal", tone, shade(tone, 0.85), tone, 0.6, sheen=0.45)

    def dark(self) -> Material:
        """Almost black and slightly glossy: plastic, rubber, iron."""
        tone = hsv(self.rng.random(), 0.1, self.rng.uniform(0.05, 0.2))
        return self._make("paint", tone, tone, tone, 1.0, sheen=0.25)

    def porcelain(self) -> Material:
        """Almost white and glossy."""
        tone = hsv(self.rng.uniform(0.08, 0.6), self.rng.uniform(0.0, 0.06), self.rng.uniform(0.86, 0.99))
        return self._make("paint", tone, shade(tone, 0.97), tone, 2.0, sheen=0.5)

    def stone(self) -> Material:
        """Granite or marble, polished."""
        tone = hsv(self.rng.uniform(0.02, 0.6), self.rng.uniform(0.0, 0.25), self.rng.uniform(0.15, 0.9))
        family = str(self.rng.choice(["granite", "marble"]))
        return self._make(family, tone, shade(tone, 0.75), shade(tone, self.rng.uniform(0.4, 1.6)), 0.6, sheen=0.35)

    def pattern(self, family: str, colours: tuple[Colour, Colour, Colour], size: float, **more) -> Material:
        """Any texture family in three colours; `size` metres of one tile, `more` are fields of `Material`."""
        return self._make(family, *colours, size, **more)

    def wall(self, wet: bool) -> Material:
        """Paint, plaster, wallpaper or bricks; mostly tiles where it is wet."""
        rng = self.rng
        tone = hsv(rng.random(), rng.uniform(0.0, 0.3) ** 1.3, rng.uniform(0.6, 0.97))
        if wet and rng.random() < 0.7:
            return self._make(
                "tiles",
                tone,
                shade(tone, 0.95),
                shade(tone, rng.choice([0.7, 1.2])),
                rng.choice([0.5, 0.8]),
                sheen=0.25,
            )
        family = rng.choice(["paint", "plaster", "stripes", "flowers", "bricks"], p=[0.55, 0.25, 0.09, 0.07, 0.04])
        if family == "bricks":
            tone = hsv(rng.uniform(0.0, 0.06), rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.8))
            return self._make("bricks", tone, shade(tone, 0.7), hsv(0.1, 0.05, 0.75), 0.9)
        return self._make(str(family), tone, shade(tone, 0.92), shade(tone, 0.85), rng.uniform(0.6, 1.2))

    def floor(self, wet: bool) -> Material:
        """Planks, carpet, tiles or stone; no wood or carpet where it is wet."""
        rng = self.rng
        family = rng.choice(
            ["tiles", "checker", "marble"] if wet else ["planks", "carpet", "tiles", "planks", "carpet", "granite"]
        )
        turned = bool(rng.random() < 0.5)
        if family == "planks":
            tone = hsv(rng.uniform(0.04, 0.11), rng.uniform(0.25, 0.7), rng.uniform(0.3, 0.85))
            return self._make("planks", tone, shade(tone, 0.72), shade(tone, 0.4), 1.2, turned=turned, sheen=0.25)
        tone = hsv(rng.uniform(0.0, 0.65), rng.uniform(0.03, 0.35), rng.uniform(0.3, 0.88))
        if family == "carpet":
            return self._make("carpet", tone, shade(tone, 0.82), tone, 0.5)
        second = hsv(rng.random(), 0.1, rng.choice([0.15, 0.95])) if family == "checker" else shade(tone, 0.88)
        return self._make(str(family), tone, second, shade(tone, rng.choice([0.6, 1.3])), 1.4, sheen=0.35)
