"""Procedural texture tiles, one for each family of surfaces, with their mip levels.

A tile is periodic, TILE x TILE, with three channels in [0, 1]: how far the colour lies between a material's
first and second colour, how much of its third colour lies on top, and a brightness factor.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

TILE = 256
LEVELS = 8  # 256 ... 2 texels a side
_SEED = 40  # tiles are part of the program: rooms vary colours, scale, offset and direction, not the tiles

_V, _U = np.meshgrid(np.arange(TILE) / TILE, np.arange(TILE) / TILE, indexing="ij")
_ZERO = np.zeros((TILE, TILE))
_ONE = np.ones((TILE, TILE))


def _noise(rng: np.random.Generator, slope: float = 1.0, along_u: float = 1.0) -> np.ndarray:
    """Periodic noise in [0, 1] with spectrum 1 / f^slope, stretched `along_u` times in u; (TILE, TILE)."""
    frequency = np.fft.fftfreq(TILE) * TILE
    radius = np.hypot(frequency[None] * along_u, frequency[:, None])
    radius[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((TILE, TILE))) / radius**slope
    field = np.fft.ifft2(spectrum).real
    return np.clip(0.5 + 0.2 * field / field.std(), 0.0, 1.0)


def _cells(columns: int, rows: int, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Row and column of each texel's cell and its coordinates in the cell; odd rows shifted by `shift`."""
    row = np.floor(_V * rows).astype(int)
    u = _U * columns + shift * (row % 2)
    column = np.floor(u).astype(int) % columns
    return row, column, u - np.floor(u), _V * rows - row


def _joints(u: np.ndarray, v: np.ndarray, width_u: float, width_v: float) -> np.ndarray:
    return ((u < width_u) | (v < width_v)).astype(float)


def _paint(rng):
    return _noise(rng, 1.6), _ZERO, 0.96 + 0.06 * _noise(rng, 0.6)


def _plaster(rng):
    return _noise(rng, 1.2), _ZERO, 0.8 + 0.3 * _noise(rng, 0.9)


def _wood(rng):
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (7 * _V + 2.6 * _noise(rng, 1.5, 7)))
    streaks = _noise(rng, 0.8, 14)
    return 0.45 * rings + 0.55 * streaks, _ZERO, 0.85 + 0.2 * streaks


def _planks(rng):
    row, column, u, v = _cells(2, 8, 0.5)
    tone = rng.random((8, 2))[row, column]
    streaks = _noise(rng, 0.9, 14)
    return 0.65 * tone + 0.35 * streaks, _joints(u, v, 0.008, 0.06), 0.85 + 0.2 * streaks


def _tiles(rng):
    row, column, u, v = _cells(4, 4)
    tone = rng.random((4, 4))[row, column]
    return 0.5 * tone + 0.5 * _noise(rng, 1.4), _joints(u, v, 0.05, 0.05), 0.95 + 0.05 * _ONE


def _bricks(rng):
    row, column, u, v = _cells(4, 8, 0.5)
    tone = rng.random((8, 4))[row, column]
    return tone, _joints(u, v, 0.05, 0.1), 0.8 + 0.3 * _noise(rng, 0.7)


def _checker(rng):
    row, column, _, _ = _cells(4, 4)
    return ((row + column) % 2).astype(float), _ZERO, 0.94 + 0.08 * _noise(rng, 1.0)


def _stripes(rng):
    thin = (np.abs((_U * 4) % 1 - 0.75) < 0.06).astype(float)
    return ((_U * 4) % 1 < 0.5).astype(float), thin, 0.94 + 0.08 * _noise(rng, 0.5)


def _plaid(rng):
    bars_u, bars_v = (_U * 3) % 1 < 0.45, (_V * 3) % 1 < 0.45
    lines = (np.abs((_U * 3) % 1 - 0.7) < 0.05) | (np.abs((_V * 3) % 1 - 0.7) < 0.05)
    return 0.5 * bars_u + 0.5 * bars_v, 0.7 * lines, 0.94 + 0.08 * _noise(rng, 0.4)


