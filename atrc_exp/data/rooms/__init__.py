"""Procedural rooms: furnished indoor scenes with exact depth, normals, classes and boundaries, in the NYUD layout."""

from atrc_exp.data.rooms.render import RoomSample, render_room
from atrc_exp.data.rooms.write import generate

__all__ = ["RoomSample", "generate", "render_room"]
