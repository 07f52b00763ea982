"""Furniture to sleep, sit, eat and work at. Each builder fills the `Site` it is given."""

import numpy as np

from atrc_exp.rooms.pieces import lamps, props
from atrc_exp.rooms.pieces.cases import fronts, legs
from atrc_exp.rooms.plans.room import Seat
from atrc_exp.rooms.plans.scene import Site, Thing, between, spread, tilt
from atrc_exp.rooms.render.materials import Material


def bed(site: Site) -> None:
    """Headboard at the wall, mattress, blanket, pillows; sometimes clothes or a bag on it."""
    rng, look = site.rng, site.look
    w, d, it = site.width / 2, site.depth, site.thing("bed")
    wood, top = look.wood(), rng.uniform(0.48, 0.62)
    it.box(wood, (-w, w), (0, 0.06), (0, rng.uniform(0.8, 1.2)))
    it.box(wood, (-w, w), (0.06, d), (0.12, 0.3))
    legs(it, wood, w, (0.06, d), 0.12, 0.08)
    if rng.random() < 0.4:
        it.box(wood, (-w, w), (d - 0.05, d), (0.1, top + rng.uniform(0.05, 0.25)))
    linen = look.fabric(("weave", "weave", "stripes"), value=(0.6, 0.98))
    it.cushion(linen, (-w + 0.02, w - 0.02), (0.07, d - 0.05), (0.26, top), 0.12)
    cover = look.fabric(("weave", "stripes", "plaid", "flowers", "checker", "weave"), 0.5, value=(0.15, 0.95))
    start = rng.uniform(0.5, 0.9)
    it.cushion(cover, (-w - 0.03, w + 0.03), (start, d - 0.03), (top - rng.uniform(0.2, 0.36), top + 0.05), 0.13)
    number = 2 if site.width > 1.25 else 1
    for place in spread(site, top - 0.02, number * int(rng.integers(1, 3)) if site.width > 1.25 else 1):
        width = min(place.width - 0.02, rng.uniform(0.5, 0.7))
        props.pillow(place.inner(0, 0.05, 0, width, rng.uniform(0.35, 0.45)), lean=rng.uniform(0.35, 1.2))
    if rng.random() < 0.3:
        kind = props.clothes_heap if rng.random() < 0.7 else props.bag
        kind(site.inner(rng.uniform(-0.2, 0.2), d * 0.62, top + 0.045, 0.6, 0.5))


def _seat_legs(it: Thing, site: Site, frame: Material, w: float, d: float, seat: float) -> None:
    kind = site.rng.integers(3)
    if kind == 0:
        legs(it, frame, w, (0.02, d), seat, 0.04)
    elif kind == 1:
        for x in (-w + 0.03, w - 0.03):
            for y in (0.05, d - 0.03):
                it.rod(frame, (x, y, 0.02), (x * 0.9, y, seat), 0.015)
    else:  # star foot on castors
        it.cylinder(frame, (0, d / 2), 0.03, (0.08, seat))
        for angle in np.arange(5) * 2 * np.pi / 5:
            it.rod(frame, (0, d / 2, 0.1), (0.26 * np.cos(angle), d / 2 + 0.26 * np.sin(angle), 0.05), 0.022)


def chair(site: Site, before: str = "") -> None:
    """Back at y = 0, facing +y; wooden, upholstered or on castors, with or without arms; `before` as in `Seat`."""
    rng, look, it = site.rng, site.look, site.thing("chair")
    w, d, seat = site.width / 2, site.depth, rng.uniform(0.43, 0.48)
    back = seat + rng.uniform(0.35, 0.55)
    frame = look.wood(upright=True) if rng.random() < 0.6 else look.metal()
    soft = rng.random() < 0.5
    cover = look.fabric(("weave", "stripes", "weave", "plaid"), 0.2) if soft else frame
    _seat_legs(it, site, frame, w, d, seat - 0.04)
    if soft:
        it.cushion(cover, (-w, w), (0, d), (seat - 0.05, seat + 0.03), 0.25)
        it.cushion(cover, (-w, w), (0, 0.08), (seat + 0.06, back), 0.3)
        it.box(frame, (-0.03, 0.03), (0.0, 0.03), (seat - 0.04, seat + 0.3))
    else:
        it.box(cover, (-w, w), (0, d), (seat - 0.04, seat))
        for x in (-w, w - 0.035):
            it.box(frame, (x, x + 0.035), (0, 0.035), (seat, back))
        slats = int(rng.integers(2, 5))
        for z in np.linspace(seat + 0.15, back - 0.06, slats):
            it.box(frame, (-w, w), (0.005, 0.025), (z, z + 0.055))
    if rng.random() < 0.35:
        for side in (-1, 1):
            it.box(frame, between(side * w, side * (w - 0.04)), (0.02, d * 0.8), (seat + 0.2, seat + 0.23))
            it.box(frame, between(side * w, side * (w - 0.04)), (d * 0.7, d * 0.75), (seat, seat + 0.2))
    site.room.seats.append(Seat(site.inner(0, 0.21, 0, 0.5, 0.5), seat + 0.02 * soft, before))
    if rng.random() < 0.12:
        props.person(site.inner(0, 0.1, 0, 0.5, d - 0.25), seated=True)
    elif rng.random() < 0.1:
        props.clothes_heap(site.inner(0, 0.1, seat + 0.02, 0.35, d - 0.15))


