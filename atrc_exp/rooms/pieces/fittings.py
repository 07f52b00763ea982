"""What belongs to the walls: doors, windows, blinds, curtains, pictures, mirrors, boards, towels, lamps.

The site of a hung thing is its rectangle on the wall: x about 0, z from 0 to its height, y out of the wall.
"""

import numpy as np

from atrc_exp.rooms.pieces import props
from atrc_exp.rooms.plans.room import Room
from atrc_exp.rooms.plans.scene import Light, Site, between, turn
from atrc_exp.rooms.render.materials import hsv


def shell(room: Room, wet: bool) -> None:
    """Floor, ceiling, four walls with skirting boards; now and then a pillar or a beam."""
    rng, look = room.rng, room.look
    w, d, h, thick = room.width, room.depth, room.height, 0.1
    world = Site(room, np.eye(3), np.zeros(3), w, d, h)
    world.thing("floor").box(look.floor(wet), (-thick, w + thick), (-thick, d + thick), (-thick, 0))
    world.thing("ceiling").box(look.white(), (-thick, w + thick), (-thick, d + thick), (h, h + thick))
    paint, skirting = look.wall(wet), look.white(0.2)
    accent = int(rng.integers(4)) if rng.random() < 0.35 else -1
    for wall in range(4):
        length = room.wall_length(wall)
        site = room.wall_site(wall, length / 2, length, 0.1, h)
        it = site.thing("wall")
        it.box(look.wall(wet) if wall == accent else paint, (-length / 2, length / 2), (-thick, 0), (0, h))
        it.box(skirting, (-length / 2, length / 2), (0, 0.012), (0, 0.09))
    if rng.random() < 0.2:
        pillar = room.against_wall(rng.uniform(0.3, 0.6), rng.uniform(0.15, 0.35), h, corner=rng.random() < 0.5)
        if pillar:
            box = (-pillar.width / 2, pillar.width / 2), (0, pillar.depth), (0, h)
            pillar.thing("otherstructure").box(paint if rng.random() < 0.5 else look.wall(False), *box)
    if rng.random() < 0.15:
        x = rng.uniform(0.3, 0.7) * w
        world.thing("otherstructure").box(look.wood(), (x, x + 0.2), (0, d), (h - 0.22, h))


def ceiling_light(room: Room) -> None:
    """One or two fittings below the ceiling: a disc, a pendant or a long tube."""
    rng = room.rng
    power = np.array([1.0, rng.uniform(0.82, 0.98), rng.uniform(0.6, 0.98)]) * rng.uniform(2.5, 5.0)
    count = 2 if max(room.width, room.depth) > 4.6 else 1
    for number in range(count):
        share = (number + 0.5) / count
        at = (
            room.width * (share if room.width > room.depth else 0.5),
            room.depth * (0.5 if room.width > room.depth else share),
        )
        site = Site(room, np.eye(3), np.array([*at, room.height]), 1, 1, 1)
        it, glow = site.thing("lamp"), room.look.pattern("paint", (hsv(0.1, 0.1, 1.0),) * 3, 1.0, glow=1.5)
        kind, drop = rng.integers(3), 0.1
        if kind == 0:
            it.cylinder(glow, (0, 0), rng.uniform(0.14, 0.22), (-0.08, 0), top=1.1)
        elif kind == 1:
            drop = rng.uniform(0.3, 0.6)
            it.rod(room.look.dark(), (0, 0, -drop), (0, 0, 0), 0.008)
            it.cylinder(glow, (0, 0), 0.2, (-drop - 0.15, -drop + 0.05), top=0.5)
            drop += 0.17
        else:
            it.box(room.look.white(), (-0.65, 0.65), (-0.1, 0.1), (-0.05, 0))
            it.box(glow, (-0.6, 0.6), (-0.07, 0.07), (-0.065, -0.05))
        site.light((0, 0, -drop - 0.04), power / count, 0.25)


