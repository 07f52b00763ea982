"""Labels of crowded points."""

import itertools
import random

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from atrc_exp.report.figures.drawing import freeze_layout
from atrc_exp.report.figures.placing import place_labels


@pytest.mark.parametrize("spread", [0.02, 0.2, 1.0])
def test_labels_overlap_neither_each_other_nor_points_nor_edges(spread):
    draw = random.Random(0)
    points = [(draw.uniform(0, spread), draw.uniform(0, spread)) for _ in range(12)]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), "o")
    axes.set(xlim=(-0.5, 1.5), ylim=(-0.5, 1.5))
    freeze_layout(figure)
    labels = place_labels(axes, points, [f"module_{index}" for index in range(12)])
    assert [label.get_text() for label in labels] == [f"module_{index}" for index in range(12)]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(Bbox.intersection(a, b) for a, b in itertools.combinations(boxes, 2))
    inside = axes.get_window_extent()
    assert all(inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1) for box in boxes)
    pixels = axes.transData.transform(points)
    assert not any(box.contains(x, y) for box in boxes for x, y in pixels)
