"""Lamps on tables and floors, with the light they give."""

import numpy as np

from atrc_exp.rooms.plans.scene import Site
from atrc_exp.rooms.render.materials import Material, hsv, shade


def _bulb(site: Site, height: float) -> None:
    warm = np.array([1.0, 0.78, 0.5]) * site.rng.uniform(0.15, 0.5)
    site.light((0.0, site.depth / 2, height), warm)


def table_lamp(site: Site) -> None:
    """Foot, stem and a glowing conical shade, 0.35 to 0.6 m tall."""
    rng, look, lamp = site.rng, site.look, site.thing("lamp")
    tall, y = rng.uniform(0.35, 0.6), site.depth / 2
    foot = look.metal() if rng.random() < 0.5 else look.paint(look.any_colour(), 0.4)
    radius = min(rng.uniform(0.1, 0.16), site.width / 2)
    lamp.cylinder(foot, (0, y), 0.5 * radius, (0, 0.02))
    if rng.random() < 0.5:
        lamp.ball(foot, (0, y, 0.28 * tall), (0.55 * radius, 0.55 * radius, 0.28 * tall))
    lamp.rod(foot, (0, y, 0.02), (0, y, 0.7 * tall), 0.012)
    lamp.cylinder(_shade(site), (0, y), radius, (0.58 * tall, tall), top=rng.choice([0.6, 0.7, 0.9]))
    _bulb(site, tall + 0.12)


def floor_lamp(site: Site) -> None:
    """Foot, stem and a glowing shade, 1.4 to 1.8 m tall."""
    rng, look, lamp = site.rng, site.look, site.thing("lamp")
    tall, y = rng.uniform(1.4, 1.8), site.depth / 2
    metal = look.metal()
    lamp.cylinder(metal, (0, y), 0.14, (0, 0.025))
    lamp.rod(metal, (0, y, 0.02), (0, y, tall - 0.2), 0.014)
    lamp.cylinder(_shade(site), (0, y), rng.uniform(0.16, 0.23), (tall - 0.28, tall), top=rng.choice([0.6, 0.8, 1.3]))
    _bulb(site, tall + 0.12)


def _shade(site: Site) -> Material:
    tone = hsv(site.rng.uniform(0.05, 0.15), site.rng.uniform(0.1, 0.5), 1.0)
    return site.look.pattern("weave", (tone, shade(tone, 0.92), tone), 0.4, glow=site.rng.uniform(0.25, 0.8))