def door(site: Site) -> None:
    """A closed leaf with panels and a handle at 1 m, in a frame that fills the site."""
    rng, look, it = site.rng, site.look, site.thing("door")
    frame = look.white(0.2) if rng.random() < 0.6 else look.wood(upright=True)
    leaf = frame if rng.random() < 0.5 else (look.white(0.2) if rng.random() < 0.4 else look.wood(upright=True))
    w, h = site.width / 2, site.height
    for side in (-1, 1):
        it.box(frame, between(side * w, side * (w - 0.08)), (0, 0.05), (0, h))
    it.box(frame, (-w + 0.08, w - 0.08), (0, 0.05), (h - 0.08, h))
    w, h = w - 0.08, h - 0.08
    it.box(leaf, (-w, w), (0, 0.02), (0.005, h))
    rows, columns = ((0.15, 0.45), (0.53, 0.92)), rng.integers(1, 3)
    if rng.random() < 0.75:
        step = 2 * w / columns
        for column in range(columns):
            for z0, z1 in rows:
                x0 = -w + column * step
                it.box(leaf, (x0 + 0.1, x0 + step - 0.1), (0.02, 0.032), (z0 * h, z1 * h))
    knob, metal = rng.choice([-1, 1]) * (w - 0.07), look.metal(0.7)
    it.rod(metal, (knob, 0.02, 1.0), (knob, 0.07, 1.0), 0.014)
    it.rod(metal, (knob, 0.07, 1.0), (knob - np.sign(knob) * 0.1, 0.07, 1.0), 0.012)


def window(room: Room, private: bool = False) -> None:
    """A window with daylight, behind curtains, blinds, both or none."""
    rng, look = room.rng, room.look
    z = rng.uniform(1.2, 1.4) if private else rng.uniform(0.8, 1.05)
    w, h = (
        (rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.8)) if private else (rng.uniform(0.9, 2.0), rng.uniform(1.0, 1.35))
    )
    dressed = str(rng.choice(["curtain", "blinds", "both", "none"], p=[0.33, 0.37, 0.12, 0.18]))
    margin = 0.35 if dressed in ("curtain", "both") else 0.08
    site = room.hang(w + 2 * margin, min(h, room.height - z - 0.12) + 0.12, z)
    if site is None:
        return
    h = site.height - 0.12
    it, frame = site.thing("window"), look.white(0.2) if rng.random() < 0.7 else look.wood()
    sky = hsv(rng.uniform(0.52, 0.62), rng.uniform(0.02, 0.3), 1.0)
    view = (
        sky,
        hsv(rng.uniform(0.2, 0.36), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.6)),
        hsv(0.08, 0.2, rng.uniform(0.3, 0.6)),
    )
    day = rng.uniform(0.7, 1.6)
    pane = look.pattern("outdoor", view, 1.0, glow=day).fitted(w, h)
    it.box(pane, (-w / 2, w / 2), (0, 0.01), (0, h))
    bars = int(rng.integers(1, 4))
    for x in (*np.linspace(-w / 2, w / 2, bars + 1),):
        it.box(frame, (x - 0.03, x + 0.03), (0, 0.05), (-0.03, h + 0.03))
    for z in (0.0, h, *((0.5 * h,) if rng.random() < 0.4 else ())):
        it.box(frame, (-w / 2, w / 2), (0, 0.05), (z - 0.03, z + 0.03))
    it.box(frame, (-w / 2 - 0.05, w / 2 + 0.05), (0, 0.12), (-0.06, -0.03))
    closed = 0.0
    if dressed in ("blinds", "both"):
        closed = rng.uniform(0.25, 1.0)
        blinds(site, w, h, closed)
    if dressed in ("curtain", "both"):
        to_floor = rng.random() < 0.45
        if to_floor:  # no furniture in front of it
            room.block(site, 0.0)
        curtains(site, w, h, to_floor)
    at = site.rotation @ [0, 0.22, h / 2 * (1 - closed * 0.6)] + site.origin
    power = np.array([0.85, 0.95, 1.1]) * day * w * h * (1 - 0.7 * closed) * 1.7
    half_height = np.array([0, 0, h / 2.4 * (1 - closed * 0.6)])
    room.lights.append(Light(at, site.rotation @ [w / 2.2, 0, 0], half_height, power, site.rotation @ [0, 1.0, 0]))


def blinds(site: Site, w: float, h: float, closed: float) -> None:
    """Horizontal slats over the upper part of a window, or vertical ones over all of it."""
    rng, it = site.rng, site.thing("blinds")
    slat = site.look.white() if rng.random() < 0.7 else site.look.wood()
    if rng.random() < 0.25:
        for x in np.arange(-w / 2, w / 2, 0.09):
            it.box(slat, (x, x + 0.1), (0.075, 0.08), (0.0 - 0.05, h + 0.06), turn(rng.normal(0.25, 0.03)))
        return
    it.box(slat, (-w / 2 - 0.03, w / 2 + 0.03), (0.055, 0.11), (h + 0.02, h + 0.08))
    angle = rng.uniform(0.2, 0.5)
    c, s = np.cos(angle), np.sin(angle)
    lean = np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])
    for z in np.arange(h, h * (1 - closed), -0.042):
        it.box(slat, (-w / 2 - 0.02, w / 2 + 0.02), (0.08, 0.084), (z - 0.025, z + 0.025), lean)


