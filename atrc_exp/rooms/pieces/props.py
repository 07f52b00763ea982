"""Small things: books, papers, boxes, bags, clothes, pillows, screens, people, mats and odds and ends.

Each builder takes a `Site` whose floor is the surface that the thing stands on.
"""

import numpy as np

from atrc_exp.rooms.plans.scene import Site, spread, tilt, turn
from atrc_exp.rooms.render.materials import hsv, shade


def book_row(site: Site) -> None:
    """Upright books, spines to the room, over part of the site's width; tops below its height."""
    rng, look, books = site.rng, site.look, site.thing("books")
    x, end = -site.width / 2, site.width / 2 * rng.uniform(0.2, 1.0)
    height = site.height * rng.uniform(0.65, 0.85)
    while True:
        thick = rng.uniform(0.018, 0.05)
        if x + thick > end:
            return
        tall, deep = height * rng.uniform(0.8, 1.0), site.depth * rng.uniform(0.75, 0.95)
        colour = hsv(rng.random(), rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.9))
        band = look.pattern("stripes", (colour, shade(colour, 0.9), hsv(0.12, 0.5, 0.9)), 0.3, turned=True)
        books.box(band, (x, x + thick - 0.002), (0.0, deep), (0.0, tall))
        x += thick


def book_pile(site: Site) -> None:
    """One to five lying books, each 0.15 to 0.21 m wide."""
    rng, look, books = site.rng, site.look, site.thing("books")
    z = 0.0
    for _ in range(rng.integers(1, 6)):
        w, d, h = rng.uniform(0.15, 0.21), rng.uniform(0.21, 0.29), rng.uniform(0.015, 0.045)
        w, d = min(w, site.width), min(d, site.depth)
        angle = turn(rng.normal(0, 0.12))
        y = site.depth / 2
        cover = look.paint(look.any_colour((0.2, 0.9)), 0.2)
        books.box(cover, (-w / 2, w / 2), (y - d / 2, y + d / 2), (z, z + h), angle)
        z += h


def papers(site: Site) -> None:
    """One to three sheets of A4 with writing."""
    rng, look, paper = site.rng, site.look, site.thing("paper")
    ink = hsv(0.6, 0.2, 0.35)
    for number in range(rng.integers(1, 4)):
        sheet = look.pattern("text", (hsv(0.1, 0.02, 0.97), ink, ink), 0.25).fitted(0.21, 0.3)
        x, y = rng.uniform(-0.15, 0.15) * site.width, site.depth / 2 + rng.normal(0, 0.03)
        z = 0.002 * number
        paper.box(sheet, (x - 0.105, x + 0.105), (y - 0.15, y + 0.15), (z, z + 0.003), turn(rng.normal(0, 0.5)))


def carton(site: Site) -> None:
    """Closed or open cardboard box."""
    rng, box = site.rng, site.thing("box")
    tone = hsv(rng.uniform(0.06, 0.1), rng.uniform(0.3, 0.55), rng.uniform(0.5, 0.8))
    if rng.random() < 0.25:
        tone = site.look.any_colour((0.1, 0.7))
    w, d = site.width * rng.uniform(0.7, 1), site.depth * rng.uniform(0.7, 1)
    h = min(site.height, rng.uniform(0.5, 0.9) * min(w, d))
    board = site.look.pattern("cardboard", (tone, shade(tone, 0.85), shade(tone, 1.25)), 1.0).fitted(w, max(d, h))
    y, angle = site.depth / 2, turn(rng.normal(0, 0.12))
    box.box(board, (-w / 2.3, w / 2.3), (y - d / 2.3, y + d / 2.3), (0, h), angle)
    if rng.random() < 0.4:  # flaps
        for side in (-1, 1):
            flap = angle @ np.array([side * w * 0.52, 0, 0])
            box.box(
                board,
                (flap[0] - w / 8, flap[0] + w / 8),
                (y + flap[1] - d / 2.4, y + flap[1] + d / 2.4),
                (h - 0.012, h),
                angle,
            )


