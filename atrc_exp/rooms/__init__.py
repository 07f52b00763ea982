"""Procedural rooms: furnished indoor scenes with exact labels, written in the layout of NYUD-v2 or PASCAL-Context."""

from atrc_exp.rooms.dataset.write import generate
from atrc_exp.rooms.render.image import RoomSample, render_room

__all__ = ["RoomSample", "generate", "render_room"]
