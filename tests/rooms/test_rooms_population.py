"""People in rooms: bodies that hold together, stand on the floor and have all their parts; every class is there."""

from collections import Counter

import numpy as np
import pytest

from atrc_exp.data.readers.pascal_classes import CLASS_NAMES, PART_IDS
from atrc_exp.rooms.pieces import poses
from atrc_exp.rooms.pieces.people import person
from atrc_exp.rooms.plans.classes import KINDS, NUMBERS, PARTS, VOC_LABELS
from atrc_exp.rooms.plans.furnish import furnish
from atrc_exp.rooms.plans.room import Room
from atrc_exp.rooms.plans.scene import Site
from atrc_exp.rooms.render.geometry import Geometry, assemble

SEAT = 0.46
POSES = {
    "standing": poses.standing,
    "walking": poses.walking,
    "reaching up": lambda rng, stature: poses.reaching(rng, stature, 1.1 * stature),
    "reaching down": lambda rng, stature: poses.reaching(rng, stature, 0.55),
    "sitting": lambda rng, stature: poses.sitting(rng, stature, SEAT, bool(rng.integers(2))),
}


def skeleton(seed: int, pose: str) -> tuple[poses.Joints, poses.Pose, float]:
    """Joints, pose and stature of a random person."""
    rng = np.random.default_rng(seed)
    stature = rng.uniform(1.1, 1.9)
    posed = POSES[pose](rng, stature)
    return poses.joints(posed, stature), posed, stature


def figure(seed: int, pose: str) -> tuple[Geometry, float]:
    """That person in an empty room as triangles, and the stature."""
    _, posed, stature = skeleton(seed, pose)
    room = Room(np.random.default_rng(seed), 4.0, 4.0, 2.5, populated=True)
    person(Site(room, np.eye(3), np.zeros(3), 0.5, 0.5, 1.0), posed, stature)
    return assemble(room.pieces), stature


@pytest.mark.parametrize("pose", list(POSES))
def test_bones_keep_their_lengths_and_joints_bend_one_way(pose):
    for seed in range(20):
        at, posed, stature = skeleton(seed, pose)
        for start, end, share in (
            (at.shoulders, at.elbows, 0.186), (at.elbows, at.wrists, 0.146),
            (at.hips, at.knees, 0.245), (at.knees, at.ankles, 0.246),
        ):  # fmt: skip
            np.testing.assert_allclose(np.linalg.norm(end - start, axis=1), share * stature, rtol=1e-6)
        way = at.ankles - at.hips
        shin = ((at.knees - at.hips) * way).sum(1) / (way**2).sum(1)
        assert ((at.knees - at.hips - shin[:, None] * way)[:, 1] > 0).all()  # knees point forward
        assert np.linalg.norm(at.ankles - posed.ankles, axis=1).max() < 0.06 * stature
        assert abs(at.neck[0]) < 0.12 * stature


@pytest.mark.parametrize("pose", list(POSES))
def test_people_stand_on_the_floor_and_are_as_tall_as_they_should(pose):
    for seed in range(4):
        geometry, stature = figure(seed, pose)
        z = geometry.corners[..., 2]
        feet = np.isin(geometry.part, [PARTS.index("lfoot"), PARTS.index("rfoot")])
        dangling = pose == "sitting" and stature < 1.75
        assert -0.02 < z[feet].min() < (SEAT if dangling else 0.03) and z[~feet].min() > 0.0
        if pose in ("standing", "walking"):
            assert 0.93 * stature < z.max() < 1.1 * stature
        if pose == "sitting":
            thighs = np.isin(geometry.part, [PARTS.index("luleg"), PARTS.index("ruleg")])
            assert SEAT - 0.05 < z[thighs].min() < SEAT + 0.09


def test_a_person_has_every_part():
    found = set()
    for seed in range(6):
        geometry, _ = figure(seed, "standing")
        assert set(geometry.kind) == {NUMBERS["person"]} and len(set(geometry.instance)) == 1
        parts = {PARTS[number] for number in set(geometry.part)}
        assert set(PART_IDS) - parts <= {"hair"}  # some are bald
        found |= parts
        left, right = (
            geometry.corners[geometry.part == PARTS.index(name)][..., 0].mean() for name in ("lhand", "rhand")
        )
        assert left < right  # facing +y, the right hand is at +x
    assert found == set(PART_IDS)


def test_reaching_hands_arrive():
    for seed in range(20):
        at, _, stature = skeleton(seed, "reaching up")
        assert at.wrists[:, 2].max() > 0.95 * stature
        at, _, _ = skeleton(seed, "reaching down")
        assert at.wrists[:, 2].min() < 0.75


def test_populated_rooms_hold_every_class_and_people_stay_inside():
    with_class, people = Counter(), []
    for seed in range(60):
        room = furnish(np.random.default_rng([9, seed]), populated=True)
        kinds = [KINDS[list(KINDS)[number]] for number in {piece.kind for piece in room.pieces}]
        with_class.update({kind.voc for kind in kinds} - {0})
        bodies = [piece for piece in room.pieces if piece.kind == NUMBERS["person"]]
        people.append(len({piece.instance for piece in bodies}))
        for piece in bodies:
            assert -0.3 < piece.place[0] < room.width + 0.3 and -0.3 < piece.place[1] < room.depth + 0.3
            assert PARTS[piece.part] in PART_IDS
    assert set(with_class) == set(VOC_LABELS[VOC_LABELS > 0])
    rare = {CLASS_NAMES[number]: count for number, count in with_class.items() if count < 5}
    assert not rare
    assert 0.05 < np.mean(np.array(people) == 0) < 0.4 and max(people) >= 3


def test_plain_rooms_have_plain_figures():
    rooms = [furnish(np.random.default_rng([9, seed])) for seed in range(30)]
    figures = [piece for room in rooms for piece in room.pieces if piece.kind == NUMBERS["person"]]
    assert figures and not any(piece.part for piece in figures)
