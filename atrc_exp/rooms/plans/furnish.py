"""Kinds of rooms: how large they are, what is placed in them, and in which order."""

from collections.abc import Callable

import numpy as np

from atrc_exp.rooms.pieces import cases, fittings, furniture, lamps, props, wet
from atrc_exp.rooms.plans.population import populate, stock
from atrc_exp.rooms.plans.room import Room
from atrc_exp.rooms.plans.scene import Site

Builder = Callable[[Site], None]


def _stand(
    room: Room, builder: Builder, width: float, depth: float, height: float, chance: float = 1.0, **where
) -> Site | None:
    """Build furniture against a wall with the given chance, if there is a place for it."""
    if room.rng.random() >= chance:
        return None
    site = room.against_wall(width, depth, height, **where)
    if site is not None:
        builder(site)
        room.fronts.append(site)
    return site


def _hang(room: Room, builder: Builder, width: float, height: float, z: float, chance: float = 1.0, **where) -> None:
    if room.rng.random() < chance:
        site = room.hang(width, height, z, **where)
        if site is not None:
            builder(site)


def _open(
    room: Room,
    builder: Builder,
    width: float,
    depth: float,
    height: float,
    chance: float = 1.0,
    overhang: float = 0.0,
    gap: float = 0.3,
) -> None:
    """Build something in the middle of the room; `overhang` metres before and behind it are claimed too."""
    if room.rng.random() < chance:
        site = room.in_the_open(width, depth + 2 * overhang, height, gap)
        if site is not None:
            builder(site.inner(0, overhang, 0, width, depth, height))


def _mat(room: Room, chance: float, small: bool = False) -> None:
    rng = room.rng
    if rng.random() < chance:
        w, d = (
            (rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.6)) if small else (rng.uniform(1.2, 2.4), rng.uniform(0.9, 1.7))
        )
        w, d = min(w, room.width - 0.6), min(d, room.depth - 0.6)
        x, y = rng.uniform(0.35, 0.65) * room.width, rng.uniform(0.35, 0.65) * room.depth
        props.floor_mat(Site(room, np.eye(3), np.array([x, y - d / 2, 0.0]), w, d, 0.02))


def _beside(room: Room, site: Site, builder: Builder, width: float, depth: float, height: float, side: int) -> None:
    """Build furniture at the same wall, left (-1) or right (+1) of a site, if there is a place for it."""
    place = site.inner(side * (site.width / 2 + width / 2 + 0.06), 0, 0, width, depth, height)
    if room.claim(place):
        builder(place)


def _common(room: Room) -> None:
    """Small things that any room may have, last of all."""
    rng = room.rng
    for _ in range(rng.integers(1, 5)):
        _hang(room, fittings.picture, rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.75), rng.uniform(1.25, 1.55))
    _hang(room, fittings.socket, 0.08, 0.12, 1.1, 0.5)
    for _ in range(2):
        _stand(room, props.carton, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.45), 0.3)
        _stand(room, props.bag, 0.45, 0.3, 0.5, 0.25)
    _stand(room, lambda site: props.plant(site, rng.uniform(0.7, 1.3)), 0.5, 0.5, 1.3, 0.2, corner=True)
    _stand(room, props.clothes_heap, 0.7, 0.6, 0.3, 0.12)
    _open(room, props.person, 0.6, 0.5, 1.8, 0.12, gap=0.05)


def bedroom(room: Room) -> None:
    """A bed with night stands, and some of dresser, wardrobe, desk, bookshelf, lamp, chair."""
    rng = room.rng
    width = rng.choice([1.0, 1.4, 1.6, 1.8])
    bed = _stand(room, furniture.bed, width, rng.uniform(1.95, 2.1), 1.2)
    if bed is not None:
        for side in (-1, 1):
            if rng.random() < 0.85:
                _beside(
                    room,
                    bed,
                    cases.night_stand,
                    rng.uniform(0.4, 0.55),
                    rng.uniform(0.36, 0.45),
                    1.0,
                    side,
                )
    dresser = _stand(room, cases.dresser, rng.uniform(0.8, 1.5), rng.uniform(0.42, 0.5), 1.1, 0.8)
    if dresser is not None and dresser.wall is not None:
        wall, s = dresser.wall
        _hang(room, fittings.mirror, rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.85), 1.2, 0.6, wall=wall, s=s)
    _stand(room, cases.wardrobe, rng.uniform(0.9, 1.6), 0.55, rng.uniform(1.8, 2.1), 0.4, corner=True)
    _stand(room, furniture.desk, rng.uniform(1.1, 1.5), 1.1, 1.1, 0.4, reserve=0.3)
    _stand(room, cases.bookshelf, rng.uniform(0.6, 1.0), 0.3, rng.uniform(1.2, 2.0), 0.35)
    _stand(room, lamps.floor_lamp, 0.5, 0.5, 1.8, 0.2, corner=True)
    _stand(room, furniture.chair, 0.45, 0.5, 0.95, 0.3)
    _hang(room, fittings.clothes_hooks, rng.uniform(0.7, 1.2), 0.9, 0.85, 0.4)
    _hang(room, fittings.wall_shelf, rng.uniform(0.6, 1.1), 0.4, 1.4, 0.3)
    _mat(room, 0.5)


