"""Means, deviations, baselines and Δm, checked against numbers worked by hand and the paper's printed table."""

import math
import shutil

import pytest

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.report.results.aggregate import aggregate, find_baselines
from atrc_exp.runs.finished import left_out, read_runs

SINGLE = {"semseg": 38.02, "depth": 0.6104, "normals": 20.94, "edge": 76.22}  # paper, NYUD, HRNet18


def make_baselines(make_run, values, **changes):
    for task, value in values.items():
        make_run(f"single_{task}", 0, {task: value}, **changes)


def row_of(runs_dir, name):
    return aggregate(runs_dir / name, find_baselines(runs_dir))


def test_mean_and_sample_deviation(runs_dir, make_run):
    for seed, value in enumerate([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]):
        make_run("multi", seed, {"depth": value})
    found = row_of(runs_dir, "multi").statistics["depth"]
    assert found.mean == 5.0
    assert found.std == pytest.approx(math.sqrt(32 / 7))  # n - 1, not the 2.0 of n
    assert found.n == 8


def test_one_run_has_no_deviation(runs_dir, make_run):
    make_run("multi", 3, {"depth": 0.5})
    row = row_of(runs_dir, "multi")
    assert row.seeds == (3,)
    assert row.statistics["depth"].std is None


def test_seeds_are_ordered_as_numbers(runs_dir, make_run):
    for seed in (10, 2, 0):
        make_run("multi", seed, {"depth": 0.5})
    assert [run.seed for run in read_runs(runs_dir / "multi")] == [0, 2, 10]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((36.35, 0.6284, 21.02, 76.36), -1.88492),
        ((38.19, 0.6032, 20.55, 76.22), 0.87229),
        ((47.71, 0.5160, 17.87, 78.18), 14.54607),
    ],
)
def test_delta_of_the_papers_table(runs_dir, make_run, values, expected):
    make_baselines(make_run, SINGLE)
    make_run("multi", 0, dict(zip(SINGLE, values, strict=True)))
    delta = row_of(runs_dir, "multi").delta
    assert delta.tasks == ("semseg", "depth", "normals", "edge")
    assert delta.value == pytest.approx(expected, abs=1e-5)


def test_delta_is_taken_from_the_means(runs_dir, make_run):
    make_run("single_depth", 0, {"depth": 1.0})
    make_run("single_depth", 1, {"depth": 3.0})
    make_run("single_semseg", 0, {"semseg": 0.2})
    for seed, depth in enumerate((1.0, 2.0)):
        make_run("multi", seed, {"semseg": 0.3, "depth": depth})
    # semseg 0.3 against 0.2: +50 %; depth 1.5 against 2.0, lower is better: +25 %
    assert row_of(runs_dir, "multi").delta.value == pytest.approx(37.5)


def test_task_without_metric_is_left_out_of_delta(runs_dir, make_run):
    make_baselines(make_run, {"semseg": 0.2, "depth": 2.0, "edge": None})
    make_run("multi", 0, {"semseg": 0.3, "depth": 1.0, "edge": None})
    row = row_of(runs_dir, "multi")
    assert row.delta.tasks == ("semseg", "depth")
    assert row.delta.value == pytest.approx(50.0)
    assert any("edge" in note for note in row.notes)


def test_task_whose_baseline_has_no_metric_is_left_out_of_delta(runs_dir, make_run):
    make_baselines(make_run, {"depth": 2.0, "edge": None})
    make_run("multi", 0, {"depth": 1.0, "edge": 0.7})
    assert row_of(runs_dir, "multi").delta.tasks == ("depth",)


def test_zero_baseline_leaves_delta_undefined(runs_dir, make_run):
    make_baselines(make_run, {"semseg": 0.0, "depth": 2.0})
    make_run("multi", 0, {"semseg": 0.3, "depth": 1.0})
    delta = row_of(runs_dir, "multi").delta
    assert delta.value is None
    assert "semseg" in delta.note


@pytest.mark.parametrize(
    "change",
    [
        {"iteration": 41},
        {"backbone": "hrnet_w48"},
        {"dataset": {"name": "rooms", "fingerprint": "other"}},
        {"dataset": {"name": "nyud", "fingerprint": "0123456789abcdef"}},
        {"distillation": "global"},
        {"neck": "fpm"},
    ],
)
def test_baselines_of_another_setting_do_not_count(runs_dir, make_run, change):
    make_run("single_semseg", 0, {"semseg": 0.2})
    make_run("single_depth", 0, {"depth": 2.0}, **change)
    make_run("multi", 0, {"semseg": 0.3, "depth": 1.0})
    delta = row_of(runs_dir, "multi").delta
    assert delta.value is None
    assert "no single-task runs of depth" in delta.note


def test_two_baselines_of_one_task_are_not_chosen_from(runs_dir, make_run):
    make_baselines(make_run, {"depth": 2.0})
    make_run("other", 0, {"depth": 1.9})
    make_run("multi", 0, {"depth": 1.0}, distillation="atrc")
    delta = row_of(runs_dir, "multi").delta
    assert delta.value is None
    assert "other, single_depth" in delta.note