def curtains(site: Site, w: float, h: float, to_floor: bool) -> None:
    """Two lengths of cloth from a rod down to below the sill or to the floor."""
    rng, look, it = site.rng, site.look, site.thing("curtain")
    cloth = look.fabric(("weave", "weave", "stripes", "flowers", "plaid"), 0.5, value=(0.3, 0.95))
    bottom = -float(site.origin[2]) + 0.03 if to_floor else -0.2
    drawn = w * rng.uniform(0.12, 0.38)
    top = h + 0.1
    it.rod(look.metal(), (-w / 2 - 0.36, 0.17, top), (w / 2 + 0.36, 0.17, top), 0.014)
    for side in (-1, 1):
        x = between(side * (w / 2 + 0.3), side * (w / 2 + 0.05 - drawn))
        it.sheet(cloth, x, (0.13, 0.21), (bottom, top), max(2, int((x[1] - x[0]) / 0.11)))


def picture(site: Site) -> None:
    """A framed picture, now and then with a mount, that fills the site."""
    rng, look, it = site.rng, site.look, site.thing("picture")
    w, h, edge = site.width / 2, site.height, rng.uniform(0.015, 0.05)
    frame = look.wood() if rng.random() < 0.5 else (look.dark() if rng.random() < 0.5 else look.metal(0.7))
    it.box(frame, (-w, w), (0, 0.025), (0, h))
    mat = rng.uniform(0.0, 0.22) * min(site.width, h) if rng.random() < 0.5 else 0.0
    if mat:
        it.box(look.white(), (-w + edge, w - edge), (0.025, 0.027), (edge, h - edge))
    edge += mat
    first, second, third = (look.any_colour((0.1, 0.9), (0.15, 0.95)) for _ in range(3))
    art = look.pattern(
        str(rng.choice(["landscape", "blocks", "portrait", "flowers", "marble"])),
        (first, second, third),
        1.0,
        sheen=0.1,
    )
    it.box(art.fitted(2 * (w - edge), h - 2 * edge), (-w + edge, w - edge), (0.027, 0.03), (edge, h - edge))


def mirror(site: Site) -> None:
    """A framed mirror that fills the site."""
    rng, look, it = site.rng, site.look, site.thing("mirror")
    w, h, edge = site.width / 2, site.height, rng.uniform(0.02, 0.06)
    frame = look.wood() if rng.random() < 0.5 else look.metal()
    it.box(frame, (-w, w), (0, 0.03), (0, h))
    glass = look.pattern("paint", ((0.75, 0.8, 0.8),) * 3, 1.0, sheen=0.3, mirror=0.85)
    it.box(glass, (-w + edge, w - edge), (0.03, 0.033), (edge, h - edge))


def whiteboard(site: Site) -> None:
    """A board with writing and a tray for pens that fills the site."""
    look, it = site.look, site.thing("whiteboard")
    w, h = site.width / 2, site.height
    it.box(look.metal(0.7), (-w, w), (0, 0.025), (0, h))
    ink = look.pattern("scribble", ((0.93, 0.95, 0.97), (0.1, 0.2, 0.6), (0.75, 0.1, 0.1)), 1.0, sheen=0.4, mirror=0.05)
    it.box(ink.fitted(2 * w - 0.06, h - 0.06), (-w + 0.03, w - 0.03), (0.025, 0.028), (0.03, h - 0.03))
    it.box(look.metal(0.7), (-w * 0.6, w * 0.6), (0.025, 0.09), (0.0, 0.02))


def notices(site: Site) -> None:
    """Sheets of paper pinned to the wall."""
    rng, look, it = site.rng, site.look, site.thing("paper")
    for _ in range(rng.integers(1, 6)):
        x, z = rng.uniform(-0.5, 0.5) * (site.width - 0.22), rng.uniform(0, site.height - 0.3)
        base = look.any_colour((0.0, 0.3), (0.85, 1.0))
        sheet = look.pattern("text", (base, (0.2, 0.2, 0.3), (0.2, 0.2, 0.3)), 1.0).fitted(0.21, 0.29)
        y = rng.uniform(0.002, 0.006)
        it.box(sheet, (x - 0.105, x + 0.105), (0, y), (z, z + 0.29))