def bag(site: Site) -> None:
    """Hand bag, backpack or paper bag with handles."""
    rng, look, it = site.rng, site.look, site.thing("bag")
    w, y = min(site.width, rng.uniform(0.28, 0.42)), site.depth / 2
    d, h = min(site.depth, rng.uniform(0.14, 0.22)), rng.uniform(0.26, 0.46)
    cloth = look.leather() if rng.random() < 0.4 else look.fabric(("weave", "stripes", "dots"), 0.2)
    angle = turn(rng.normal(0, 0.4))
    it.cushion(cloth, (-w / 2, w / 2), (y - d / 2, y + d / 2), (0, h), rng.choice([0.2, 0.35, 0.5]), angle)
    if rng.random() < 0.5:
        front = angle @ np.array([0, d * 0.5, 0])
        it.cushion(
            cloth,
            (front[0] - w / 3, front[0] + w / 3),
            (y + front[1] - 0.05, y + front[1] + 0.05),
            (0.03, h * 0.5),
            0.3,
            angle,
        )
    reach = angle @ np.array([w * 0.22, 0, 0])
    dark = look.dark()
    a, b = np.array([0, y, h * 0.93]) - reach, np.array([0, y, h * 0.93]) + reach
    top = np.array([0, 0, rng.uniform(0.1, 0.2)])
    for start, end in ((a, a + top), (a + top, b + top), (b + top, b)):
        it.rod(dark, start, end, 0.012)


def clothes_heap(site: Site) -> None:
    """Two to five crumpled garments on one another."""
    rng, clothes = site.rng, site.thing("clothes")
    for _ in range(rng.integers(2, 6)):
        w, d, h = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.4), rng.uniform(0.05, 0.14)
        w, d = min(w, site.width), min(d, site.depth)
        x, y = rng.uniform(-0.25, 0.25) * site.width, site.depth * rng.uniform(0.35, 0.65)
        cloth = site.look.fabric(("weave", "stripes", "plaid", "weave"), 0.25)
        clothes.cushion(
            cloth, (x - w / 2, x + w / 2), (y - d / 2, y + d / 2), (-h / 2, h), 0.7, turn(rng.uniform(0, 3))
        )


def pillow(site: Site, lean: float = 0.9) -> None:
    """Pillow that leans back by `lean` radians from upright, at the back of the site."""
    rng, it = site.rng, site.thing("pillow")
    w, h, thick = site.width, site.depth, rng.uniform(0.12, 0.18)
    cloth = site.look.fabric(("weave", "weave", "stripes", "flowers", "dots", "plaid"), 0.3, value=(0.35, 0.98))
    z = 0.5 * (h * np.cos(lean) + thick * np.sin(lean))
    y = 0.5 * (h * np.sin(lean) + thick * np.cos(lean))
    it.cushion(cloth, (-w / 2, w / 2), (y - thick / 2, y + thick / 2), (z - h / 2, z + h / 2), 0.55, tilt(lean))


def television(site: Site) -> None:
    """Flat screen on a foot, or an old tube set."""
    rng, look, it = site.rng, site.look, site.thing("television")
    w = min(site.width, rng.uniform(0.7, 1.2))
    h, y, black = 0.58 * w, site.depth / 2, look.dark()
    if rng.random() < 0.3:
        it.box(look.metal(rng.uniform(0.15, 0.5)), (-w * 0.4, w * 0.4), (0.02, site.depth * 0.8), (0, h))
        it.cushion(
            _screen(site, w * 0.7, h * 0.75),
            (-w * 0.35, w * 0.35),
            (site.depth * 0.8 - 0.02, site.depth * 0.8 + 0.02),
            (h * 0.15, h * 0.92),
            0.2,
        )
        return
    it.box(black, (-w * 0.2, w * 0.2), (y - 0.1, y + 0.1), (0, 0.02))
    it.box(black, (-0.04, 0.04), (y - 0.02, y + 0.02), (0.02, 0.08))
    it.box(black, (-w / 2, w / 2), (y - 0.03, y + 0.03), (0.08, 0.08 + h))
    it.box(
        _screen(site, w - 0.05, h - 0.05),
        (-w / 2 + 0.025, w / 2 - 0.025),
        (y + 0.025, y + 0.034),
        (0.105, 0.055 + h),
    )