def stool(site: Site) -> None:
    """Round wooden stool on four splayed legs, 0.45 to 0.7 m high."""
    it, wood = site.thing("stool"), site.look.wood()
    seat = site.rng.uniform(0.45, 0.7)
    it.cylinder(wood, (0, site.depth / 2), 0.17, (seat - 0.04, seat))
    for angle in np.arange(4) * np.pi / 2 + 0.8:
        foot = (0.17 * np.cos(angle), site.depth / 2 + 0.17 * np.sin(angle), 0.02)
        it.rod(wood, foot, (0.6 * foot[0], site.depth / 2 + 0.6 * (foot[1] - site.depth / 2), seat - 0.03), 0.017)


def sofa(site: Site) -> None:
    """Seat cushions between two arms, back cushions, loose pillows; a single seat makes an armchair."""
    rng, look, it = site.rng, site.look, site.thing("sofa")
    cloth = (
        look.leather() if rng.random() < 0.3 else look.fabric(("weave", "weave", "stripes", "flowers", "plaid"), 0.4)
    )
    w, d, arm, seat = site.width / 2, site.depth, rng.uniform(0.12, 0.24), rng.uniform(0.38, 0.46)
    back = rng.uniform(0.75, 0.92)
    it.cushion(cloth, (-w, w), (0, d - 0.04), (0.06, seat - 0.1), 0.1)
    it.cushion(cloth, (-w + 0.04, w - 0.04), (0, 0.26), (0.1, back), 0.15)
    for side in (-1, 1):
        it.cushion(cloth, between(side * w, side * (w - arm)), (0, d), (0.04, seat + rng.uniform(0.16, 0.2)), 0.18)
    seats = max(1, round((site.width - 2 * arm) / 0.65))
    each = (site.width - 2 * arm) / seats
    for number in range(seats):
        x = -w + arm + number * each
        it.cushion(cloth, (x + 0.005, x + each - 0.005), (0.18, d + 0.01), (seat - 0.14, seat), 0.2)
        it.cushion(cloth, (x + 0.01, x + each - 0.01), (0.2, 0.42), (seat - 0.04, back - 0.02), 0.35, tilt(-0.1))
        site.room.seats.append(Seat(site.inner(x + each / 2, 0.52, 0, 0.5, 0.5), seat, ""))
        if rng.random() < 0.45:
            place = site.inner(
                x + each / 2 + rng.normal(0, 0.05),
                0.36,
                seat - 0.01,
                rng.uniform(0.38, 0.5),
                0.4,
                angle=rng.normal(0, 0.25),
            )
            props.pillow(place, lean=rng.uniform(0.25, 0.6))
    legs(it, look.dark(), w - 0.05, (0.05, d - 0.08), 0.06, 0.05)


def _chairs_around(site: Site, rows: tuple[float, ...]) -> None:
    """Chairs drawn up to both long sides of a table that fills the site."""
    for y, angle in zip((-0.22, site.depth + 0.22), (0.0, np.pi), strict=True):
        for x in rows:
            if site.rng.random() < 0.85:
                away = site.rng.uniform(0.0, 0.2) * (-1 if angle == 0 else 1)
                place = site.inner(x, y + away, 0, 0.44, 0.44, angle=angle + site.rng.normal(0, 0.12))
                chair(place, "table")


