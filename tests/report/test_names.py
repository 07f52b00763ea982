"""Names with sub-folders, `a/b`, in everything that is made of run folders."""

import json
from pathlib import Path

import pytest
import yaml
from small_rooms import as_typed

from atrc_exp.files import write_text
from atrc_exp.report import sweep
from atrc_exp.report.results import tables
from atrc_exp.runs import finished
from atrc_exp.stages import run_stage


@pytest.fixture
def nested(runs_dir, make_run, make_search):
    """A name within another, two that end alike, one below no other and baselines at the top."""
    for seed in range(2):
        make_run("a/b", seed, {"semseg": 0.3, "depth": 1.0 + seed})
        make_run("c/b", seed, {"semseg": 0.4, "depth": 2.0})
        make_run("a", seed, {"semseg": 0.2, "depth": 1.0})
        make_search("deep/er/search", seed, "semseg depth", "ng tl")
    make_run("single_semseg", 0, {"semseg": 0.25})
    make_run("single/depth", 0, {"depth": 1.0})
    waiting = runs_dir / "waiting" / "one" / "seed0" / "config.yaml"
    write_text(waiting, yaml.safe_dump({"name": "waiting/one", "engine": {"batch_size": 2}}))
    return runs_dir


NAMES = ["a", "a/b", "c/b", "deep/er/search", "single/depth", "single_semseg", "waiting/one"]


def test_all_names_are_found_and_lie_in_one_folder_of_runs(nested):
    folders = finished.run_names(nested)
    assert sorted(map(finished.run_name, folders)) == NAMES
    assert {finished.runs_root(folder) for folder in folders} == {nested}


def test_tables_tell_them_apart_and_find_their_baselines(nested):
    rows = {row.name: row for row in tables.collect([nested]).rows}
    assert set(rows) == set(NAMES) - {"waiting/one"}
    assert rows["a/b"].statistics["depth"].mean == 1.5 and rows["c/b"].statistics["depth"].mean == 2.0
    # Higher is better for semseg, lower for depth: 100 (0.05 / 0.25 - 0.5 / 1) / 2.
    assert rows["a/b"].delta is not None and rows["a/b"].delta.value == pytest.approx(-15)
    (alone,) = tables.collect([nested / "a" / "b"]).rows
    assert alone == rows["a/b"]


def test_the_page_has_a_figure_of_every_name(nested, capsys):
    run_stage(as_typed("stage=report", f"runs_dir={nested}"))
    text = (nested / "report" / "index.html").read_text()
    assert all(name in text for name in NAMES) and "a/b" in capsys.readouterr().out
    figures = {path.name for path in (nested / "report" / "figures").iterdir()}
    assert "votes_deep-er-search.png" in figures and all((nested / "report" / "figures" / f).is_file() for f in figures)


def test_a_multirun_ends_in_the_folder_of_its_name(nested, capsys):
    for number in range(2):
        sweep.record_job(nested, "now", number, nested / "a/b" / f"seed{number}", "a/b", "retrain", "done")
        sweep.record_job(nested, "now", number + 2, nested / f"deep/er/search/seed{number}", "deep/er/search", "search",
                         "done")  # fmt: skip
    assert sweep.finish(nested, "now", 4)
    assert json.loads((nested / "a" / "b" / "table.json").read_text())["rows"][0]["name"] == "a/b"
    voted = json.loads((nested / "deep" / "er" / "search" / "genotype.json").read_text())
    assert voted["sources"] == ["deep/er/search/seed0", "deep/er/search/seed1"]


def test_a_folder_that_was_moved_has_its_folders_name(nested):
    moved = Path(nested / "a" / "b").rename(nested / "kept")
    assert finished.run_name(moved) == "kept"