def _screen(site: Site, width: float, height: float):
    rng, look = site.rng, site.look
    if rng.random() < 0.6:
        return look.pattern("paint", (hsv(0.6, 0.3, 0.09),) * 3, 1.0, sheen=0.6, mirror=0.12)
    colours = (look.any_colour((0.4, 1)), look.any_colour((0.4, 1)), look.any_colour())
    return look.pattern(str(rng.choice(["landscape", "blocks"])), colours, 1.0, glow=0.7).fitted(width, height)


def computer(site: Site) -> None:
    """Monitor with keyboard, or an open laptop."""
    rng, look, it = site.rng, site.look, site.thing("otherprop")
    screen = it.also("monitor")
    case, y, w = (
        look.dark() if rng.random() < 0.6 else look.metal(),
        site.depth * 0.35,
        min(site.width, rng.uniform(0.4, 0.58)),
    )
    h = 0.62 * w
    keys = look.pattern("checker", (hsv(0, 0, 0.1), hsv(0, 0, 0.25), hsv(0, 0, 0)), 0.08)
    if rng.random() < 0.6:
        screen.cylinder(case, (0, y), 0.1, (0, 0.015))
        screen.box(case, (-0.03, 0.03), (y - 0.02, y + 0.02), (0, 0.14))
        screen.box(case, (-w / 2, w / 2), (y, y + 0.035), (0.1, 0.1 + h))
        screen.box(_screen(site, w, h), (-w / 2 + 0.02, w / 2 - 0.02), (y + 0.034, y + 0.037), (0.12, 0.08 + h))
        it.box(keys, (-0.2, 0.2), (y + 0.18, y + 0.31), (0, 0.02))
    else:
        it.box(keys, (-w * 0.35, w * 0.35), (y, y + 0.24), (0, 0.018))
        it.box(case, (-w * 0.35, w * 0.35), (y - 0.05, y - 0.038), (0.0, 0.24), tilt(0.3))
        it.box(
            _screen(site, w * 0.7, 0.24),
            (-w * 0.33, w * 0.33),
            (y - 0.038, y - 0.034),
            (0.012, 0.228),
            tilt(0.3),
        )


def knick_knack(site: Site) -> None:
    """A vase, bottles, a bowl with fruit, a mug or a potted plant."""
    rng, look, it = site.rng, site.look, site.thing("otherprop")
    y, room = site.depth / 2, min(site.width, site.depth) / 2
    colour = look.paint(look.any_colour((0.1, 0.9), (0.2, 0.95)), 0.5)
    kind = rng.integers(5)
    if kind == 0:
        r, h = min(0.07, room), rng.uniform(0.15, 0.3)
        it.cylinder(colour, (0, y), r * 0.6, (0, h * 0.4), top=1.6)
        it.cylinder(colour, (0, y), r * 0.96, (h * 0.4, h), top=0.5)
    elif kind == 1:
        for x in np.linspace(-0.5, 0.5, rng.integers(2, 4)) * 1.4 * room:
            h = rng.uniform(0.16, 0.28)
            glass = look.paint(look.any_colour((0.3, 0.9), (0.15, 0.8)), 0.6)
            it.also("bottle").cylinder(glass, (x, y), 0.032, (0, h * 0.7))
            it.also("bottle").cylinder(glass, (x, y), 0.03, (h * 0.7, h), top=0.4)
    elif kind == 2:
        r = min(0.14, room)
        it.cylinder(colour, (0, y), r * 0.5, (0, 0.07), top=1.9)
        fruit = look.paint(hsv(rng.uniform(0, 0.3), 0.8, 0.85), 0.2)
        for angle in np.linspace(0, 2 * np.pi, 5)[:-1]:
            it.ball(fruit, (0.45 * r * np.cos(angle), y + 0.45 * r * np.sin(angle), 0.08), (0.04, 0.04, 0.04))
    elif kind == 3:
        it.cylinder(colour, (0, y), 0.04, (0, 0.1))
        it.rod(colour, (0.05, y, 0.03), (0.05, y, 0.075), 0.008)
    else:
        plant(site, scale=min(0.45, 3 * room))


