"""People of round cones and ellipsoids, part by part as PASCAL-Part names them, with skin, hair and clothes."""

from dataclasses import dataclass

import numpy as np

from atrc_exp.rooms.pieces.poses import ANKLE, FOOT, HAND, Joints, Pose, joints
from atrc_exp.rooms.plans.scene import Site, Thing, tilt, turn
from atrc_exp.rooms.render.materials import Material, Palette, hsv, shade

_SIDES = ((0, "l", -1.0), (1, "r", 1.0))  # position in pairs, letter of the part's name, sign of x


@dataclass(frozen=True)
class _Look:
    """Materials and cut of one person."""

    skin: Material
    hair: Material
    shirt: Material
    trousers: Material
    shoes: Material
    long_sleeves: bool
    long_legs: bool
    style: str  # of the hair: short, long, bun, bald
    build: float  # girth, 1 = average


def _dress(rng: np.random.Generator, look: Palette) -> _Look:
    tone = hsv(rng.uniform(0.045, 0.085), rng.uniform(0.28, 0.62), rng.uniform(0.3, 0.96))
    lock = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.75), rng.choice([0.08, 0.15, 0.3, 0.55, 0.8]))
    shirt = look.fabric(("weave", "weave", "stripes", "plaid", "dots", "flowers"), rng.uniform(0.15, 0.35))
    denim = look.pattern("weave", (hsv(0.6, 0.55, 0.4), hsv(0.6, 0.5, 0.3), hsv(0.6, 0.5, 0.3)), 0.2)
    return _Look(
        skin=look.paint(tone, 0.08),
        hair=look.pattern("carpet", (lock, shade(lock, 0.7), lock), 0.2),
        shirt=shirt,
        trousers=denim if rng.random() < 0.4 else look.fabric(("weave",), 0.2, value=(0.1, 0.7)),
        shoes=look.dark() if rng.random() < 0.6 else look.leather(),
        long_sleeves=bool(rng.random() < 0.5),
        long_legs=bool(rng.random() < 0.8),
        style=str(rng.choice(["short", "long", "bun", "bald"], p=[0.5, 0.28, 0.12, 0.1])),
        build=rng.normal(1.0, 0.09),
    )


def person(site: Site, pose: Pose, stature: float) -> None:
    """A dressed person at the site's origin, facing its +y.

    `stature` in metres; below 1.5 m heads are larger in proportion, as children's are.
    """
    rng, it = site.rng, site.thing("person")
    look, at = _dress(rng, site.look), joints(pose, stature)
    girth = stature * look.build
    _trunk(it, look, at, pose.pelvis, stature, girth)
    _head(it, look, at, 0.105 + 0.067 * stature)
    for side, letter, _ in _SIDES:
        sleeve = look.shirt if look.long_sleeves else look.skin
        it.part(f"{letter}uarm").limb(look.shirt, at.shoulders[side], at.elbows[side], 0.031 * girth, 0.024 * girth)
        it.part(f"{letter}larm").limb(sleeve, at.elbows[side], at.wrists[side], 0.0235 * girth, 0.016 * girth)
        _hand(it.part(f"{letter}hand"), look.skin, at.elbows[side], at.wrists[side], stature)
        leg = look.trousers if look.long_legs else look.skin
        it.part(f"{letter}uleg").limb(look.trousers, at.hips[side], at.knees[side], 0.05 * girth, 0.034 * girth)
        it.part(f"{letter}lleg").limb(leg, at.knees[side], at.ankles[side], 0.033 * girth, 0.022 * girth)
        _foot(it.part(f"{letter}foot"), look.shoes, at.ankles[side], pose.heels[side], stature)
    chest = site.rotation @ (0.5 * (at.shoulders.mean(0) + pose.pelvis)) + site.origin
    site.room.subjects.append(chest)


def _solid(it: Thing, material: Material, frame: np.ndarray, centre, size, softness: float) -> None:
    """A cushion of a size (3,) about a centre (3,), turned by a frame (3, 3)."""
    low, high = np.asarray(centre) - np.asarray(size) / 2, np.asarray(centre) + np.asarray(size) / 2
    it.cushion(material, (low[0], high[0]), (low[1], high[1]), (low[2], high[2]), softness, frame)