def test_baselines_have_no_delta(runs_dir, make_run):
    make_run("single_depth", 0, {"depth": 2.0})
    assert row_of(runs_dir, "single_depth").delta is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"iteration": 60}, "iterations is 40 in seed0 and 60 in seed1"),
        ({"tasks": ["depth", "normals"]}, "tasks is depth in seed0 and depth, normals in seed1"),
        ({"dataset": {"name": "nyud", "fingerprint": "0123456789abcdef"}}, "dataset is rooms in seed0 and nyud"),
        ({"dataset": {"name": "rooms", "fingerprint": "x"}}, "fingerprint"),
        ({"stage": "search"}, "stage"),
    ],
)
def test_runs_of_different_experiments_are_refused(runs_dir, make_run, change, named):
    make_run("multi", 0, {"depth": 0.5})
    make_run("multi", 1, {"depth": 0.6}, **change)
    with pytest.raises(UserError, match=named):
        row_of(runs_dir, "multi")


def test_seed_without_a_value_is_told(runs_dir, make_run):
    make_run("multi", 0, {"depth": 0.5, "semseg": 0.1})
    make_run("multi", 1, {"depth": 0.7, "semseg": None})
    row = row_of(runs_dir, "multi")
    assert (row.statistics["semseg"].mean, row.statistics["semseg"].n) == (0.1, 1)
    assert row.statistics["depth"].n == 2
    assert any("semseg: mean over 1 of 2 seeds" in note for note in row.notes)


def test_unfinished_and_failed_seeds_are_told(runs_dir, make_run):
    make_run("multi", 0, {"depth": 0.5})
    (runs_dir / "multi/seed1/checkpoints").mkdir(parents=True)
    write_json(runs_dir / "multi/seed2/status.json", {"status": "failed", "error": "loss of depth is not finite"})
    row = row_of(runs_dir, "multi")
    assert row.seeds == (0,)
    assert "multi/seed1 is left out: not finished" in row.notes
    assert any("multi/seed2" in note and "loss of depth is not finite" in note for note in row.notes)


def test_deviations_of_the_data_are_told_once(runs_dir, make_run):
    dataset = {"name": "nyud", "fingerprint": "f", "notes": ["16 training images instead of 795"]}
    for seed in range(2):
        make_run("multi", seed, {"depth": 0.5}, dataset=dataset)
    assert row_of(runs_dir, "multi").notes == ("data: 16 training images instead of 795",)


def test_folder_without_finished_runs(runs_dir, make_run):
    shutil.rmtree(make_run("multi", 0, {"depth": 0.5}))
    with pytest.raises(UserError, match="no finished run"):
        aggregate(runs_dir / "multi")


DAMAGED = ("", "{", "{}", "[]", '{"version": 2}', "\0\0\0")


@pytest.mark.parametrize("content", DAMAGED)
def test_seed_whose_summary_cannot_be_read_is_left_out_by_name(runs_dir, make_run, content):
    make_run("multi", 0, {"depth": 0.5})
    broken = make_run("multi", 1, {"depth": 0.9})
    (broken / "summary.json").write_text(content)
    row = row_of(runs_dir, "multi")
    assert row.seeds == (0,) and row.statistics["depth"].mean == 0.5
    assert [str(broken / "summary.json") in note for note in row.notes] == [True]
    assert [run.seed for run in read_runs(runs_dir / "multi")] == [0]
    assert list(left_out(runs_dir / "multi")) == [broken]


def test_name_without_a_readable_summary_is_refused_by_the_file(runs_dir, make_run):
    (make_run("multi", 0, {"depth": 0.5}) / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"multi/seed0/summary\.json"):
        row_of(runs_dir, "multi")


def test_summary_with_a_task_of_another_build_is_left_out(runs_dir, make_run):
    make_run("multi", 0, {"depth": 0.5})
    make_run("multi", 1, {"depth": 0.5, "flow": 0.1})
    assert row_of(runs_dir, "multi").seeds == (0,)


@pytest.mark.parametrize(
    ("status", "begins"),
    [
        ({"status": "interrupted", "error": "SIGINT; goes on"}, "not finished"),
        ({"status": "interrupted", "error": "SIGTERM; goes on"}, "not finished"),
        ({"status": "failed", "error": "disk full"}, "failed: disk full"),
        (None, "not finished"),
        ([], "not finished"),
        ({"status": "failed"}, "not finished"),
    ],
)
def test_interrupted_runs_are_not_failed_ones(runs_dir, status, begins):
    run = runs_dir / "multi" / "seed0"
    run.mkdir(parents=True)
    if status is not None:
        write_json(run / "status.json", status)
    reason = left_out(runs_dir / "multi")[run]
    assert reason.startswith(begins)
    assert status != {"status": "failed"} or str(run / "status.json") in reason


def test_a_single_task_classification_is_compared_with_the_baseline_and_is_none(runs_dir, make_run):
    make_baselines(make_run, {"depth": 2.0})
    make_run("depth_classification", 0, {"depth": 2.5}, classifications=["depth"])
    assert [row.name for row in find_baselines(runs_dir)] == ["single_depth"]
    delta = row_of(runs_dir, "depth_classification").delta
    assert delta is not None and delta.value == pytest.approx(-25.0)


def test_a_network_with_another_objective_is_no_baseline(runs_dir, make_run):
    make_baselines(make_run, {"depth": 2.0})
    make_run("weighted", 0, {"depth": 2.5}, objective=["loss_weights.depth=2"])
    assert [row.name for row in find_baselines(runs_dir)] == ["single_depth"]
    make_run("multi", 0, {"depth": 2.0, "normals": 20.0})
    make_run("balanced", 0, {"depth": 2.0, "normals": 20.0}, objective=["balance=dwa"])
    assert row_of(runs_dir, "multi").experiment.is_multi_task
    assert not row_of(runs_dir, "balanced").experiment.is_multi_task
