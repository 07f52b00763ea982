"""The skeleton of a person: segment lengths, plausible poses, and the joints that follow from them.

Lengths are shares of the stature, after Drillis and Contini (1966, Body segment parameters), who measured adults.
The frame is that of a person who faces +y: x to the person's right, z up, the origin on the floor below the pelvis,
metres. Pairs are (left, right).
"""

from dataclasses import dataclass

import numpy as np

from atrc_exp.rooms.plans.scene import tilt, turn

UPPER_ARM, FOREARM, HAND = 0.186, 0.146, 0.108
THIGH, SHANK, ANKLE, FOOT = 0.245, 0.246, 0.039, 0.152
HIP, SHOULDER, NECK = 0.53, 0.818, 0.845  # heights, standing
HIP_SIDE, SHOULDER_SIDE = 0.052, 0.112  # joints' distances from the middle
_SIDES = np.array([-1.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """Where a person's pelvis, feet and hands are, and how trunk and head are turned; metres and radians."""

    pelvis: np.ndarray  # (3,) middle between the hip joints
    ankles: np.ndarray  # (2, 3)
    wrists: np.ndarray  # (2, 3); farther than an arm's length: the arm is stretched towards it
    lean: float = 0.0  # of the trunk, positive forwards
    twist: float = 0.0  # of the trunk about z
    heels: tuple[float, float] = (0.0, 0.0)  # how far each heel is lifted
    gaze: tuple[float, float] = (0.0, 0.0)  # of the head against the trunk: to the left, up


@dataclass(frozen=True)
class Joints:
    """Joint positions (3,), or (2, 3) for pairs, and the trunk's and head's rotations (3, 3)."""

    trunk: np.ndarray
    head: np.ndarray
    neck: np.ndarray
    shoulders: np.ndarray
    elbows: np.ndarray
    wrists: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray


def _bend(start: np.ndarray, end: np.ndarray, upper: float, lower: float, pole: np.ndarray) -> tuple[np.ndarray, ...]:
    """Middle and end joint of a limb that reaches for `end` and bends towards `pole`."""
    way = end - start
    length = float(np.linalg.norm(way))
    along = way / length
    reach = min(max(length, 1.02 * abs(upper - lower)), 0.995 * (upper + lower))
    aside = pole - (pole @ along) * along
    aside /= np.linalg.norm(aside)
    cosine = (upper**2 + reach**2 - lower**2) / (2 * upper * reach)
    middle = start + upper * (cosine * along + np.sqrt(max(1 - cosine**2, 0.0)) * aside)
    return middle, start + reach * along


def joints(pose: Pose, stature: float) -> Joints:
    """All joints of a person of the given stature in metres; ankles that a leg cannot reach are drawn in."""
    trunk = turn(pose.twist) @ tilt(-pose.lean)
    sideways = np.stack([_SIDES, np.zeros(2), np.zeros(2)], 1)
    hips = pose.pelvis + HIP_SIDE * stature * sideways
    shoulders = pose.pelvis + (sideways * SHOULDER_SIDE + [0, 0, SHOULDER - HIP]) * stature @ trunk.T
    knees, ankles, elbows, wrists = (np.empty((2, 3)) for _ in range(4))
    for side, sign in enumerate(_SIDES):
        limb = (hips[side], pose.ankles[side], THIGH * stature, SHANK * stature)
        knees[side], ankles[side] = _bend(*limb, np.array([0.25 * sign, 1.0, 0.3]))
        limb = (shoulders[side], pose.wrists[side], UPPER_ARM * stature, FOREARM * stature)
        elbows[side], wrists[side] = _bend(*limb, trunk @ np.array([0.7 * sign, -0.8, -0.5]))
    return Joints(
        trunk=trunk,
        head=turn(pose.twist + pose.gaze[0]) @ tilt(pose.gaze[1] - 0.4 * pose.lean),
        neck=pose.pelvis + trunk @ [0, 0, (NECK - HIP) * stature],
        shoulders=shoulders,
        elbows=elbows,
        wrists=wrists,
        hips=hips,
        knees=knees,
        ankles=ankles,
    )


def _at(stature: float, x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z]) * stature


def _gaze(rng: np.random.Generator) -> tuple[float, float]:
    return rng.normal(0, 0.35), rng.normal(-0.08, 0.15)


def _idle_wrist(rng: np.random.Generator, stature: float, sign: float) -> np.ndarray:
    """Hanging, on the hip, before the body as if it held something, or at the chin."""
    kind = rng.choice(4, p=[0.5, 0.2, 0.22, 0.08])
    spot = [
        (0.15 * sign, rng.uniform(-0.03, 0.08), HIP - 0.045),
        (0.12 * sign, 0.02, HIP + 0.05),
        (rng.uniform(0.01, 0.1) * sign, rng.uniform(0.13, 0.22), HIP + rng.uniform(0.06, 0.16)),
        (0.03 * sign, 0.11, SHOULDER - 0.02),
    ][kind]
    return _at(stature, *spot)


def standing(rng: np.random.Generator, stature: float) -> Pose:
    """Feet a little apart, hands anywhere people leave them."""
    sway = rng.uniform(-0.02, 0.02)
    ankles = [_at(stature, s * rng.uniform(0.05, 0.09), rng.uniform(-0.05, 0.05), ANKLE) for s in _SIDES]
    wrists = [_idle_wrist(rng, stature, s) for s in _SIDES]
    lean, twist = rng.normal(0.02, 0.04), rng.normal(0, 0.15)
    return Pose(_at(stature, sway, 0, HIP - 0.008), np.array(ankles), np.array(wrists), lean, twist, gaze=_gaze(rng))


def walking(rng: np.random.Generator, stature: float) -> Pose:
    """Mid-stride: the heel behind is lifted, the arms swing against the legs."""
    stride, ahead = rng.uniform(0.1, 0.17), rng.choice([-1, 1])
    forward = ahead * _SIDES  # +1: the foot in front
    heels = np.where(forward < 0, rng.uniform(0.4, 0.8), 0.0)
    ankles = [
        _at(stature, s * 0.045, stride * f, ANKLE + 0.55 * FOOT * np.sin(h))
        for s, f, h in zip(_SIDES, forward, heels, strict=True)
    ]
    swing = rng.uniform(0.08, 0.2)
    wrists = [
        _at(stature, s * 0.14, 0.05 - swing * f, HIP + 0.02 + 0.3 * swing) for s, f in zip(_SIDES, forward, strict=True)
    ]
    pelvis = _at(stature, 0, 0.02, HIP - 0.022)
    lifted = (float(heels[0]), float(heels[1]))
    return Pose(pelvis, np.array(ankles), np.array(wrists), 0.08, 0.12 * ahead, lifted, _gaze(rng))


def reaching(rng: np.random.Generator, stature: float, height: float) -> Pose:
    """One hand stretched forward to something `height` metres high; deeper down, knees and back bend."""
    stoop = float(np.clip((0.8 * stature - height) / stature, 0, 0.6))
    lean = 0.1 + 0.9 * stoop
    ankles = np.array([_at(stature, s * 0.07, rng.uniform(-0.06, 0.06), ANKLE) for s in _SIDES])
    hand = int(rng.integers(2))
    target = np.array([_SIDES[hand] * 0.06 * stature, 0.3 * stature + 0.25 * stoop, height])
    wrists = np.array([_at(stature, s * 0.14, 0.05 + 0.25 * np.sin(lean), HIP - 0.05 - 0.3 * stoop) for s in _SIDES])
    wrists[hand] = target
    pelvis = _at(stature, 0, -0.12 * stoop, HIP - 0.008 - 0.2 * max(0.0, stoop - 0.15))
    gaze = (-0.15 * _SIDES[hand], float(np.clip((height - 0.9 * stature) / stature, -0.5, 0.4)))
    return Pose(pelvis, ankles, wrists, lean, 0.15 * _SIDES[hand], gaze=gaze)


def sitting(rng: np.random.Generator, stature: float, height: float, table: bool) -> Pose:
    """On a seat `height` metres high, children's feet dangling; the hands on the thighs, or on a table before it."""
    pelvis = np.array([0.0, 0.0, height + 0.055 * stature])
    low = max(ANKLE * stature, pelvis[2] - 0.97 * SHANK * stature)
    ankles = np.array([[s * rng.uniform(0.05, 0.1), rng.uniform(0.22, 0.27), low / stature] for s in _SIDES]) * stature
    on_thigh = rng.random(2) < (0.25 if table else 0.8)
    thigh = [np.array([s * 0.07 * stature, rng.uniform(0.12, 0.2) * stature, height + 0.14 * stature]) for s in _SIDES]
    ahead = [
        np.array([s * rng.uniform(0.02, 0.12) * stature, rng.uniform(0.18, 0.25) * stature, height + 0.34])
        for s in _SIDES
    ]
    wrists = np.where(on_thigh[:, None], thigh, ahead)
    lean = rng.uniform(0.0, 0.15) if table else rng.uniform(-0.2, 0.02)
    gaze = (rng.normal(0, 0.3), rng.uniform(-0.35, 0.05) if table else rng.uniform(-0.1, 0.2))
    return Pose(pelvis, ankles, wrists, lean, rng.normal(0, 0.08), gaze=gaze)
