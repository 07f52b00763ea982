"""Procedural rooms: furnished indoor scenes with exact labels, written in the layout of NYUD-v2 or PASCAL-Context."""

from atrc_exp.data.rooms.render import RoomSample, render_room
from atrc_exp.data.rooms.write import generate

__all__ = ["RoomSample", "generate", "render_room"]