def _weave(rng):
    threads = np.sin(2 * np.pi * 32 * _U) * np.sin(2 * np.pi * 32 * _V)
    return _noise(rng, 1.0), _ZERO, 0.86 + 0.08 * threads + 0.14 * _noise(rng, 0.5)


def _carpet(rng):
    return _noise(rng, 0.6), _ZERO, 0.7 + 0.45 * _noise(rng, 0.35)


def _marble(rng):
    veins = np.exp(-18 * np.abs(_noise(rng, 1.7) - 0.5)) + 0.6 * np.exp(-30 * np.abs(_noise(rng, 1.5) - 0.45))
    return _noise(rng, 1.6), np.clip(0.7 * veins, 0, 1), 0.97 * _ONE


def _granite(rng):
    return _noise(rng, 0.5), (_noise(rng, 0.45) > 0.72).astype(float), 0.85 + 0.3 * _noise(rng, 0.3)


def _flowers(rng):
    t, c = _ZERO.copy(), _ZERO.copy()
    for _ in range(26):
        du = (_U - rng.random() + 0.5) % 1 - 0.5
        dv = (_V - rng.random() + 0.5) % 1 - 0.5
        radius, angle = np.hypot(du, dv), np.arctan2(dv, du)
        size = rng.uniform(0.04, 0.09)
        t[radius < size * (0.7 + 0.3 * np.cos(5 * angle + rng.random() * 6))] = 1.0
        c[radius < size * 0.3] = 1.0
    return t, c, 0.94 + 0.08 * _noise(rng, 0.5)


def _dots(rng):
    row, _, u, v = _cells(6, 6, 0.5)
    disc = (np.hypot(u - 0.5, v - 0.5) < 0.27).astype(float)
    return disc, _ZERO * row, 0.95 + 0.06 * _noise(rng, 0.5)


def _rug(rng):
    border = np.minimum(np.minimum(_U, 1 - _U), np.minimum(_V, 1 - _V))
    diamond = np.abs(_U - 0.5) + np.abs(_V - 0.5)
    t = ((diamond * 9) % 1 < 0.45).astype(float)
    c = ((border > 0.05) & (border < 0.1)) | ((diamond < 0.12) & (diamond > 0.05))
    return np.where(border < 0.05, 1.0, t), c.astype(float), 0.78 + 0.3 * _noise(rng, 0.4)


def _text(rng):
    line = (_V * 24).astype(int)
    words = _noise(rng, 0.9, 0.25) > 0.45
    on = (line % 2 == 0) & words & (_U > 0.1) & (rng.uniform(0.7, 0.92, 24)[line] > _U) & (line > 1) & (line < 22)
    return on.astype(float), _ZERO, 0.97 * _ONE


def _scribble(rng):
    t, c = _ZERO.copy(), _ZERO.copy()
    for number in range(9):
        v0, u0, length = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.5), rng.uniform(0.15, 0.45)
        wave = v0 + 0.014 * np.sin(2 * np.pi * _U * rng.uniform(15, 40)) + 0.01 * np.sin(2 * np.pi * _U * 9)
        on = (np.abs(_V - wave) < 0.007) & (u0 < _U) & (u0 + length > _U)
        (t if number % 3 else c)[on] = 1.0
    return t, c, 0.95 + 0.05 * _noise(rng, 1.6)


def _landscape(rng):
    hills = 0.45 + 0.25 * (_noise(rng, 2.0, 1.0)[0][None] - 0.5) + 0 * _V
    ground = hills > _V
    sun = np.hypot(_U - 0.7, _V - 0.75) < 0.09
    return (
        np.where(ground, 0.7 + 0.3 * _noise(rng, 1.0), 0.25 * (1 - _V)),
        sun.astype(float),
        0.75 + 0.35 * _noise(rng, 1.2),
    )


