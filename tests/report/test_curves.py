"""Curves of the architecture probabilities: records read, frozen blocks one-hot."""

import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, candidates
from atrc_exp.report import curves

TASKS = ("semseg", "depth")


def record(step, frozen):
    probabilities = {t: {s: {c: 1 / len(candidates(t, s)) for c in candidates(t, s)} for s in TASKS} for t in TASKS}
    return {"step": step, "kind": "search", "frozen": frozen, "probabilities": probabilities}


@pytest.fixture
def run(tmp_path):
    """A search of five records; semseg <- depth froze between the second and the third."""
    frozen = {"semseg": {"depth": "local"}, "depth": {}}
    lines = [record(step, frozen if step >= 30 else {}) for step in (10, 20, 30, 40, 50)]
    lines.insert(2, {"step": 20, "kind": "train", "loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_frozen_block_is_one_hot_and_marked(run):
    panel = curves.draw(curves.read_search(run)).axes[1]
    by_type = dict(zip(CONTEXTS, panel.lines, strict=True))
    assert list(by_type["local"].get_ydata()) == [0.2, 0.2, 1, 1, 1]
    assert list(by_type["slabel"].get_ydata()) == [0.2, 0.2, 0, 0, 0]
    assert list(by_type["local"].get_xdata()) == [10, 20, 30, 40, 50]
    assert [text.get_text() for text in panel.texts] == ["local\nfrozen by 30"]


def test_open_block_keeps_its_probabilities(run):
    panel = curves.draw(curves.read_search(run)).axes[0]
    assert len(panel.lines) == 4  # no S-label on the diagonal
    assert list(panel.lines[0].get_ydata()) == [0.25] * 5
    assert not panel.texts


def test_steps_repeated_by_a_resume_count_once(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record(50, {"depth": {"depth": "none"}})) + "\n")
    records = curves.read_search(run)
    assert [r["step"] for r in records] == [10, 20, 30, 40, 50]
    assert records[-1]["frozen"] == {"depth": {"depth": "none"}}


def test_command_writes_both_formats(run):
    curves.main([str(run)])
    assert (run / "probabilities.png").is_file()
    assert (run / "probabilities.pdf").is_file()


def test_run_without_search_records_is_refused(run):
    (run / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss": 1.0}\n')
    with pytest.raises(UserError, match="no search records"):
        curves.read_search(run)