def living_room(room: Room) -> None:
    """A sofa with a coffee table, a television, and some of armchair, bookshelf, cabinet, fireplace."""
    rng = room.rng
    sofa = _stand(room, furniture.sofa, rng.choice([1.5, 1.9, 2.3]), rng.uniform(0.82, 0.95), 0.95, reserve=0.9)
    if sofa is not None:
        place = sofa.inner(0, sofa.depth + 0.35, 0, rng.uniform(0.8, 1.2), rng.uniform(0.45, 0.6), 0.6)
        if rng.random() < 0.6:
            _rug_under(place)
        if rng.random() < 0.85 and room.claim(place):
            furniture.coffee_table(place)
        for side in (-1, 1):
            if rng.random() < 0.45:
                kind = lamps.floor_lamp if rng.random() < 0.6 else cases.night_stand
                _beside(room, sofa, kind, 0.46, 0.46, 1.8, side)
    _stand(room, cases.television_stand, rng.uniform(1.0, 1.5), 0.45, 1.35, 0.85)
    _stand(room, fittings.fireplace, rng.uniform(1.2, 1.6), 0.35, rng.uniform(1.05, 1.25), 0.25)
    _stand(room, furniture.sofa, rng.uniform(0.85, 1.0), 0.85, 0.95, 0.5)
    _stand(room, cases.bookshelf, rng.uniform(0.8, 1.6), 0.3, rng.uniform(1.0, 2.1), 0.6)
    _stand(room, cases.low_cabinet, rng.uniform(0.9, 1.5), 0.42, rng.uniform(0.7, 0.95), 0.4)
    _stand(room, furniture.chair, 0.5, 0.5, 0.95, 0.4)
    _open(room, furniture.ottoman, rng.uniform(0.5, 0.8), 0.5, 0.45, 0.25)
    _hang(room, fittings.wall_shelf, rng.uniform(0.7, 1.2), 0.4, 1.45, 0.3)
    _hang(room, fittings.mirror, rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.9), 1.1, 0.25)


def _rug_under(table: Site) -> None:
    rng = table.rng
    w, d = table.width + rng.uniform(0.4, 1.0), table.depth + rng.uniform(0.3, 0.6)
    props.floor_mat(table.inner(0, (table.depth - d) / 2, 0, w, d))


def kitchen(room: Room) -> None:
    """Base cabinets with sink and stove under wall cabinets, a refrigerator, mostly a table with chairs."""
    rng = room.rng
    wall = int(rng.integers(4))
    length = room.wall_length(wall)
    run = min(length - 0.9, rng.uniform(1.8, 3.2))
    site = _stand(room, wet.kitchen_run, run, 0.62, 0.95, wall=wall)
    if site is not None:
        for side in (-1, 1):
            _beside(room, site, wet.refrigerator, 0.7, 0.68, rng.uniform(1.6, 1.85), side)
            if rng.random() < 0.7:
                break
        z = rng.uniform(1.4, 1.5)
        cupboard = site.inner(
            rng.choice([-1, 1]) * run * 0.2, 0, z, run * rng.uniform(0.5, 0.6), 0.35, rng.uniform(0.6, 0.75)
        )
        wet.wall_cabinets(cupboard)
        room.hung.append((wall, 0.0, length, z, z + 0.8))
    _stand(room, wet.kitchen_run, rng.uniform(1.2, 1.8), 0.62, 0.95, 0.45)
    _open(room, furniture.table, rng.uniform(0.9, 1.3), rng.uniform(0.75, 0.9), 1.0, 0.7, overhang=0.55)
    _stand(room, cases.low_cabinet, rng.uniform(0.8, 1.2), 0.42, 0.85, 0.3)
    _stand(room, cases.shelves, rng.uniform(0.7, 1.0), 0.4, 1.7, 0.25)
    _stand(room, furniture.stool, 0.42, 0.42, 0.75, 0.4)
    _hang(room, fittings.notices, 0.6, 0.5, 1.3, 0.3)
    _mat(room, 0.35, small=True)


