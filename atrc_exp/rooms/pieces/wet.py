"""Kitchen and bathroom furniture. Each builder fills the `Site` it is given."""

import numpy as np

from atrc_exp.rooms.pieces import props
from atrc_exp.rooms.pieces.cases import fronts
from atrc_exp.rooms.plans.scene import Site, Thing, between
from atrc_exp.rooms.render.materials import hsv


def _tap(it: Thing, site: Site, x: float, y: float, z: float) -> None:
    chrome = site.look.metal(0.85)
    it.rod(chrome, (x, y, z), (x, y, z + 0.2), 0.013)
    it.rod(chrome, (x, y, z + 0.2), (x, y + 0.14, z + 0.2), 0.011)
    it.rod(chrome, (x, y + 0.14, z + 0.2), (x, y + 0.14, z + 0.16), 0.011)


def _basin(site: Site, x: float, y: float, z: float, w: float, d: float) -> None:
    """Sunk basin: a raised rim about a darker bottom, and a tap, on a top at height z."""
    it = site.thing("sink")
    steel = site.look.metal(0.75) if site.rng.random() < 0.6 else site.look.porcelain()
    rim, high = 0.025, 0.03
    it.box(steel, (x - w / 2, x + w / 2), (y - d / 2, y - d / 2 + rim), (z, z + high))
    it.box(steel, (x - w / 2, x + w / 2), (y + d / 2 - rim, y + d / 2), (z, z + high))
    for side in (-1, 1):
        it.box(
            steel,
            between(x + side * w / 2, x + side * (w / 2 - rim)),
            (y - d / 2 + rim, y + d / 2 - rim),
            (z, z + high),
        )
    it.box(
        site.look.metal(0.45),
        (x - w / 2 + rim, x + w / 2 - rim),
        (y - d / 2 + rim, y + d / 2 - rim),
        (z, z + 0.004),
    )
    _tap(it, site, x, y - d / 2 + 0.01, z)


def kitchen_run(site: Site) -> None:
    """Base cabinets under one counter with a sink, a stove, things on the counter; wall cabinets above."""
    rng, look = site.rng, site.look
    w, d, top = site.width / 2, site.depth, rng.uniform(0.86, 0.92)
    wood, it = look.wood(upright=True), site.thing("cabinet")
    it.box(wood, (-w, w), (0, d - 0.035), (0.1, top - 0.04))
    it.box(look.dark(), (-w, w), (0, d - 0.08), (0, 0.1))
    units = max(2, round(site.width / 0.5))
    body = site.inner(0, 0, 0, site.width, d - 0.02)
    fronts(it, body, wood, units, 1, (0.12, top - 0.22))
    fronts(it, body, wood, units, 1, (top - 0.21, top - 0.04))
    counter = site.thing("counter")
    stone = look.stone() if rng.random() < 0.65 else look.wood()
    counter.box(stone, (-w, w), (0, d), (top - 0.04, top))
    counter.box(stone, (-w, w), (0, 0.02), (top, top + 0.1))
    side = rng.choice([-1, 1])
    _basin(site, side * w * 0.45, d / 2, top, min(0.6, 0.4 * site.width), 0.42)
    if site.width > 1.7 and rng.random() < 0.8:
        stove(site.inner(-side * (w - 0.35), 0.005, 0, 0.6, d + 0.01, top + 0.012))
        free = site.inner(-side * w * 0.1, 0.05, 0, 0.3 * site.width, d - 0.15)
    else:
        free = site.inner(-side * w * 0.5, 0.05, 0, 0.75 * w, d - 0.15)
    props.clutter(
        free,
        top,
        (props.knick_knack, props.knick_knack, props.carton, props.papers, props.bag, microwave),
        2,
        0.75,
    )
    if rng.random() < 0.6:
        towel = site.thing("towel")
        cloth = look.fabric(("carpet", "stripes", "plaid"), 0.2, value=(0.4, 0.98))
        x = side * w * 0.45 + rng.uniform(-0.1, 0.1)
        towel.cushion(cloth, (x - 0.14, x + 0.14), (d - 0.005, d + 0.03), (top - 0.5, top - 0.08), 0.15)


