"""Labels of points that keep clear of one another, of the points and of the edges of their axes."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_DISTANCES = (7, 13, 20, 28, 38, 50, 64)  # points from the marker
_ANGLES = (0, 180, 90, 270, 45, 135, 315, 225, 20, 160, 200, 340)  # degrees, the first that is free is taken
_MARKER = 5  # points from the centre of a marker to its sides
_LINE_FROM = 13  # points between label and marker from which on a line joins them


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[Annotation]:
    """Write each label near its point, one after another at the first free place; needs a frozen layout.

    Points with close neighbours come first, since they have the fewest free places. Where no place is free, the one
    with the smallest overlap is taken.

    Args:
        points: (x, y) in data coordinates.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    per_point = figure.dpi / 72
    pixels = axes.transData.transform(points)
    taken = [
        Bbox([(x - _MARKER * per_point, y - _MARKER * per_point), (x + _MARKER * per_point, y + _MARKER * per_point)])
        for x, y in pixels
    ]
    inside = axes.get_window_extent()
    placed: dict[int, Annotation] = {}
    for index in sorted(range(len(points)), key=lambda i: sorted(math.dist(pixels[i], other) for other in pixels)[1:2]):
        annotation = axes.annotate(labels[index], points[index], textcoords="offset points", xytext=(0, 0),
                                   ha="center", va="center", fontsize=8)  # fmt: skip
        annotation.set_in_layout(False)
        extent = annotation.get_window_extent()
        distance, offset = min(
            _offsets(extent, per_point), key=lambda place: _overlap(_moved(extent, place[1], per_point), taken, inside)
        )
        annotation.set_position(offset)
        taken.append(_moved(extent, offset, per_point))
        if distance >= _LINE_FROM:
            axes.annotate("", points[index], xytext=_border(extent, offset, per_point), textcoords="offset points",
                          zorder=1, arrowprops={"arrowstyle": "-", "color": "0.55", "linewidth": 0.7})  # fmt: skip
        placed[index] = annotation
    return [placed[index] for index in range(len(points))]


def _offsets(extent: Bbox, per_point: float) -> list[tuple[int, tuple[float, float]]]:
    """Distances from the point and places of the label's centre around it, the nearest first, in points."""
    half = extent.width / per_point / 2, extent.height / per_point / 2
    directions = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in _ANGLES]
    return [(d, (x * (d + half[0]), y * (d + half[1]))) for d in _DISTANCES for x, y in directions]


def _border(extent: Bbox, offset: tuple[float, float], per_point: float) -> tuple[float, float]:
    """Where the line from the point to the label's centre meets the label's box, in points."""
    x, y = offset
    sides = [
        side / per_point / 2 / abs(way) for side, way in ((extent.width, x), (extent.height, y)) if abs(way) > 1e-6
    ]
    rest = 1 - min(sides)
    return x * rest, y * rest


def _moved(extent: Bbox, offset: tuple[float, float], per_point: float) -> Bbox:
    return extent.translated(offset[0] * per_point, offset[1] * per_point)


def _overlap(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Area (square pixels) that the box shares with others or has outside the axes."""
    shared = [Bbox.intersection(box, other) for other in taken]
    within = Bbox.intersection(box, inside)
    outside = box.width * box.height - (within.width * within.height if within else 0.0)
    return outside + sum(part.width * part.height for part in shared if part)