def bathroom(room: Room) -> None:
    """Toilet, wash basin with mirror, mostly a bathtub, towels, a mat."""
    rng = room.rng
    _stand(room, wet.toilet, 0.6, 0.72, 0.85, reserve=0.2)
    _stand(room, wet.bathtub, rng.uniform(1.5, 1.75), 0.78, 2.1, 0.85, corner=True)
    basin = _stand(room, wet.vanity, rng.uniform(0.65, 1.2), rng.uniform(0.48, 0.55), 1.0)
    if basin is not None and basin.wall is not None:
        width, (wall, s) = min(basin.width, rng.uniform(0.5, 0.9)), basin.wall
        _hang(room, fittings.mirror, width, rng.uniform(0.6, 0.9), 1.1, wall=wall, s=s)
    _stand(room, cases.shelves, rng.uniform(0.4, 0.6), 0.3, rng.uniform(1.2, 1.6), 0.25)
    for _ in range(2):
        _hang(room, fittings.towel_rail, rng.uniform(0.5, 0.8), 0.7, rng.uniform(0.65, 0.8), 0.75)
    _hang(room, fittings.clothes_hooks, 0.7, 0.9, 0.9, 0.15)
    _mat(room, 0.75, small=True)


def office(room: Room) -> None:
    """One to three desks with computers, a whiteboard, shelves, files, sometimes a meeting table."""
    rng = room.rng
    for _ in range(rng.integers(1, 4)):
        _stand(room, furniture.desk, rng.uniform(1.2, 1.7), 1.15, 1.2, reserve=0.3)
    _hang(room, fittings.whiteboard, rng.uniform(1.0, 1.9), rng.uniform(0.8, 1.1), 1.0, 0.7)
    _stand(room, cases.bookshelf, rng.uniform(0.7, 1.2), 0.3, rng.uniform(1.0, 2.1), 0.65)
    _stand(room, cases.filing_cabinet, rng.uniform(0.42, 0.9), 0.55, rng.uniform(0.7, 1.4), 0.7)
    _open(room, furniture.table, rng.uniform(1.2, 1.8), 0.8, 1.0, 0.4, overhang=0.55)
    _stand(room, cases.shelves, rng.uniform(0.8, 1.2), 0.42, 1.8, 0.25)
    _stand(room, fittings.radiator, 1.0, 0.12, 0.6, 0.35)
    _hang(room, fittings.notices, rng.uniform(0.5, 1.1), 0.7, 1.15, 0.6)
    _hang(room, fittings.clothes_hooks, 0.7, 0.9, 0.85, 0.2)
    _open(room, props.person, 0.6, 0.5, 1.8, 0.25, gap=0.05)


def dining_room(room: Room) -> None:
    """A long table with chairs in the middle, cabinets along the walls."""
    rng = room.rng
    _open(room, furniture.table, rng.uniform(1.3, 2.2), rng.uniform(0.8, 1.0), 1.0, overhang=0.6, gap=0.1)
    _stand(room, cases.low_cabinet, rng.uniform(1.0, 1.6), 0.45, rng.uniform(0.8, 1.0))
    _stand(room, cases.wardrobe, rng.uniform(0.9, 1.2), 0.42, rng.uniform(1.6, 2.0), 0.4)
    _stand(room, furniture.sofa, rng.uniform(1.2, 1.9), 0.85, 0.95, 0.3)
    _stand(room, furniture.chair, 0.45, 0.5, 0.95, 0.5)
    _stand(room, fittings.fireplace, 1.3, 0.35, 1.1, 0.25)
    _hang(room, fittings.mirror, rng.uniform(0.6, 1.0), rng.uniform(0.6, 0.9), 1.15, 0.4)
    _open(room, props.person, 0.6, 0.5, 1.8, 0.2, gap=0.05)
    _mat(room, 0.4)


