"""Losses, scores and search dynamics over the iterations."""

import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.report.figures import training_curves


@pytest.fixture
def folder(tmp_path):
    """Two runs: one that resumed and repeated a step, one that has just begun and was killed while it wrote."""
    runs = {
        0: [
            {"step": 10, "kind": "train", "semseg": 3.0, "semseg_aux": 2.5},
            {"step": 20, "kind": "train", "semseg": 9.0, "semseg_aux": 2.0},
            {"step": 20, "kind": "train", "semseg": 2.0, "semseg_aux": 2.0},
            {"step": 20, "kind": "val", "semseg/miou": 0.31, "semseg/loss": 2.2},
            {"step": 20, "kind": "search", "entropy": 1.5, "frozen": 4, "entropy_weight": 0.01, "temperature": 0.5},
        ],
        1: [{"step": 10, "kind": "train", "semseg": 3.5, "semseg_aux": None}],
    }
    for seed, records in runs.items():
        run = tmp_path / "search" / f"seed{seed}"
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 11, "ki')
    return tmp_path / "search"


def data(axes):
    return [line.get_xydata().tolist() for line in axes.lines]


def test_losses_above_and_the_headline_metric_below(folder):
    losses, score = training_curves.draw_training(training_curves.read(folder)).axes
    assert data(losses) == [[[10, 3], [20, 2]], [[10, 2.5], [20, 2]], [[20, 2.2]], [[10, 3.5]], [], []]
    assert data(score) == [[[20, 31.0]], []]
    assert score.get_title() == "SemSeg miou [%] ↑"


def test_dynamics_of_the_search(folder):
    entropy, frozen, weight, temperature = training_curves.draw_search(training_curves.read(folder)).axes
    assert [data(axes)[0] for axes in (entropy, frozen, weight, temperature)] == [
        [[20, 1.5]], [[20, 4]], [[20, 0.01]], [[20, 0.5]],
    ]  # fmt: skip


def test_axes_without_data_have_a_note_in_place_of_a_scale(folder):
    begun = training_curves.read(folder)[1:]
    losses, score = training_curves.draw_training(begun).axes
    assert not losses.texts and len(losses.get_yticks())
    assert len(score.texts) == 1 and not len(score.get_yticks())
    searched = training_curves.read(folder)[:1]
    records = [{k: v for k, v in record.items() if k != "temperature"} for record in searched[0].records["search"]]
    panels = training_curves.draw_search([training_curves.History(0, {"search": records})]).axes
    assert [len(axes.texts) for axes in panels] == [0, 0, 0, 1]


def test_nothing_logged_is_told(folder):
    for run in folder.iterdir():
        (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="search: no run has logged anything yet"):
        training_curves.read(folder)


def test_training_has_no_search_dynamics(folder):
    with pytest.raises(UserError, match="no search record"):
        training_curves.draw_search(training_curves.read(folder)[1:])