def wall_cabinets(site: Site) -> None:
    """A row of doors of the site's height, 0.34 m deep."""
    it, wood = site.thing("cabinet"), site.look.wood(upright=True)
    w = site.width / 2
    it.box(wood, (-w, w), (0, 0.32), (0, site.height))
    fronts(it, site.inner(0, 0, 0, site.width, 0.34), wood, max(1, round(site.width / 0.45)), 1, (0, site.height))


def microwave(site: Site) -> None:
    """A metal case 0.28 m high with a dark window."""
    it, w = site.thing("otherprop"), min(site.width, 0.48) / 2
    it.box(site.look.metal(), (-w, w), (0.02, 0.36), (0, 0.28))
    glass = site.look.pattern("paint", (hsv(0.6, 0.2, 0.08),) * 3, 1.0, sheen=0.5)
    it.box(glass, (-w + 0.03, w * 0.5), (0.36, 0.365), (0.03, 0.25))


def stove(site: Site) -> None:
    """Range with an oven door and four hobs."""
    it, look = site.thing("otherfurniture"), site.look
    w, d, h = site.width / 2, site.depth, site.height
    body = look.white(0.4) if site.rng.random() < 0.5 else look.metal(site.rng.uniform(0.2, 0.75))
    it.box(body, (-w, w), (0, d), (0, h))
    black = look.pattern("paint", (hsv(0, 0, 0.06),) * 3, 1.0, sheen=0.5)
    it.box(black, (-w + 0.08, w - 0.08), (d, d + 0.008), (0.25, 0.58))
    it.rod(look.metal(0.8), (-w + 0.08, d + 0.035, 0.66), (w - 0.08, d + 0.035, 0.66), 0.012)
    for x in (-0.14, 0.14):
        for y in (0.18, 0.44):
            it.cylinder(black, (x, y), 0.085, (h, h + 0.012))
    for x in np.linspace(-w + 0.08, w - 0.08, 5):
        it.rod(black, (x, d, 0.77), (x, d + 0.02, 0.77), 0.02)
    it.box(body, (-w, w), (0, 0.05), (h, h + 0.12))


def refrigerator(site: Site) -> None:
    """Two doors with handles, sometimes with notes on them and a box on top."""
    rng, look, it = site.rng, site.look, site.thing("refrigerator")
    w, d, h = site.width / 2, site.depth, site.height
    body = look.white(0.45) if rng.random() < 0.5 else look.metal(rng.uniform(0.3, 0.75))
    it.box(body, (-w, w), (0, d - 0.06), (0.03, h))
    split, handle, side = (
        h * rng.choice([0.35, 0.62, 0.68]),
        look.metal(0.6),
        rng.choice([-1, 1]) * (w - 0.07),
    )
    it.box(body, (-w, w), (d - 0.052, d), (0.08, split - 0.006))
    it.box(body, (-w, w), (d - 0.052, d), (split + 0.006, h))
    it.rod(handle, (side, d + 0.035, split - 0.4), (side, d + 0.035, split - 0.06), 0.014)
    it.rod(handle, (side, d + 0.035, split + 0.06), (side, d + 0.035, min(split + 0.4, h - 0.05)), 0.014)
    if rng.random() < 0.5:
        note = site.thing("paper")
        for _ in range(rng.integers(1, 4)):
            x, z = rng.uniform(-0.2, 0.2), rng.uniform(split + 0.1, h - 0.3)
            page = look.pattern("text", (look.any_colour((0, 0.3), (0.85, 1)), (0.2,) * 3, (0.2,) * 3), 1.0).fitted(
                0.15, 0.2
            )
            note.box(page, (x - 0.075, x + 0.075), (d, d + 0.004), (z, z + 0.2))
    if rng.random() < 0.4:
        props.carton(site.inner(0, 0.1, h, 0.4, 0.35, 0.3))


