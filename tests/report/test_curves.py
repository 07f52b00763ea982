"""Curves of the architecture probabilities: records read, frozen blocks one-hot."""

import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, Genotype, candidates, load, save, uniform
from atrc_exp.report import curves
from atrc_exp.report.figures import drawing

TASKS = ("semseg", "depth")


def record(step, block=None):
    """Equal probabilities but for those of semseg <- depth."""
    probabilities = {t: {s: {c: 1 / len(candidates(t, s)) for c in candidates(t, s)} for s in TASKS} for t in TASKS}
    if block is not None:
        probabilities["semseg"]["depth"] = dict(zip(CONTEXTS, block, strict=True))
    return {"step": step, "kind": "search", "frozen": 0, "probabilities": probabilities}


@pytest.fixture
def run(tmp_path):
    """A search of five records; semseg <- depth reached a gap of 0.3 between the second and the third."""
    lines = [record(10), record(20), record(30, [0.2, 0.2, 0.5, 0.1, 0.0]), record(40), record(50)]
    lines.insert(2, {"step": 20, "kind": "train", "loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.yaml").write_text("search:\n  freeze_gap: 0.3\n")
    frozen = {target: {source: (target, source) == ("semseg", "depth") for source in TASKS} for target in TASKS}
    found = uniform(TASKS, "none").changed({"semseg": {"depth": "local"}})
    save(Genotype(found.tasks, found.blocks, {"frozen": frozen}), tmp_path / "genotype.json")
    return tmp_path


def draw(run, freeze_gap=0.3):
    return curves.draw(curves.Search(curves.read_search(run), load(run), freeze_gap))


def test_frozen_block_is_one_hot_and_marked(run):
    panel = draw(run).axes[1]
    by_type = dict(zip(CONTEXTS, panel.lines, strict=True))
    assert list(by_type["local"].get_ydata()) == [0.2, 0.2, 1, 1, 1]
    assert list(by_type["slabel"].get_ydata()) == [0.2, 0.2, 0, 0, 0]
    assert list(by_type["local"].get_xdata()) == [10, 20, 30, 40, 50]
    assert [text.get_text() for text in panel.texts] == ["local\nsince 30"]


def test_block_that_froze_between_records_is_frozen_in_the_last(run):
    panel = draw(run, freeze_gap=0.4).axes[1]
    assert [text.get_text() for text in panel.texts] == ["local\nsince 50"]


def test_open_block_keeps_its_probabilities(run):
    panel = draw(run).axes[0]
    assert len(panel.lines) == 4  # no S-label on the diagonal
    assert list(panel.lines[0].get_ydata()) == [0.25] * 5
    assert not panel.texts


def test_steps_repeated_by_a_resume_count_once(run):
    again = record(50, [0.0, 0.0, 0.0, 0.0, 1.0])
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    records = curves.read_search(run)
    assert [r["step"] for r in records] == [10, 20, 30, 40, 50]
    assert records[-1] == again


def test_command_writes_both_formats(run):
    curves.main([str(run)])
    assert (run / "probabilities.png").is_file()
    assert (run / "probabilities.pdf").is_file()


def test_run_without_search_records_is_refused(run):
    (run / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss": 1.0}\n')
    with pytest.raises(UserError, match="no search records"):
        curves.read_search(run)
    (run / "metrics.jsonl").write_text('{"step": 1, "kind": "search", "scored": 4, "held_out_loss": 1.0}\n')
    with pytest.raises(UserError, match="no probabilities"):
        curves.read_search(run)


def test_sweep_shows_the_mean_and_who_froze_when(run):
    frozen = curves.read_finished(run)
    all_open = {target: dict.fromkeys(TASKS, False) for target in TASKS}
    never = curves.Search(frozen.records, Genotype(TASKS, uniform(TASKS, "none").blocks, {"frozen": all_open}), 0.3)
    panel = curves.draw_sweep([frozen, never, frozen]).axes[1]
    local = dict(zip(CONTEXTS, panel.lines, strict=False))["local"]
    expected = [0.2, 0.2, (1 + 0.5 + 1) / 3, (1 + 0.2 + 1) / 3, (1 + 0.2 + 1) / 3]
    assert local.get_ydata() == pytest.approx(expected)
    marks = [line for line in panel.lines if line.get_linestyle() == "None"]
    assert [line.get_marker() for line in marks] == [drawing.marker("local")] * 2
    assert [line.get_xdata()[0] for line in marks] == [30, 30]
    assert marks[0].get_ydata()[0] != marks[1].get_ydata()[0]  # one above the other


def test_a_search_of_one_record_can_be_seen(run):
    one = curves.Search([record(10)], load(run), 0.3)
    for figure in (curves.draw(one), curves.draw_sweep([one])):
        lines = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [10]]
        assert len(lines) == 4 and all(line.get_marker() != "None" for line in lines)


def test_searches_over_other_tasks_or_steps_are_not_averaged(run):
    one = curves.read_finished(run)
    with pytest.raises(UserError, match="different tasks"):
        curves.draw_sweep([one, curves.Search(one.records, uniform(("semseg",), "none"), 0.3)])
    with pytest.raises(UserError, match="different steps"):
        curves.draw_sweep([one, curves.Search([record(11)], one.genotype, 0.3)])
