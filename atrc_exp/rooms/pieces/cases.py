"""Furniture that holds things: chests, cabinets, bookcases, racks. Each builder fills its `Site`."""

import numpy as np

from atrc_exp.rooms.pieces import lamps, props
from atrc_exp.rooms.plans.scene import Site, Thing, between, spread
from atrc_exp.rooms.render.materials import Material


def legs(it: Thing, material: Material, x: float, y: tuple[float, float], height: float, thick: float) -> None:
    """Four square legs under a top that reaches from -x to x and over the span y."""
    for cx in (-x + thick / 2, x - thick / 2):
        for cy in (y[0] + thick / 2, y[1] - thick / 2):
            it.box(material, (cx - thick / 2, cx + thick / 2), (cy - thick / 2, cy + thick / 2), (0, height))


def fronts(it: Thing, site: Site, material: Material, columns: int, rows: int, z: tuple[float, float]) -> None:
    """Doors or drawers on the room side of a body, with handles; they stand 1.5 cm proud."""
    w, y, metal = site.width / columns, site.depth, site.look.metal()
    h = (z[1] - z[0]) / rows
    wide = h < 0.8 * w
    for column in range(columns):
        for row in range(rows):
            x0, z0 = -site.width / 2 + column * w, z[0] + row * h
            it.box(material, (x0 + 0.012, x0 + w - 0.012), (y - 0.015, y), (z0 + 0.012, z0 + h - 0.012))
            if wide:
                it.box(
                    metal,
                    (x0 + 0.38 * w, x0 + 0.62 * w),
                    (y, y + 0.02),
                    (z0 + 0.62 * h, z0 + 0.62 * h + 0.015),
                )
            else:
                x = x0 + (0.88 if column % 2 == 0 else 0.1) * w
                it.box(metal, (x, x + 0.015), (y, y + 0.025), (z0 + 0.4 * h, z0 + 0.6 * h))


def chest(site: Site, label: str, columns: int, rows: int, height: float) -> None:
    """A closed body with doors or drawers."""
    it, wood = site.thing(label), site.look.wood()
    w, d = site.width / 2, site.depth - 0.015
    it.box(wood, (-w, w), (0, d), (0.06, height - 0.025))
    it.box(wood, (-w + 0.03, w - 0.03), (0.02, d - 0.03), (0, 0.06))
    it.box(wood, (-w, w), (0, site.depth), (height - 0.025, height))
    fronts(it, site, wood, columns, rows, (0.07, height - 0.035))


def night_stand(site: Site) -> None:
    """One to three drawers 0.45 to 0.6 m high, with a lamp or a few things on top."""
    height = site.rng.uniform(0.45, 0.6)
    chest(site, "night_stand", 1, int(site.rng.integers(1, 4)), height)
    if site.rng.random() < 0.65:
        lamps.table_lamp(site.inner(0, 0, height, 0.3, site.depth))
    else:
        props.clutter(site, height, (props.book_pile, props.knick_knack), 1, 0.8)


def dresser(site: Site) -> None:
    """Three or four rows of drawers 0.75 to 1.05 m high, with things or a television on top."""
    height = site.rng.uniform(0.75, 1.05)
    chest(site, "dresser", 2 if site.width > 0.9 else 1, int(site.rng.integers(3, 5)), height)
    if site.rng.random() < 0.25:
        props.television(site.inner(0, 0.05, height, site.width * 0.8, site.depth - 0.1))
    else:
        things = (props.knick_knack, lamps.table_lamp, props.book_pile, props.clothes_heap, props.carton)
        props.clutter(site, height, things, max(1, int(site.width / 0.4)), 0.5)


def wardrobe(site: Site) -> None:
    """Tall closed cabinet."""
    chest(site, "cabinet", max(1, round(site.width / 0.5)), 1, site.height)


def low_cabinet(site: Site) -> None:
    """Cabinet of the site's height with doors or drawers, and things on top."""
    chest(site, "cabinet", max(1, round(site.width / 0.45)), 1 if site.rng.random() < 0.5 else 3, site.height)
    props.clutter(site, site.height, (props.book_pile, props.knick_knack, props.carton, props.papers), 3, 0.45)


def filing_cabinet(site: Site) -> None:
    """Metal drawers of about 0.33 m, stacked to the site's height."""
    rng, it = site.rng, site.thing("cabinet")
    metal = site.look.metal(rng.uniform(0.3, 0.8))
    it.box(metal, (-site.width / 2, site.width / 2), (0, site.depth - 0.015), (0, site.height))
    fronts(it, site, metal, 1, max(2, round(site.height / 0.33)), (0.03, site.height - 0.01))
    props.clutter(site, site.height, (props.carton, props.papers, props.knick_knack), 1, 0.5)


def _boards(it: Thing, site: Site, wood: Material, shelves: int, top: float) -> list[float]:
    """Sides, back and `shelves` + 1 boards; returns the heights of the places between them."""
    w, d = site.width / 2, site.depth
    for side in (-1, 1):
        it.box(wood, between(side * w, side * (w - 0.025)), (0, d), (0, top))
    it.box(wood, (-w + 0.025, w - 0.025), (0, 0.012), (0.05, top))
    levels = np.linspace(0.06, top - 0.025, shelves + 1)
    for z in levels:
        it.box(wood, (-w + 0.025, w - 0.025), (0, d - 0.005), (z, z + 0.025))
    return [float(z) + 0.025 for z in levels[:-1]]


def bookshelf(site: Site) -> None:
    """Wooden case, mostly full of books."""
    rng, top = site.rng, site.height
    shelves = max(2, round(top / rng.uniform(0.32, 0.42)))
    levels = _boards(site.thing("bookshelf"), site, site.look.wood(), shelves, top)
    clear = (top - 0.085) / shelves - 0.025
    for z in levels:
        for place in spread(
            site.inner(0, 0.013, 0, site.width - 0.06, site.depth), z, max(1, round(site.width / 0.45)), 0.0
        ):
            roomy = place.inner(0, 0, 0, place.width, place.depth - 0.03, clear)
            if rng.random() < 0.75:
                props.book_row(roomy)
            elif rng.random() < 0.6:
                props.book_pile(roomy)


def shelves(site: Site) -> None:
    """Open metal or wooden rack with boxes, bags, clothes, bottles."""
    rng, it, top = site.rng, site.thing("shelves"), site.height
    post = site.look.metal() if rng.random() < 0.6 else site.look.wood(upright=True)
    board = post if rng.random() < 0.6 else site.look.wood()
    w, d, count = site.width / 2, site.depth, int(rng.integers(3, 6))
    legs(it, post, w, (0, d), top, 0.035)
    levels = np.linspace(0.12, top - 0.03, count)
    clear = float(levels[1] - levels[0]) - 0.06
    for z in levels:
        it.box(board, (-w, w), (0, d), (z, z + 0.025))
    kinds = (props.carton, props.carton, props.clothes_heap, props.book_row, props.knick_knack)
    for z in levels[:-1]:
        for place in spread(site, float(z) + 0.025, max(1, round(site.width / 0.42)), 0.02):
            if rng.random() < 0.75:
                kinds[rng.integers(len(kinds))](place.inner(0, 0, 0, place.width, place.depth, clear))


def television_stand(site: Site) -> None:
    """Low chest, 0.4 to 0.6 m high, with a television on it."""
    height = site.rng.uniform(0.4, 0.6)
    chest(site, "otherfurniture", 3, 1, height)
    props.television(site.inner(0, 0.04, height, site.width * 0.85, site.depth - 0.08))
