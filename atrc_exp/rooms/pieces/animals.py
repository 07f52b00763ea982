"""Cats, dogs and bicycles."""

from itertools import pairwise

import numpy as np

from atrc_exp.rooms.plans.scene import Site, Thing
from atrc_exp.rooms.render.materials import Material, hsv, shade

_SIDES = (("l", -1.0), ("r", 1.0))


def _off(point: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """The point moved by some metres."""
    return point + np.array([x, y, z])


def _fur(site: Site, kind: str) -> Material:
    rng = site.rng
    tone = hsv(rng.uniform(0.04, 0.11), rng.uniform(0.05, 0.65), rng.choice([0.1, 0.3, 0.5, 0.75, 0.93]))
    if kind == "cat" and rng.random() < 0.5:  # tabby
        return site.look.pattern("stripes", (tone, shade(tone, 0.55), shade(tone, 0.8)), 0.25)
    patch = shade(tone, 0.4) if rng.random() < 0.5 else hsv(0.1, 0.08, 0.9)
    family = "blocks" if kind == "dog" and rng.random() < 0.4 else "carpet"
    return site.look.pattern(family, (tone, shade(tone, 0.75) if family == "carpet" else patch, tone), 0.4)


def _face(it: Thing, fur: Material, at: np.ndarray, size: float, snout: float, pointed: bool) -> None:
    """Head of radius `size` at a point, facing +y, with a snout of `snout` radii and pointed or hanging ears."""
    dark = Material("paint", ((0.05, 0.04, 0.04),) * 3, sheen=0.4)
    it.part("head").ball(fur, at, np.array([0.92, 1.0, 0.88]) * size)
    tip = at + np.array([0.0, 0.75 + snout, -0.3]) * size
    it.part("muzzle").limb(fur, at + np.array([0.0, 0.5, -0.22]) * size, tip, 0.5 * size, 0.33 * size)
    it.part("nose").ball(dark, tip + np.array([0.0, 0.3, 0.12]) * size, np.full(3, 0.16 * size))
    for letter, sign in _SIDES:
        it.part(f"{letter}eye").ball(dark, at + np.array([0.4 * sign, 0.82, 0.2]) * size, np.full(3, 0.13 * size))
        ear, root = it.part(f"{letter}ear"), at + np.array([0.6 * sign, -0.05, 0.55]) * size
        if pointed:
            ear.limb(fur, root, root + np.array([0.12 * sign, 0.0, 0.75]) * size, 0.33 * size, 0.05 * size)
        else:
            ear.limb(fur, root, root + np.array([0.42 * sign, 0.0, -1.0]) * size, 0.2 * size, 0.3 * size)


def _animal(site: Site, kind: str, tall: float, resting: bool) -> None:
    """A cat or dog `tall` metres high at the shoulder, standing or lying, facing +y about the site's middle."""
    rng, it, fur = site.rng, site.thing(kind), _fur(site, kind)
    feline = kind == "cat"
    long, thick = tall * (1.15 if feline else 1.05), tall * (0.25 if feline else 0.24)
    back = 0.34 * tall if resting else tall - thick
    middle = np.array([0.0, site.depth / 2, back])
    rear, front = _off(middle, 0, -long / 2, 0), _off(middle, 0, long / 2, 0.04 * tall)
    it.part("torso").limb(fur, rear, front, 0.95 * thick, 1.08 * thick)
    raised = front + np.array([0.0, 0.22, 0.42 if feline else 0.5]) * tall
    it.part("neck").limb(fur, front, raised, 0.75 * thick, 0.55 * thick)
    size = tall * (0.24 if feline else 0.2)
    _face(it, fur, raised, size, 0.1 if feline else 0.75, pointed=feline or rng.random() < 0.4)
    for letter, sign in _SIDES:
        for end, part in ((front, "f"), (rear, "b")):
            hip = end + np.array([0.55 * thick * sign, 0, -0.3 * thick])
            step = rng.uniform(-0.12, 0.12) * tall
            foot = np.array([hip[0], hip[1] + (0.5 * tall if resting else step), 0.07 * tall])
            it.part(f"{letter}{part}leg").limb(fur, hip, foot, 0.42 * thick, 0.26 * thick)
            toe = _off(foot, 0, 0.09 * tall, -0.02 * tall)
            it.part(f"{letter}{part}pa").limb(fur, foot, toe, 0.28 * thick, 0.24 * thick)
    bend = rear + np.array([rng.uniform(-0.3, 0.3), -0.45, 0.0 if resting else 0.25]) * tall
    tip = bend + np.array([rng.uniform(-0.3, 0.3), -0.3, 0.02 if resting else rng.uniform(0.1, 0.6)]) * tall
    it.part("tail").limb(fur, rear, bend, 0.3 * thick, 0.22 * thick)
    it.part("tail").limb(fur, bend, tip, 0.22 * thick, 0.15 * thick)
    site.room.subjects.append(site.rotation @ middle + site.origin)


def cat(site: Site, resting: bool = False) -> None:
    """A cat about 0.3 m high at the shoulder: round head, pointed ears, long tail; tabby or of one colour."""
    _animal(site, "cat", site.rng.uniform(0.27, 0.36), resting)


def dog(site: Site, resting: bool = False) -> None:
    """A dog 0.35 to 0.65 m high at the shoulder: long snout, hanging or pointed ears; plain or in patches."""
    _animal(site, "dog", site.rng.uniform(0.35, 0.65), resting)


def bicycle(site: Site) -> None:
    """A bicycle along the wall: wheels of 0.33 m radius 1.02 m apart, diamond frame, saddle, handlebar."""
    rng, look, it = site.rng, site.look, site.thing("bicycle")
    site.room.subjects.append(site.rotation @ [0, 0.3, 0.5] + site.origin)
    y, radius = site.depth / 2, 0.33
    rubber, steel = look.dark(), look.metal(0.7)
    paint = look.paint(look.any_colour((0.4, 1.0), (0.2, 0.95)), 0.4)
    hubs = np.array([[-0.51, y, radius], [0.51, y, radius]])
    angles = np.linspace(0, 2 * np.pi, 25)
    for hub in hubs:
        rim = hub + (radius - 0.02) * np.stack([np.cos(angles), np.zeros(25), np.sin(angles)], 1)
        for start, end in pairwise(rim):
            it.rod(rubber, start, end, 0.02)
        for spoke in rim[:-1:2]:
            it.rod(steel, hub, spoke, 0.003)
    crank, saddle, stem = np.array([-0.06, y, 0.29]), np.array([-0.2, y, 0.86]), np.array([0.36, y, 0.86])
    below = np.array([0.39, y, 0.74])
    clamp = _off(saddle, 0, 0, -0.1)
    tubes = ((crank, saddle), (clamp, _off(stem, 0, 0, -0.06)), (crank, below), (hubs[0], crank), (hubs[0], clamp),
             (stem, hubs[1]))  # fmt: skip
    for start, end in tubes:
        it.rod(paint, start, end, 0.017)
    leather = look.leather()
    it.ball(leather, _off(saddle, -0.02, 0, 0.03), (0.13, 0.06, 0.035))
    bar = _off(stem, 0.03, 0, 0.14)
    it.rod(steel, stem, bar, 0.013)
    it.rod(steel, _off(bar, 0, -0.26, 0), _off(bar, 0, 0.26, 0), 0.013)
    for side in (-1, 1):
        it.rod(rubber, _off(bar, 0, 0.26 * side, 0), _off(bar, -0.1, 0.3 * side, 0), 0.018)
        pedal = _off(crank, 0.15 * side, 0.08 * side, 0.05 * side)
        it.rod(steel, _off(crank, 0, 0.08 * side, 0), pedal, 0.01)
        low, high = _off(pedal, -0.05, -0.03, -0.01), _off(pedal, 0.05, 0.03, 0.01)
        it.box(rubber, (low[0], high[0]), (low[1], high[1]), (low[2], high[2]))
    it.rod(steel, _off(crank, 0, -0.03, 0), _off(crank, 0, 0.03, 0), 0.09)
    if rng.random() < 0.4:  # carrier
        it.box(steel, (-0.72, -0.35), (y - 0.06, y + 0.06), (0.69, 0.7))
        it.rod(steel, hubs[0], (-0.6, y, 0.69), 0.008)
