"""The table of tasks and the datasets' facts in it."""

import pytest

from atrc_exp.errors import UserError
from atrc_exp.tasks import TASKS, build_tasks


def build(names, **options):
    facts = {"num_classes": {"semseg": 21}, "edge_positive_weight": 0.95, "edge_max_distance": 0.0075}
    return build_tasks(names, **(facts | options))


def test_published_rows():
    rows = {n: (t.channels, t.regions, t.weight, t.metric, t.higher_is_better) for n, t in TASKS.items()}
    assert rows == {
        "semseg": (0, 0, 1, "miou", True),
        "human_parts": (7, 7, 2, "miou", True),
        "sal": (2, 2, 5, "max_f", True),
        "depth": (1, 40, 1, "rmse", False),
        "normals": (3, 40, 10, "mean_error", False),
        "edge": (1, 2, 50, "ods_f", True),
    }


def test_the_dataset_fills_in_its_facts_in_the_given_order():
    edge, semseg, depth = build(["edge", "semseg", "depth"], weights={"edge": 3.0})
    assert (edge.name, edge.positive_weight, edge.max_distance, edge.weight) == ("edge", 0.95, 0.0075, 3.0)
    assert (semseg.name, semseg.channels, semseg.regions, semseg.weight) == ("semseg", 21, 21, 1.0)
    assert (depth.name, depth.channels, depth.regions) == ("depth", 1, 40)
    assert TASKS["edge"].weight == 50


def test_unknown_names_and_missing_numbers_of_classes_are_named():
    with pytest.raises(UserError, match=r"floor.*semseg, human_parts"):
        build(["floor"])
    with pytest.raises(UserError, match="lacks 'semseg'"):
        build(["semseg"], num_classes={})


def test_a_regression_takes_the_form_of_a_classification_over_its_regions():
    depth, normals, edge = build(
        ["depth", "normals", "edge"], forms={"depth": "classification", "normals": "regression"}
    )
    assert (depth.channels, depth.loss, depth.metric, depth.weight) == (40, "region_cross_entropy", "rmse", 1)
    assert (normals.channels, normals.loss) == (3, "unit_l1") and edge.channels == 1
    (normals,) = build(["normals"], forms={"normals": "classification"})
    assert (normals.channels, normals.loss, normals.weight) == (40, "triangular_cross_entropy", 10)
    with pytest.raises(UserError, match="only depth, normals have this form"):
        build(["semseg"], forms={"semseg": "classification"})