def _blocks(rng):
    t, c, s = _ZERO.copy(), _ZERO.copy(), _ONE.copy()
    for _ in range(14):
        u0, v0 = rng.uniform(-0.1, 0.8, 2)
        inside = (u0 < _U) & (u0 + rng.uniform(0.1, 0.5) > _U) & (v0 < _V) & (v0 + rng.uniform(0.1, 0.5) > _V)
        t[inside], c[inside], s[inside] = rng.random(), rng.random() > 0.6, rng.uniform(0.5, 1.0)
    return t, c, s


def _portrait(rng):
    head = np.hypot((_U - 0.5) / 0.16, (_V - 0.62) / 0.2) < 1
    body = np.hypot((_U - 0.5) / 0.34, (_V - 0.1) / 0.32) < 1
    return body.astype(float), (head & ~body).astype(float), 0.6 + 0.5 * _noise(rng, 1.4)


def _outdoor(rng):
    trees = 0.3 + 0.35 * (_noise(rng, 1.3)[7][None]) > _V
    return (
        trees.astype(float),
        ((_V < 0.14) & trees).astype(float),
        np.where(trees, 0.3 + 0.6 * _noise(rng, 0.9), 0.85 + 0.15 * _V),
    )


def _metal(rng):
    return _noise(rng, 0.8, 20), _ZERO, 0.9 + 0.12 * _noise(rng, 0.5, 24)


def _cardboard(rng):
    tape = (np.abs(_U - 0.5) < 0.06).astype(float)
    return _noise(rng, 1.2, 3), 0.8 * tape, 0.9 + 0.12 * _noise(rng, 0.6)


def _leaves(rng):
    return _noise(rng, 0.9), _ZERO, 0.45 + 0.7 * _noise(rng, 0.6)


_PAINTERS: tuple[Callable, ...] = (
    *(
        _paint,
        _plaster,
        _wood,
        _planks,
        _tiles,
        _bricks,
        _checker,
        _stripes,
        _plaid,
        _weave,
        _carpet,
        _marble,
    ),
    *(_granite, _flowers, _dots, _rug, _text, _scribble, _landscape, _blocks, _portrait, _outdoor, _metal),
    *(_cardboard, _leaves),
)
FAMILIES = {painter.__name__[1:]: number for number, painter in enumerate(_PAINTERS)}


@cache
def mip_levels() -> tuple[np.ndarray, np.ndarray]:
    """Tiles at all levels: texels (3, families * n) float32, and where each level starts in a family's n."""
    starts = np.cumsum([0, *((TILE >> level) ** 2 for level in range(LEVELS))]).astype(np.int32)
    texels = np.empty((3, len(_PAINTERS), starts[-1]), np.float32)
    for number, painter in enumerate(_PAINTERS):
        image = np.clip(np.stack(painter(np.random.default_rng([_SEED, number]))), 0, 1)
        for level in range(LEVELS):
            texels[:, number, starts[level] : starts[level + 1]] = image.reshape(3, -1)
            image = (image[:, ::2, ::2] + image[:, 1::2, ::2] + image[:, ::2, 1::2] + image[:, 1::2, 1::2]) / 4
    return texels.reshape(3, -1), starts[:-1]


def sample(family: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Channels (3, N) of tiles `family` (N,) at `uv` (2, N), in tiles, for pixels `footprint` (N,) wide."""
    texels, starts = mip_levels()
    level = np.clip(np.rint(np.log2(np.maximum(footprint * TILE, 1.0))), 0, LEVELS - 1).astype(np.int32)
    side = np.right_shift(TILE, level)
    column, row = np.minimum(((uv - np.floor(uv)) * side).astype(np.int32), side - 1)
    return texels.take(family * (texels.shape[1] // len(_PAINTERS)) + starts[level] + row * side + column, 1)
