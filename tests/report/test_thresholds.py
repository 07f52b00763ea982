"""Threshold curves of several runs in one figure."""

import pytest

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.report.figures import thresholds

EDGE = {"threshold": [0.1, 0.5, 0.9], "precision": [0.2, 0.5, 0.9], "recall": [0.9, 0.6, 0.1], "f": [0.3, 0.55, 0.2]}
SAL = {"threshold": [0.25, 0.75], "precision": [0.6, 0.8], "recall": [0.9, 0.4], "f": [0.65, 0.66]}


@pytest.fixture
def evaluate(make_run):
    def write(name, seed, curves, rules="seism"):
        run = make_run(name, seed, {"edge": 0.5})
        write_json(run / "evaluation.json", {"dataset": {"fingerprint": "abc"}, "rules": {"protocol": rules}} | curves)

    return write


def test_curves_of_all_runs_and_their_best_points(runs_dir, evaluate):
    evaluate("pascal_global", 0, {"curves": {"edge": EDGE, "sal": SAL}})
    evaluate("pascal_local", 1, {"curves": {"edge": {**EDGE, "f": [0.6, 0.55, 0.2]}}})
    figure = thresholds.draw(thresholds.read(runs_dir)[0])
    sal, edge = figure.axes[:3], figure.axes[3:]
    assert [axes.get_ylabel() for axes in (sal[0], edge[0])] == ["Sal", "Bound"]
    assert [axes.get_title() for axes in sal] == ["precision", "recall", "F-measure"]
    curve, best = sal[2].lines
    assert curve.get_xydata().tolist() == [[0.25, 0.65], [0.75, 0.66]] and best.get_xydata().tolist() == [[0.75, 0.66]]
    assert [line.get_xydata().tolist()[0] for line in edge[0].lines[1::2]] == [[0.5, 0.5], [0.1, 0.2]]
    assert edge[0].lines[0].get_linestyle() != edge[0].lines[2].get_linestyle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["global/seed0", "local/seed1"]


def test_runs_scored_by_other_rules_are_not_overlaid(runs_dir, evaluate):
    evaluate("one", 0, {"curves": {"edge": EDGE}})
    evaluate("other", 0, {"curves": {"edge": EDGE}}, rules="mtl_pytorch")
    with pytest.raises(UserError, match="one/seed0 and other/seed0"):
        thresholds.draw(thresholds.read(runs_dir)[0])


def test_no_curves_say_what_makes_them(runs_dir, evaluate):
    evaluate("older", 0, {})
    with pytest.raises(UserError, match="stage=evaluate"):
        thresholds.draw(thresholds.read(runs_dir)[0])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_what_is_no_evaluation_is_named_and_leaves_the_others(runs_dir, evaluate, content):
    evaluate("broken", 0, {"curves": {"edge": EDGE}})
    evaluate("whole", 0, {"curves": {"edge": EDGE}})
    (runs_dir / "broken" / "seed0" / "evaluation.json").write_text(content)
    found, damaged = thresholds.read(runs_dir)
    assert [evaluation.name for evaluation in found] == ["whole/seed0"]
    assert ["broken/seed0/evaluation.json" in reason for reason in damaged] == [True]
