"""The table of losses at the start and the end of runs."""

import json
from pathlib import Path

import pytest

from atrc_exp.report.learning import main


def make_run(root: Path, name: str, losses: list[float], finished: bool = True) -> None:
    folder = root / name / "seed0"
    folder.mkdir(parents=True)
    records = [{"step": 4 * k, "kind": "train", "loss": loss} for k, loss in enumerate(losses, 1)]
    records.insert(1, {"step": 4, "kind": "val", "loss": -1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if finished:
        summary = {"version": 1, "stage": "retrain", "distillation": "pap", "backbone": "tiny", "iteration": 12,
                   "dataset": {"name": "rooms", "fingerprint": "ab"}, "tasks": ["semseg", "depth", "edge"],
                   "headline": {"semseg": 0.125, "depth": 1.5, "edge": None}}  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))


def test_losses_of_first_and_last_interval_and_scores(tmp_path, capsys):
    make_run(tmp_path, "one", [30.0, 40.0, 20.5])
    main([str(tmp_path)])
    assert "| one/seed0 | 12 | 30.000 | 20.500 | 12.500 | 1.500 |" in capsys.readouterr().out
    assert "SemSeg miou [%] ↑ | Depth rmse [m] ↓" in (tmp_path / "learning.md").read_text()
    row = json.loads((tmp_path / "learning.json").read_text())["rows"][0]
    assert (row["first"], row["last"], row["fell"]) == (30.0, 20.5, True)


def test_a_loss_that_did_not_fall_is_marked_and_fails_the_command(tmp_path, capsys):
    make_run(tmp_path, "good", [3.0, 2.0])
    make_run(tmp_path, "flat", [3.0, 1.0, 3.0])
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if "(not lower)" in line] == ["| flat/seed0"]


@pytest.mark.parametrize(
    ("losses", "finished", "message"), [([1.0, 0.5], False, "not finished"), ([1.0], True, "engine.log_every")]
)
def test_runs_that_cannot_be_judged_are_named(tmp_path, losses, finished, message):
    make_run(tmp_path, "one", losses, finished)
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path)])
    assert not (tmp_path / "learning.md").exists()


def test_a_damaged_run_leaves_the_others_and_fails_the_command(tmp_path, capsys):
    make_run(tmp_path, "good", [3.0, 2.0])
    make_run(tmp_path, "poor", [3.0, 2.0])
    (tmp_path / "poor" / "seed0" / "summary.json").write_text("")
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert caught.value.code == 1 and "| good/seed0 |" in printed and "poor/seed0/summary.json" in printed


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no runs"):
        main([str(tmp_path)])
