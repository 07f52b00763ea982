"""What figures, tables and the Explorer make of searches whose scales have blocks of their own."""

import json

import pytest

from atrc_exp.evaluation.panels import genotype_map
from atrc_exp.files import write_json
from atrc_exp.genotype import Genotype, candidates, load, save, task_of, vote
from atrc_exp.report import curves, votes
from atrc_exp.report.page import dynamics, explorer, findings
from atrc_exp.report.results import overview

TASKS = ("semseg", "depth")
ROWS = ("semseg@0", "depth@0", "semseg@1", "depth@1", "semseg@2", "depth@2")


@pytest.fixture
def search(tmp_path):
    """The folder of a search of three scales: only semseg@1 <- depth converged, to local, from step 20 on."""
    blocks = {row: dict.fromkeys(TASKS, "none") for row in ROWS}
    blocks["semseg@1"]["depth"] = "local"
    even = {r: {s: {c: 1 / len(candidates(r, s)) for c in candidates(r, s)} for s in TASKS} for r in ROWS}
    sure = {**even, "semseg@1": {**even["semseg@1"], "depth": {"none": 0.1, "global": 0, "local": 0.9, "tlabel": 0,
                                                                "slabel": 0}}}  # fmt: skip
    frozen = {r: {s: (r, s) == ("semseg@1", "depth") for s in TASKS} for r in ROWS}
    save(Genotype(TASKS, blocks, {"probabilities": sure, "frozen": frozen}), tmp_path / "genotype.json")
    lines = [{"step": step, "kind": "search", "frozen": int(now is sure), "probabilities": now}
             for step, now in ((10, even), (20, sure), (30, sure))]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.yaml").write_text("search:\n  freeze_gap: 0.5\n")
    return tmp_path


def test_diagonal_of_a_scale_is_that_of_its_task():
    assert "slabel" not in candidates("depth@2", "depth") and "slabel" in candidates("depth@2", "semseg")


def test_votes_and_map_have_a_row_for_each_task_and_scale(search, capsys):
    found = curves.read_finished(search).genotype
    voted = vote([found, found])
    (cells, *_) = votes.draw(voted).axes
    assert len(cells.get_yticks()) == 6 and len(cells.get_xticks()) == 2
    assert len({text.get_text() for text in cells.get_yticklabels()}) == 6
    votes.show(voted)
    printed = capsys.readouterr().out
    assert all(row in printed for row in ROWS)
    (cells, *_) = genotype_map(found).axes
    assert [text.get_text() for text in cells.get_yticklabels()] == list(ROWS)


def test_curves_have_a_panel_for_each_block_of_each_scale(search):
    figure = curves.draw(curves.read_finished(search))
    assert len(figure.axes) == 12
    panel = figure.axes[2 * ROWS.index("semseg@1") + 1]
    ends = {line.get_label(): float(line.get_ydata()[-1]) for line in panel.lines}
    assert sorted(ends.values())[-1] == 1.0, "frozen, and therefore one-hot"
    assert max(float(line.get_ydata()[-1]) for line in figure.axes[1].lines) == pytest.approx(0.2)


def test_explorer_has_the_vote_of_every_scale(runs_dir, make_search):
    for seed, row in enumerate(("nl tl", "nl tl", "gl tl")):
        run = make_search("scales", seed, " ".join(TASKS), row)
        save(load(run).on(3), run / "genotype.json")
    (found,) = explorer.collect(overview.read(runs_dir))["searches"]
    assert tuple(found["rows"]) == tuple(found["vote"]["blocks"]) == ROWS and found["tasks"] == list(TASKS)
    block = found["vote"]["blocks"]["semseg@2"]["semseg"]
    assert block["chosen"] == "none" and block["votes"]["none"] == 2 and block["votes"]["global"] == 1


def test_cost_of_a_block_that_all_scales_follow_is_that_of_all_scales(tmp_path):
    part = {"multiply_adds_with_local_attention": 5, "parameters": 2}
    blocks = {row: {"depth": {"local": part}} for row in ROWS}
    write_json(tmp_path / "profile.json", {"input": [1, 3, 32, 48], "blocks": blocks})
    shared, _ = findings.costs(tmp_path, TASKS)
    assert shared["blocks"] == {task: {"depth": {"local": [15, 6]}} for task in TASKS}
    separate, _ = findings.costs(tmp_path, ROWS)
    assert separate["blocks"] == {row: {"depth": {"local": [5, 2]}} for row in ROWS}


def test_explorer_reads_the_course_of_every_scale(search):
    course = dynamics.read_course(search, True)
    assert tuple(course.shape) == ROWS and not course.notes
    found = dynamics.as_dict(course, 100)
    assert (
        found["blocks"]["semseg@1"]["depth"]["frozen"] == 1 and found["blocks"]["semseg@0"]["depth"]["frozen"] is None
    )
    assert found["chosen"]["semseg@1"] == {"semseg": "none", "depth": "local"}
    assert {task_of(row) for row in found["chosen"]} == set(TASKS)
