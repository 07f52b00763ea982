"""Δm: rows of the paper's tables."""

import pytest

from atrc_exp.errors import UserError
from atrc_exp.metrics.delta import delta_m
from atrc_exp.tasks import TASKS

NAMES = ("semseg", "depth", "normals", "edge")
BASELINES = dict(zip(NAMES, (38.02, 0.6104, 20.94, 76.22), strict=True))


def nyud(*values, baselines=BASELINES, names=NAMES):
    return delta_m(dict(zip(names, values, strict=True)), baselines, [TASKS[name] for name in names])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((36.35, 0.6284, 21.02, 76.36), -1.88492),
        ((38.90, 0.6010, 20.48, 76.34), 1.55218),
        ((38.19, 0.6032, 20.55, 76.22), 0.87229),
        ((46.71, 0.5202, 18.16, 76.06), 12.67492),
        ((47.71, 0.5160, 17.87, 78.18), 14.54607),
    ],
)
def test_rows_of_the_paper(values, expected):
    assert nyud(*values) == pytest.approx(expected, abs=5e-6)


def test_fractions_and_per_cent_give_the_same():
    fractions = {name: value / 100 if name in ("semseg", "edge") else value for name, value in BASELINES.items()}
    assert nyud(0.3890, 0.6010, 20.48, 0.7634, baselines=fractions) == pytest.approx(1.55218, abs=5e-6)


def test_the_baseline_itself_gains_nothing():
    assert nyud(*BASELINES.values()) == 0


def test_only_the_given_tasks_are_averaged():
    assert nyud(0.6104 / 2, names=("depth",)) == pytest.approx(50)


def test_what_is_missing_or_zero_is_named():
    with pytest.raises(UserError, match="baseline of edge is 0"):
        nyud(1.0, 1.0, 1.0, 1.0, baselines={**BASELINES, "edge": 0.0})
    with pytest.raises(UserError, match="no single-task baseline for sal"):
        nyud(1.0, names=("sal",))
    with pytest.raises(UserError, match="no result for depth"):
        delta_m({}, BASELINES, [TASKS["depth"]])
    with pytest.raises(UserError, match="no task"):
        delta_m({}, BASELINES, [])
