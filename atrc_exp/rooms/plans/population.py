"""Who lives in a room: people on seats, on their feet and at the furniture; pets; and what they have about them."""

from collections.abc import Callable

import numpy as np

from atrc_exp.rooms.pieces import animals, cases, poses, props
from atrc_exp.rooms.pieces.people import person
from atrc_exp.rooms.plans.room import Room, Seat
from atrc_exp.rooms.plans.scene import Site, spread

_PEOPLE = (0.2, 0.29, 0.29, 0.15, 0.07)  # chances of none to four


def stock(room: Room) -> None:
    """Put bicycles, bottles and plants against bare walls, which VOC has and most rooms lack. Call this first."""
    rng = room.rng
    if rng.random() < 0.25:
        site = room.against_wall(1.75, 0.6, 1.1, reserve=0.3)
        if site is not None:
            animals.bicycle(site)
    if rng.random() < 0.4:
        site = room.against_wall(rng.uniform(0.8, 1.3), 0.42, 1.3, reserve=0.3)
        if site is not None:
            bar(site)
    for _ in range(rng.integers(0, 3)):
        site = room.against_wall(0.55, 0.55, 1.5, corner=True)
        if site is not None:
            props.plant(site, rng.uniform(0.8, 1.5))


def populate(room: Room) -> None:
    """Put people and pets where the furniture leaves space; some rooms stay without people.

    Feet stand on free floor or before a seat, so that nobody stands in the furniture.
    """
    rng = room.rng
    seats = [room.seats[place] for place in rng.permutation(len(room.seats))]
    for _ in range(rng.choice(len(_PEOPLE), p=_PEOPLE)):
        kind = rng.random()
        if kind < 0.45 and seats:
            seat = seats.pop()
            stature = _stature(rng)
            person(seat.site, poses.sitting(rng, stature, seat.height, seat.before == "table"), stature)
        elif kind < 0.65:
            _at_furniture(room)
        else:
            _on_the_floor(room)
    if rng.random() < 0.5:
        _pet(room, animals.cat, [seat for seat in seats if not seat.before])
    if rng.random() < 0.33:
        _pet(room, animals.dog, [])


def bar(site: Site) -> None:
    """A low cabinet with a row of wine and oil bottles on it."""
    rng, look, height = site.rng, site.look, site.rng.uniform(0.7, 0.9)
    cases.chest(site, "cabinet", max(1, round(site.width / 0.45)), 1, height)
    for place in spread(site, height, int(rng.integers(3, 6))):
        bottle, tall, radius = place.thing("bottle"), rng.uniform(0.28, 0.42), rng.uniform(0.04, 0.055)
        glass = look.paint(look.any_colour((0.2, 0.9), (0.1, 0.7)), 0.6)
        label = look.fabric(("text", "stripes", "weave"), 0.15, value=(0.7, 1.0))
        x, y = rng.normal(0, 0.015), place.depth * rng.uniform(0.4, 0.7)
        bottle.cylinder(glass, (x, y), radius, (0, 0.55 * tall))
        bottle.cylinder(label, (x, y), radius + 0.002, (0.15 * tall, 0.42 * tall))
        bottle.cylinder(glass, (x, y), radius, (0.55 * tall, 0.72 * tall), top=0.3)
        bottle.cylinder(glass, (x, y), 0.32 * radius, (0.7 * tall, tall))


def _stature(rng: np.random.Generator) -> float:
    """Metres: four of five are adults."""
    return float(rng.normal(1.7, 0.09)) if rng.random() < 0.8 else float(rng.uniform(1.05, 1.5))


def _at_furniture(room: Room) -> None:
    """Somebody who reaches for something on or above a piece of furniture at the wall."""
    rng, stature = room.rng, _stature(room.rng)
    for place in rng.permutation(len(room.fronts)):
        front = room.fronts[place]
        x = rng.uniform(-0.35, 0.35) * front.width
        site = front.inner(x, front.depth + 0.62, 0, 0.5, 0.5, angle=np.pi)
        if room.claim(site.inner(0, -0.22, 0, 0.5, 0.5)):
            height = float(np.clip(front.height * rng.uniform(0.6, 1.05), 0.55, 1.1 * stature))
            person(site, poses.reaching(rng, stature, height), stature)
            return
    _on_the_floor(room)


def _on_the_floor(room: Room) -> None:
    """Somebody who stands or walks where the floor is free."""
    rng, stature = room.rng, _stature(room.rng)
    site = room.anywhere(0.5, 0.5, 1.8)
    if site is not None:
        pose = poses.walking if rng.random() < 0.4 else poses.standing
        person(site.inner(0, site.depth / 2, 0, 0.5, 0.5), pose(rng, stature), stature)


def _pet(room: Room, builder: Callable[[Site, bool], None], beds: list[Seat]) -> None:
    """A cat or dog on free floor or, lying, on one of some seats."""
    rng, resting = room.rng, bool(room.rng.random() < 0.4)
    if beds and rng.random() < 0.6:
        seat = beds[0]
        turned = rng.choice([-1, 1]) * np.pi / 2
        builder(seat.site.inner(np.sign(turned) * 0.1, 0, seat.height, 0.4, 0.2, angle=turned), True)
        return
    site = room.anywhere(0.4, 0.9, 0.7)
    if site is not None:
        builder(site, resting)
