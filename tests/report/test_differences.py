"""Paired differences: worked intervals, their direction, and what is not compared."""

import random
import statistics

import pytest

from atrc_exp.report.results import tables
from atrc_exp.report.results.differences import Compared, by_task, difference, of_delta, sheet


def test_worked_interval():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt 3, t(0.975, 2) = 4.302653."""
    found = difference([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    assert found.mean == 2.0 and found.n == 3
    assert found.high - found.mean == pytest.approx(4.302653 / 3**0.5, abs=1e-6)
    assert found.mean - found.low == pytest.approx(4.302653 / 3**0.5, abs=1e-6)


def test_equal_differences_have_an_interval_of_one_point_and_one_pair_has_none():
    assert difference([2.0, 3.0], [1.0, 2.0]).low == difference([2.0, 3.0], [1.0, 2.0]).high == 1.0
    alone = difference([2.0], [1.0])
    assert (alone.mean, alone.low, alone.verdict(True)) == (1.0, None, 0)
    assert difference([], []) is None


def test_interval_covers_the_mean_as_often_as_it_says():
    draw = random.Random(0)
    samples = [[draw.gauss(0.3, 1.0) for _ in range(5)] for _ in range(400)]
    found = [difference(sample, [0.0] * 5) for sample in samples]
    assert statistics.fmean(each.low <= 0.3 <= each.high for each in found) == pytest.approx(0.95, abs=0.03)


def test_pairs_are_made_by_seed_not_by_order():
    ours = {"semseg": {0: 0.5, 1: 0.7, 4: 0.9}}
    reference = {"semseg": {1: 0.6, 0: 0.4, 3: 0.1}}
    found = by_task(ours, reference)["semseg"]
    assert (found.n, found.mean) == (2, pytest.approx(0.1))


@pytest.mark.parametrize(("task", "verdict"), [("semseg", 1), ("depth", -1)])
def test_verdict_goes_by_the_direction_of_the_metric(task, verdict):
    ours, reference = {task: {0: 1.0, 1: 1.1, 2: 1.2}}, {task: {0: 0.5, 1: 0.59, 2: 0.72}}
    made = sheet("results_1", "rooms", [Compared("ours", ours)], [Compared("plain", reference)])
    (key,) = [key for key in made.records[0] if key.startswith(task) and key.endswith("verdict")]
    assert made.records[0][key] == ("better" if verdict == 1 else "worse")
    assert (made.rows[0][3].rank == 1) == (verdict == 1)
    mixed = {task: {0: 0.4, 1: 0.69, 2: 0.72}}
    made = sheet("results_1", "rooms", [Compared("ours", mixed)], [Compared("plain", reference)])
    assert made.rows[0][3].rank is None and not any(mark in made.rows[0][3].text for mark in "▲▼")


def test_delta_of_each_seed():
    """Seed 0: (10 % + 20 %) / 2, seed 1: (0 % + 10 %) / 2; lower depth is a gain."""
    reference = {"semseg": {0: 0.5, 1: 0.5}, "depth": {0: 1.0, 1: 1.0}}
    found = of_delta({"semseg": {0: 0.55, 1: 0.5}, "depth": {0: 0.8, 1: 0.9}}, reference)
    assert found.mean == pytest.approx(10.0)
    assert of_delta({"semseg": {0: 0.5}}, {"depth": {0: 1.0}}) is None
    assert of_delta({"semseg": {0: 0.5}}, {"semseg": {0: 0.0}}) is None


def test_tables_compare_with_both_baselines_under_the_same_conditions(runs_dir, make_run):
    for seed in range(3):
        make_run("single_depth", seed, {"depth": 1.0 + 0.01 * seed})
        make_run("single_semseg", seed, {"semseg": 0.2})
        make_run("multi_task", seed, {"semseg": 0.2 + 0.01 * seed, "depth": 1.1})
        make_run("atrc", seed, {"semseg": 0.3 + 0.01 * seed, "depth": 1.2 - 0.05 * seed}, distillation="atrc")
    make_run("longer", 0, {"semseg": 0.9, "depth": 0.9}, distillation="atrc", iteration=80)
    found = [made for made in tables.collect([runs_dir]).sheets() if made.name.endswith("_differences")]
    pairs = [(record["title"], record["minus"]) for made in found for record in made.records]
    assert pairs == [
        ("atrc", "multi_task"),
        ("atrc", "single-task networks"),
        ("multi_task", "single-task networks"),
    ]
    assert found[0].records[0]["semseg_miou"] == pytest.approx(10.0)
    assert found[0].records[0]["semseg_miou_verdict"] == "better"
    assert found[0].records[0]["depth_rmse_verdict"] == "open"


def test_networks_that_started_from_a_trained_one_are_not_compared_with_the_others(runs_dir, make_run):
    trained = {"init": {"file": "base.safetensors", "sha256": "ab" * 32}}
    for seed in range(2):
        make_run("single_depth", seed, {"depth": 1.0})
        make_run("tuned_depth", seed, {"depth": 0.5}, **trained)
        make_run("multi_task", seed, {"depth": 0.8 + 0.1 * seed, "semseg": 0.2})
    report = tables.collect([runs_dir])
    names = [[line[0].split()[0] for line in section.cells] for section in report.sections()]
    assert names == [["multi_task", "single_depth"], ["tuned_depth"]]
    (record,) = [record for made in report.sheets() for record in made.records if made.name.endswith("_differences")]
    assert (record["title"], record["depth_rmse"]) == ("multi_task", pytest.approx(-0.15))
