"""Figures and tables of an evaluation."""

import numpy as np

from atrc_exp.metrics import boundary
from atrc_exp.report.results.evaluation import class_names, draw_boundary, draw_confusion


def test_confusion_matrix_shows_shares_of_the_label_for_classes_that_occur():
    matrix = np.array([[6, 0, 2, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]])
    figure = draw_confusion(matrix, ["a", "b", "c", "d"], "SemSeg")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "c"]
    assert axes.images[0].get_array().tolist() == [[75, 25], [25, 75]]
    assert "2 of 4 classes never occur" in axes.get_title()


def test_class_that_is_predicted_but_never_labelled_has_an_empty_row():
    figure = draw_confusion(np.array([[5, 5], [0, 0]]), ["a", "b"], "SemSeg")
    shares = figure.axes[0].images[0].get_array()
    assert shares[0].tolist() == [50, 50] and np.ma.getmaskarray(shares)[1].all()


def test_boundary_figure_marks_the_operating_point():
    truth = np.zeros((40, 50), np.uint8)
    truth[20] = 1
    prediction = np.zeros((40, 50), np.uint8)
    prediction[21] = np.arange(50) * 5
    scores = boundary.evaluate([prediction], [truth], max_dist=0.05)
    figure = draw_boundary(scores, "Bound")
    left, right = figure.axes
    points = [
        line.get_xydata()[0].tolist() for axes in (left, right) for line in axes.lines if line.get_marker() == "o"
    ]
    assert points == [[scores.threshold, scores.odsF], [scores.recall, scores.precision]]
    blank = boundary.evaluate([prediction * 0], [truth], max_dist=0.05)
    assert len(draw_boundary(blank, "Bound").axes) == 2


def test_classes_without_names_are_numbered():
    assert class_names({"class_names": {"semseg": ["wall", "floor"]}}, "semseg", 2) == ["wall", "floor"]
    assert class_names({"class_names": {}}, "human_parts", 2) == ["class 0", "class 1"]


def test_confusion_without_a_labelled_pixel_says_so():
    figure = draw_confusion(np.zeros((3, 3), np.int64), ["a", "b", "c"], "SemSeg")
    assert len(figure.axes[0].texts) == 1 and not figure.axes[0].images