def plant(site: Site, scale: float = 1.0) -> None:
    """Potted plant `scale` metres tall."""
    rng, look, it = site.rng, site.look, site.thing("pottedplant")
    y = site.depth / 2
    pot = look.paint(hsv(rng.uniform(0.0, 0.1), rng.uniform(0.1, 0.7), rng.uniform(0.4, 0.9)), 0.2)
    green = hsv(rng.uniform(0.22, 0.38), rng.uniform(0.4, 0.8), rng.uniform(0.35, 0.7))
    leaf = look.pattern("leaves", (green, shade(green, 0.6), green), 0.3)
    it.cylinder(pot, (0, y), 0.11 * scale, (0, 0.28 * scale), top=1.3)
    for _ in range(10):
        angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
        tip = np.array([np.cos(angle) * lean * 0.35, np.sin(angle) * lean * 0.35, rng.uniform(0.6, 1.0)]) * scale
        root = np.array([0, y, 0.25 * scale])
        end = np.array([tip[0], y + tip[1], tip[2]])
        it.rod(leaf, root, end, 0.008 * scale + 0.002)
        radii = np.array([0.1, 0.1, 0.05]) * scale * rng.uniform(0.7, 1.3)
        it.ball(leaf, end, radii)


def person(site: Site, seated: bool = False) -> None:
    """A plain figure of capsules without parts, facing the room (+y); a seat is taken to be 0.45 m high.

    Populated rooms have `people` instead, and none of these.
    """
    if site.room.populated:
        return
    rng, look, it = site.rng, site.look, site.thing("person")
    skin = look.paint(hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.95)))
    shirt, trousers = (
        look.fabric(("weave", "stripes", "plaid", "weave"), 0.25),
        look.fabric(("weave",), value=(0.1, 0.5)),
    )
    hair = look.paint(hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.6)))
    k = rng.uniform(0.92, 1.08)
    y, hip = site.depth / 2, (0.52 if seated else 0.9 * k)
    for side in (-1, 1):
        x = side * 0.1
        knee = (x * 1.2, y + 0.45, 0.52) if seated else (x, y + 0.02, 0.48 * k)
        foot = (x * 1.2, y + 0.47, 0.07) if seated else (x * 1.1, y, 0.07)
        it.rod(trousers, (x, y, hip), knee, 0.085)
        it.rod(trousers, knee, foot, 0.06)
        it.rod(look.dark(), foot, (foot[0], foot[1] + 0.14, 0.05), 0.045)
        hand = rng.uniform(0.1, 0.35)
        shoulder, elbow = (side * 0.21, y, hip + 0.48 * k), (side * 0.29, y + 0.03, hip + 0.22 * k)
        it.rod(shirt, shoulder, elbow, 0.052)
        it.rod(skin, elbow, (side * 0.22, y + hand, hip + 0.06 + hand * 0.4), 0.04)
    it.cushion(shirt, (-0.2, 0.2), (y - 0.12, y + 0.12), (hip - 0.06, hip + 0.56 * k), 0.6)
    it.rod(skin, (0, y, hip + 0.5 * k), (0, y, hip + 0.62 * k), 0.055)
    head = hip + 0.74 * k
    it.ball(skin, (0, y + 0.01, head), (0.085, 0.1, 0.125))
    it.ball(hair, (0, y - 0.02, head + 0.035), (0.095, 0.1, 0.11))


def floor_mat(site: Site) -> None:
    """A flat rug over the whole site."""
    rng, look, mat = site.rng, site.look, site.thing("floor_mat")
    family = str(rng.choice(["rug", "stripes", "carpet", "flowers", "checker", "rug"]))
    colours = (look.any_colour((0.2, 0.8)), look.any_colour((0.1, 0.8)), look.any_colour())
    cloth = look.pattern(family, colours, 0.6)
    if family == "rug":
        cloth = cloth.fitted(site.width, site.depth)
    mat.box(cloth, (-site.width / 2, site.width / 2), (0, site.depth), (0, 0.012))


def clutter(site: Site, z: float, kinds: tuple, slots: int, chance: float = 0.6) -> None:
    """Things of the given kinds (builders) on top of a piece of furniture, side by side."""
    for place in spread(site, z, slots):
        if site.rng.random() < chance:
            kinds[site.rng.integers(len(kinds))](place)