def towel_rail(site: Site) -> None:
    """A rod with one or two folded towels; the site's height is the towels' drop."""
    rng, look = site.rng, site.look
    w, h = site.width / 2, site.height
    site.thing("otherprop").rod(look.metal(0.8), (-w, 0.07, h), (w, 0.07, h), 0.012)
    for side in (-1, 1):
        if rng.random() < 0.75:
            it, cloth = (
                site.thing("towel"),
                look.fabric(("carpet", "stripes", "carpet"), 0.25, value=(0.35, 0.98)),
            )
            x0, drop = (-w + 0.02 if side < 0 else 0.02), rng.uniform(0.0, 0.3) * h
            it.cushion(cloth, (x0, x0 + w - 0.05), (0.045, 0.1), (drop, h + 0.03), 0.15)


def clothes_hooks(site: Site) -> None:
    """A board with pegs and garments on it; the site's height is their drop."""
    rng, look, h = site.rng, site.look, site.height
    board = site.thing("otherstructure")
    board.box(look.wood(), (-site.width / 2, site.width / 2), (0, 0.02), (h - 0.1, h))
    clothes = site.thing("clothes")
    for x in np.arange(-site.width / 2 + 0.2, site.width / 2 - 0.1, 0.3):
        if rng.random() < 0.85:
            cloth, drop = (
                look.fabric(("weave", "stripes", "plaid", "weave"), 0.25),
                rng.uniform(0.0, 0.35) * h,
            )
            clothes.cushion(cloth, (x - 0.2, x + 0.2), (0.03, 0.17), (drop, h - 0.04), 0.45, turn(rng.normal(0, 0.2)))
            if rng.random() < 0.6:  # a sleeve
                clothes.rod(cloth, (x + 0.14, 0.12, h - 0.2), (x + 0.2, 0.14, 0.5 * h), 0.05)


def wall_shelf(site: Site) -> None:
    """A single board with books and odds and ends, at the site's z = 0."""
    it = site.thing("shelves")
    it.box(site.look.wood(), (-site.width / 2, site.width / 2), (0, 0.2), (0.0, 0.03))
    places = site.inner(0, 0, 0, site.width, 0.2, 0.3)
    for place in [
        places.inner(x, 0.01, 0.03, site.width / 2 - 0.04, 0.18, 0.28) for x in (-site.width / 4, site.width / 4)
    ]:
        kind = (props.book_row, props.knick_knack, props.book_pile)[site.rng.integers(3)]
        kind(place)


def radiator(site: Site) -> None:
    """Upright ribs, 7 cm apart, up to the site's height."""
    it, paint = site.thing("otherstructure"), site.look.white(0.3)
    for x in np.arange(-site.width / 2, site.width / 2 - 0.04, 0.07):
        it.box(paint, (x, x + 0.055), (0.03, 0.1), (0.0, site.height))
    it.box(paint, (-site.width / 2, site.width / 2), (0.05, 0.08), (0.04, 0.08))


def fireplace(site: Site) -> None:
    """Two pillars and a lintel about a black opening, with a mantelpiece and things on it."""
    look, it = site.look, site.thing("otherstructure")
    w, d, h = site.width / 2, site.depth, site.height
    stone = look.stone() if site.rng.random() < 0.5 else look.wall(False)
    black = look.pattern("plaster", (hsv(0, 0, 0.06), hsv(0, 0, 0.12), hsv(0, 0, 0.1)), 0.5)
    for side in (-1, 1):
        it.box(stone, between(side * w, side * w * 0.6), (0, d), (0, h))
    it.box(stone, (-w * 0.6, w * 0.6), (0, d), (h * 0.62, h))
    it.box(black, (-w * 0.6, w * 0.6), (0, 0.05), (0, h * 0.62))
    it.box(look.wood(), (-w - 0.05, w + 0.05), (0, d + 0.06), (h, h + 0.05))
    props.clutter(site, h + 0.05, (props.knick_knack, props.knick_knack, props.book_pile), 4, 0.5)


def socket(site: Site) -> None:
    """A light switch or socket: part of no class, left unlabelled."""
    site.thing("unlabelled").box(site.look.white(0.3), (-0.04, 0.04), (0, 0.012), (0, 0.12))