def _trunk(it: Thing, look: _Look, at: Joints, pelvis: np.ndarray, stature: float, girth: float) -> None:
    """Hips, waist, chest and neck."""
    torso = it.part("torso")
    blocks = (
        (look.trousers, 0.0, (0.2 * girth, 0.135 * girth, 0.13 * stature), 0.6),
        (look.shirt, 0.105, (0.178 * girth, 0.118 * girth, 0.21 * stature), 0.5),
        (look.shirt, 0.195, (0.225 * girth, 0.137 * girth, 0.21 * stature), 0.55),
    )
    for material, height, size, softness in blocks:
        _solid(torso, material, at.trunk, pelvis + at.trunk @ [0, 0, height * stature], size, softness)
    collar, chin = at.neck - at.trunk @ [0, 0, 0.02 * stature], at.neck + at.head @ [0, 0.008, 0.045 * stature]
    for side, _, _ in _SIDES:  # the slope from neck to shoulder
        torso.limb(look.shirt, collar, at.shoulders[side], 0.033 * girth, 0.03 * girth)
    it.part("neck").limb(look.skin, at.neck, chin, 0.031 * girth, 0.029 * girth)


def _head(it: Thing, look: _Look, at: Joints, tall: float) -> None:
    """Head `tall` metres from chin to crown, with a face and hair."""
    frame = at.head
    centre = at.neck + frame @ [0, 0.1 * tall, 0.62 * tall]

    def spot(x: float, y: float, z: float) -> np.ndarray:
        return centre + frame @ (np.array([x, y, z]) * tall)

    head = it.part("head")
    head.ball(look.skin, centre, np.array([0.345, 0.41, 0.5]) * tall, frame)
    head.ball(look.skin, spot(0, 0.1, -0.27), np.array([0.25, 0.27, 0.24]) * tall, frame)
    it.part("nose").ball(look.skin, spot(0, 0.41, -0.08), np.array([0.055, 0.075, 0.1]) * tall, frame)
    lips = Material("paint", ((0.6, 0.25, 0.25),) * 3)
    it.part("mouth").ball(lips, spot(0, 0.34, -0.29), np.array([0.11, 0.04, 0.03]) * tall, frame)
    dark, white = Material("paint", ((0.08, 0.06, 0.05),) * 3, sheen=0.4), Material("paint", ((0.9, 0.9, 0.88),) * 3)
    for _, letter, sign in _SIDES:
        eye = it.part(f"{letter}eye")
        eye.ball(white, spot(0.14 * sign, 0.345, 0.02), np.array([0.065, 0.04, 0.04]) * tall, frame)
        eye.ball(dark, spot(0.14 * sign, 0.37, 0.02), np.array([0.033, 0.03, 0.035]) * tall, frame)
        brow = np.array([0.085, 0.03, 0.02]) * tall
        it.part(f"{letter}ebrow").ball(look.hair, spot(0.145 * sign, 0.36, 0.11), brow, frame)
        it.part(f"{letter}ear").ball(look.skin, spot(0.34 * sign, 0, -0.03), np.array([0.05, 0.08, 0.12]) * tall, frame)
    hair = it.part("hair")
    if look.style != "bald":
        hair.ball(look.hair, spot(0, -0.065, 0.12), np.array([0.385, 0.41, 0.435]) * tall, frame)
    if look.style == "long":
        _solid(hair, look.hair, frame, spot(0, -0.2, -0.2), np.array([0.76, 0.42, 1.15]) * tall, 0.7)
    elif look.style == "bun":
        hair.ball(look.hair, spot(0, -0.38, 0.42), np.array([0.19, 0.19, 0.17]) * tall, frame)


def _hand(it: Thing, skin: Material, elbow: np.ndarray, wrist: np.ndarray, stature: float) -> None:
    """Palm and fingers in line with the forearm."""
    way = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    knuckles = wrist + 0.5 * HAND * stature * way
    it.limb(skin, wrist, knuckles, 0.017 * stature, 0.021 * stature)
    it.limb(skin, knuckles, wrist + 0.78 * HAND * stature * way, 0.018 * stature, 0.012 * stature)


def _foot(it: Thing, shoe: Material, ankle: np.ndarray, heel: float, stature: float) -> None:
    """A shoe under the ankle, toes forward; `heel` radians of lift turn it about the toes' side."""
    frame = turn(0.12 * np.sign(-ankle[0])) @ tilt(-heel)
    size = np.array([0.058, FOOT * 1.08, 0.05]) * stature
    centre = ankle + frame @ (np.array([0.0, 0.3 * FOOT, 0.025 - ANKLE]) * stature)
    _solid(it, shoe, frame, centre, size, 0.45)
