import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.report import sweep
from atrc_exp.report.results import ranking


@pytest.fixture
def grid(tmp_path):
    """Write the summary of one run of a grid."""

    def write(name, seed=0, iteration=40, **losses):
        summary = {"losses": losses, "seed": seed, "iteration": iteration, "dataset": {"fingerprint": "01"}}
        write_json(tmp_path / name / f"seed{seed}" / "summary.json", summary)
        return tmp_path / name

    return write


def test_score_is_the_sum_of_losses_relative_to_the_lowest(grid):
    folders = [grid("lr1", depth=2.0, edge=0.1), grid("lr2", depth=1.0, edge=0.15), grid("lr3", depth=3.0, edge=0.4)]
    ranked = ranking.rank(folders)
    assert [one.name for one in ranked] == ["lr2", "lr1", "lr3"]
    assert [one.score for one in ranked] == pytest.approx([1 + 1.5, 2 + 1, 3 + 4])


def test_seeds_are_averaged_first(grid):
    grid("lr1", 0, depth=1.0)
    folders = [grid("lr1", 1, depth=5.0), grid("lr2", 0, depth=2.0)]
    assert [(one.name, one.seeds, one.losses["depth"]) for one in ranking.rank(folders)] == [
        ("lr2", (0,), 2.0),
        ("lr1", (0, 1), 3.0),
    ]


def test_loss_without_a_value_comes_last_and_an_unfinished_setting_is_left_out(grid, tmp_path, capsys):
    (tmp_path / "lr0" / "seed0").mkdir(parents=True)
    ranked = ranking.rank([tmp_path / "lr0", grid("lr1", depth=None), grid("lr2", depth=2.0)])
    assert [one.name for one in ranked] == ["lr2", "lr1"]
    ranking.show(ranked, tmp_path / "grid")
    written = json.loads((tmp_path / "grid" / "ranking.json").read_text())
    assert written["selected_on"] == "val" and [one["score"] for one in written["ranking"]] == [1.0, None]
    text = (tmp_path / "grid" / "ranking.md").read_text()
    assert "| 1 | lr2 | 1 | 1.0000 | 2.0000 |" in text and "selected on val" in text
    assert "selected on val" in capsys.readouterr().out


@pytest.mark.parametrize("other", [{"iteration": 80, "depth": 1.0}, {"edge": 1.0}])
def test_runs_that_differ_in_more_than_the_grid_are_not_ranked(grid, other):
    with pytest.raises(UserError, match="differ"):
        ranking.rank([grid("lr1", depth=1.0), grid("lr2", **other)])


def test_end_of_a_sweep_ranks_on_request(grid, tmp_path, capsys):
    for number, name in enumerate(("lr1", "lr2")):
        folder = grid(name, depth=1.0 + number) / "seed0"
        sweep.record_job(tmp_path, "now", number, folder, name, "profile", "done")
    assert sweep.finish(tmp_path, "now", 2, "grid")
    assert [one["name"] for one in json.loads((tmp_path / "grid/ranking.json").read_text())["ranking"]] == [
        "lr1",
        "lr2",
    ]
    sweep.record_job(tmp_path, "later", 0, tmp_path / "none" / "seed0", "none", "profile", "done")
    assert not sweep.finish(tmp_path, "later", 1, "grid")
    assert "no ranking: none of the runs has finished" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"losses": {}}'])
def test_a_damaged_summary_is_named(grid, content):
    folder = grid("lr1", depth=1.0)
    (folder / "seed0" / "summary.json").write_text(content)
    with pytest.raises(UserError, match=r"lr1/seed0/summary\.json"):
        ranking.rank([folder, grid("lr2", depth=2.0)])