def table(site: Site) -> None:
    """Dining or meeting table with chairs on its long sides; they reach 0.45 m beyond front and back."""
    rng, it = site.rng, site.thing("diningtable")
    wood, w, d, top = site.look.wood(), site.width / 2, site.depth, rng.uniform(0.72, 0.77)
    if rng.random() < 0.25 and site.width < 1.3:
        radius = min(w, d / 2)
        it.cylinder(wood, (0, d / 2), radius, (top - 0.03, top))
        it.cylinder(wood, (0, d / 2), 0.06, (0.03, top - 0.03))
        it.cylinder(wood, (0, d / 2), 0.28, (0, 0.03))
    else:
        it.box(wood, (-w, w), (0, d), (top - 0.035, top))
        it.box(wood, (-w + 0.08, w - 0.08), (0.08, d - 0.08), (top - 0.1, top - 0.035))
        legs(it, wood, w - 0.03, (0.03, d - 0.03), top - 0.035, rng.uniform(0.05, 0.09))
    things = (props.knick_knack, props.papers, props.book_pile, props.knick_knack, props.bag, props.carton)
    props.clutter(site.inner(0, 0.15, 0, site.width * 0.7, d - 0.3), top, things, max(1, int(site.width / 0.45)), 0.55)
    _chairs_around(site, tuple(np.linspace(-w + 0.35, w - 0.35, max(1, int(site.width / 0.6)))))


def coffee_table(site: Site) -> None:
    """Low table, sometimes with a shelf below, and things on it."""
    rng, it = site.rng, site.thing("table")
    wood, w, d, top = site.look.wood(), site.width / 2, site.depth, rng.uniform(0.36, 0.48)
    it.box(wood, (-w, w), (0, d), (top - 0.04, top))
    legs(it, wood, w, (0, d), top - 0.04, 0.06)
    if rng.random() < 0.5:
        it.box(wood, (-w + 0.03, w - 0.03), (0.03, d - 0.03), (0.12, 0.14))
    props.clutter(site, top, (props.book_pile, props.knick_knack, props.papers), max(1, int(site.width / 0.35)), 0.6)


def desk(site: Site) -> None:
    """Top on a drawer block and a side panel, a computer, papers, a lamp; the chair stands before it."""
    rng, it = site.rng, site.thing("desk")
    wood, w, d, top = site.look.wood(), site.width / 2, site.depth - 0.5, rng.uniform(0.71, 0.76)
    it.box(wood, (-w, w), (0, d), (top - 0.03, top))
    side = rng.choice([-1, 1])
    it.box(wood, between(-side * w, -side * (w - 0.03)), (0.02, d - 0.02), (0, top - 0.03))
    it.box(wood, (-w + 0.03, w - 0.03), (0.03, 0.05), (0.25, top - 0.03))
    block = site.inner(side * (w - 0.2), 0, 0, 0.4, d - 0.03)
    it.box(wood, between(side * w, side * (w - 0.4)), (0.02, d - 0.05), (0.0, top - 0.03))
    fronts(block.thing("desk"), block, wood, 1, 3, (0.05, top - 0.04))
    surface = site.inner(0, 0, 0, site.width, d)
    if rng.random() < 0.75:
        props.computer(surface.inner(-side * 0.12 * site.width, 0.03, top, 0.55, d - 0.1))
    props.clutter(
        surface.inner(side * site.width * 0.33, 0.03, 0, site.width * 0.3, d * 0.6),
        top,
        (lamps.table_lamp, props.book_pile, props.papers, props.knick_knack),
        1,
        0.9,
    )
    props.clutter(
        surface.inner(-side * site.width * 0.41, 0.03, 0, 0.17, d * 0.6),
        top,
        (props.book_pile, props.knick_knack),
        1,
        0.5,
    )
    if rng.random() < 0.85:
        place = site.inner(-side * 0.15 * site.width, d + 0.42, 0, 0.46, 0.44, angle=np.pi + rng.normal(0, 0.35))
        chair(place, "table")


def ottoman(site: Site) -> None:
    """Upholstered footstool, 0.42 m high."""
    cloth = site.look.leather() if site.rng.random() < 0.5 else site.look.fabric(("weave", "plaid"), 0.3)
    across = (-site.width / 2, site.width / 2)
    site.thing("otherfurniture").cushion(cloth, across, (0, site.depth), (0.0, 0.42), 0.22)