def classroom(room: Room) -> None:
    """A large whiteboard, rows of tables with chairs, shelves, notices."""
    rng = room.rng
    _hang(room, fittings.whiteboard, rng.uniform(1.6, 2.6), rng.uniform(1.0, 1.2), 0.95)
    for _ in range(2):
        _open(
            room,
            furniture.table,
            rng.uniform(1.2, 2.0),
            rng.uniform(0.6, 0.8),
            1.0,
            0.85,
            overhang=0.5,
            gap=0.1,
        )
    _stand(room, cases.low_cabinet, rng.uniform(0.9, 1.6), 0.42, 0.85, 0.5)
    _stand(room, cases.television_stand, 1.1, 0.5, 1.35, 0.3)
    _stand(room, cases.shelves, rng.uniform(0.9, 1.4), 0.4, 1.8, 0.4)
    _stand(room, fittings.radiator, 1.2, 0.12, 0.6, 0.4)
    _hang(room, fittings.notices, 1.1, 0.7, 1.2, 0.7)
    for _ in range(2):
        _open(room, props.person, 0.6, 0.5, 1.8, 0.45, gap=0.05)


def store(room: Room) -> None:
    """Racks full of boxes, cartons on the floor, hooks with clothes."""
    rng = room.rng
    for _ in range(rng.integers(2, 4)):
        _stand(room, cases.shelves, rng.uniform(0.8, 1.5), rng.uniform(0.35, 0.5), rng.uniform(1.5, 2.0))
    for _ in range(rng.integers(2, 5)):
        _stand(room, props.carton, rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.6))
    for _ in range(2):
        _hang(room, fittings.clothes_hooks, rng.uniform(0.8, 1.4), 1.0, 0.85, 0.7)
    _stand(room, wet.refrigerator, 0.65, 0.65, 1.6, 0.3)
    _stand(room, cases.wardrobe, rng.uniform(0.8, 1.2), 0.5, 1.9, 0.4)
    _open(room, furniture.table, 1.2, 0.6, 1.0, 0.25, overhang=0.5)


# builder, shares of plain and of populated rooms, shorter and longer side in metres, least and most windows, tiled
_PLANS = (
    (bedroom, (0.2, 0.1), (3.0, 3.8), (3.6, 4.6), (1, 2), False),
    (living_room, (0.18, 0.3), (3.5, 5.2), (4.4, 7.5), (1, 3), False),
    (kitchen, (0.16, 0.12), (2.8, 3.6), (3.4, 4.8), (0, 2), True),
    (bathroom, (0.15, 0.03), (2.1, 2.6), (2.5, 3.2), (0, 1), True),
    (office, (0.12, 0.16), (3.0, 4.2), (3.8, 5.5), (0, 2), False),
    (dining_room, (0.08, 0.18), (3.2, 4.0), (3.8, 5.2), (1, 2), False),
    (classroom, (0.06, 0.08), (4.5, 6.5), (6.5, 10.0), (1, 3), False),
    (store, (0.05, 0.03), (2.6, 3.4), (3.0, 4.2), (0, 1), False),
)


def furnish(rng: np.random.Generator, populated: bool = False) -> Room:
    """A furnished room of a random kind, with people, pets and bicycles if it is to be populated."""
    kind = rng.choice(len(_PLANS), p=[plan[1][populated] for plan in _PLANS])
    build, _, short, long, windows, tiled = _PLANS[kind]
    sides = rng.uniform(*short), rng.uniform(*long)
    width, depth = sides if rng.random() < 0.5 else sides[::-1]
    room = Room(rng, width, depth, rng.uniform(2.35, 2.8), populated)
    fittings.shell(room, tiled)
    fittings.ceiling_light(room)
    for _ in range(1 if rng.random() < 0.8 else 2):
        site = room.against_wall(rng.uniform(0.85, 1.05), 0.05, rng.uniform(2.0, 2.15), reserve=0.75)
        if site is not None:
            room.block(site, 0.6)
            fittings.door(site)
    for _ in range(rng.integers(windows[0], windows[1] + 1)):
        fittings.window(room, private=build is bathroom)
    if populated:
        stock(room)
    build(room)
    if populated:
        populate(room)
    _common(room)
    return room
