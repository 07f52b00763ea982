"""Gain against cost: points at the numbers of the runs, counts that belong to the run."""

from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.models.profile import Part
from atrc_exp.report.figures import cost
from atrc_exp.report.results.aggregate import find_baselines
from atrc_exp.report.results.tables import gather


@pytest.fixture
def study(runs_dir, make_run, make_search, monkeypatch):
    """Four networks with known counts; Δm is +20 % for one module and -10 % for another."""
    for seed in range(2):
        make_run("rooms_single_semseg", seed, {"semseg": 0.25})
        make_run("rooms_single_depth", seed, {"depth": 1.0})
        make_run("rooms_multi", seed, {"semseg": 0.30, "depth": 0.8})
        make_run("rooms_psd", seed, {"semseg": 0.25, "depth": 1.2}, distillation="psd")
        make_run("rooms_longer", seed, {"semseg": 0.3, "depth": 0.8}, iteration=80)
        make_search("rooms_search", seed, "semseg depth", "nn nn")
    counts = {
        "rooms_single_semseg": (10, 3),
        "rooms_single_depth": (12, 4),
        "rooms_multi": (15, 5),
        "rooms_psd": (16, 6),
    }
    monkeypatch.setattr(
        cost, "count", lambda run: Part(counts[run.parent.name][0] * 10**6, 0, 0, counts[run.parent.name][1] * 10**9)
    )
    return runs_dir


def points(runs_dir):
    found, reasons = points_and_reasons(runs_dir)
    assert not reasons
    return found


def points_and_reasons(runs_dir):
    groups = cost.groups(gather(sorted(runs_dir.iterdir())).rows)
    assert len(groups) == 1  # searches, and runs without baselines of their length, have no point
    return cost.points(next(iter(groups.values())), find_baselines(runs_dir), runs_dir)


def test_points_have_the_runs_numbers(study):
    found = {(p.name, p.kind): (p.delta, p.parameters, p.multiply_adds) for p in points(study)}
    assert found == {
        ("single task", "single-task networks"): (0, 22_000_000, 7_000_000_000),  # the networks of both tasks together
        ("multi", "no distillation"): (pytest.approx(20), 15_000_000, 5_000_000_000),
        ("psd", "other modules"): (pytest.approx(-10), 16_000_000, 6_000_000_000),
    }


def test_both_panels_show_every_network_with_its_name(study):
    left, right = cost.draw(points(study)).axes
    for axes, xs in ((left, [22, 15, 16]), (right, [7, 5, 6])):
        drawn = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_linestyle() == "None"]
        assert drawn == [pytest.approx(pair) for pair in zip(xs, (0, 20, -10), strict=True)]
        assert {text.get_text() for text in axes.texts} - {""} == {"single task", "multi", "psd"}


def test_a_network_that_cannot_be_counted_leaves_the_others(study, monkeypatch):
    counted = cost.count

    def count(run):
        if run.parent.name in ("rooms_psd", "rooms_single_depth"):
            raise UserError(f"{run}/config.yaml: damaged")
        return counted(run)

    monkeypatch.setattr(cost, "count", count)
    found, reasons = points_and_reasons(study)
    assert [point.name for point in found] == ["multi"]  # half of the single-task networks are no network
    assert [name in reason for name, reason in zip(("single_depth/seed0/config", "psd/seed0/config"), reasons,
                                                   strict=True)] == [True, True]  # fmt: skip


@pytest.mark.slow
def test_counts_are_of_the_runs_own_network(tmp_path, monkeypatch):
    from small_rooms import as_typed

    run = tmp_path / "runs" / "multi" / "seed0"
    config = as_typed("+experiment=rooms_hrnet18_multi_task", "tasks=[depth]", "dataset.crop=[64,96]")
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(OmegaConf.structured(config))))
    write_json(run / "summary.json", {"parameters": 4_023_732})
    counted = cost.count(run)
    assert counted.parameters == 4_023_732 and counted.paper == 260_425_008
    monkeypatch.setattr(cost, "profile_of", lambda config: SimpleNamespace(total=counted))  # once is slow enough
    kept = {"parameters": 4_023_732, "multiply_adds": 2, "multiply_adds_with_local_attention": 5}
    profile = {"input": [1, 3, 64, 96], "total": kept | {"multiply_adds_paper": 7}}
    write_json(run.parent / "profile.json", profile)
    assert cost.count(run) == Part(4_023_732, 2, 3, 7)
    write_json(run.parent / "profile.json", profile | {"input": [1, 3, 425, 560]})  # of another image size
    assert cost.count(run) == counted
    write_json(run / "summary.json", {"parameters": 1})
    with pytest.raises(UserError, match="4023732 in this build"):
        cost.count(run)


def test_the_front_holds_what_is_best_for_its_cost():
    networks = [(3, -1.0), (1, -2.0), (2, -2.5), (2, -2.0), (4, 0.5), (1, -3.0), (5, 0.5)]
    assert cost.front_of(networks) == [(1, -2.0), (3, -1.0), (4, 0.5)]


def test_nothing_to_draw_is_told_and_single_tasks_alone_have_a_scale():
    with pytest.raises(UserError):
        cost.draw([])
    left = cost.draw([cost.Point("single task", "single-task networks", 0.0, 10**6, 10**9)]).axes[0]
    low, high = left.get_ylim()
    assert low <= -0.1 and high >= 0.1