def toilet(site: Site) -> None:
    """Cistern, bowl with its rim at 0.42 m, the lid down or up."""
    rng, it, white = site.rng, site.thing("toilet"), site.look.porcelain()
    it.cushion(white, (-0.22, 0.22), (0.02, 0.21), (0.36, 0.76), 0.15)
    it.box(white, (-0.23, 0.23), (0.01, 0.22), (0.74, 0.78))
    it.cylinder(white, (0, 0.36), 0.13, (0, 0.34), top=1.3)
    it.cushion(white, (-0.19, 0.19), (0.18, 0.66), (0.28, 0.42), 0.6)
    it.ball(white, (0, 0.44, 0.41), (0.19, 0.25, 0.035))
    if rng.random() < 0.4:
        it.cushion(white, (-0.19, 0.19), (0.21, 0.25), (0.42, 0.82), 0.5)
    it.rod(site.look.metal(0.8), (-0.14, 0.22, 0.68), (-0.08, 0.23, 0.68), 0.01)
    if rng.random() < 0.4:
        props.knick_knack(site.inner(0, 0.04, 0.78, 0.2, 0.14))


def vanity(site: Site) -> None:
    """Wash basin in a cabinet, or on a pedestal."""
    rng, look = site.rng, site.look
    w, d = site.width / 2, site.depth
    if rng.random() < 0.35:
        it, white = site.thing("sink"), look.porcelain()
        it.cylinder(white, (0, 0.2), 0.09, (0, 0.75), top=1.1)
        it.cushion(white, (-0.28, 0.28), (0.0, 0.46), (0.68, 0.86), 0.5)
        it.ball(look.metal(0.6), (0, 0.27, 0.852), (0.17, 0.13, 0.012))
        _tap(it, site, 0, 0.06, 0.84)
        return
    it, wood, top = site.thing("cabinet"), look.wood(upright=True), rng.uniform(0.78, 0.86)
    it.box(wood, (-w, w), (0, d - 0.03), (0.05, top - 0.03))
    fronts(
        it,
        site.inner(0, 0, 0, site.width, d - 0.015),
        wood,
        max(1, round(site.width / 0.4)),
        1,
        (0.07, top - 0.05),
    )
    site.thing("counter").box(look.stone(), (-w, w), (0, d), (top - 0.03, top))
    _basin(site, 0, d / 2, top, min(0.5, site.width - 0.14), 0.36)
    if site.width > 0.95:
        props.clutter(site.inner(-w + 0.14, 0.05, 0, 0.2, d - 0.1), top, (props.knick_knack,), 1, 0.7)


def bathtub(site: Site) -> None:
    """Tub along the wall, open at the top; a shower curtain on a rod covers part of it."""
    rng, look, it = site.rng, site.look, site.thing("bathtub")
    white, w, d, h, rim = look.porcelain(), site.width / 2, site.depth, rng.uniform(0.5, 0.58), 0.07
    it.box(white, (-w, w), (d - rim, d), (0, h))
    it.box(white, (-w, w), (0, rim), (0, h))
    for side in (-1, 1):
        it.box(white, between(side * w, side * (w - rim)), (rim, d - rim), (0, h))
    it.box(white, (-w + rim, w - rim), (rim, d - rim), (0, 0.14))
    end = rng.choice([-1, 1])
    chrome = look.metal(0.85)
    it.rod(chrome, (end * (w - 0.02), d / 2, h + 0.12), (end * (w - 0.2), d / 2, h + 0.12), 0.02)
    if rng.random() < 0.85:
        curtain = site.thing("shower_curtain")
        cloth = look.fabric(("stripes", "dots", "flowers", "weave", "checker"), 0.5, value=(0.55, 1.0))
        span = rng.uniform(0.3, 0.75) * site.width
        curtain.rod(chrome, (-w, d + 0.04, 2.02), (w, d + 0.04, 2.02), 0.013)
        x = (-end * w, -end * w + end * span)
        curtain.sheet(cloth, (min(x), max(x)), (d + 0.005, d + 0.075), (0.2, 2.02), max(3, int(span / 0.1)))
