"""The table's cells, units, footnotes and files, as a person and as a program reads them."""

import csv
import io
import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.report.__main__ import main
from atrc_exp.report.results import tables


@pytest.fixture
def study(runs_dir, make_run):
    """Two seeds of a multi-task network, three of the single-task baselines, one run of a longer training."""
    for seed, (semseg, depth) in enumerate([(0.30, 1.00), (0.32, 1.10)]):
        make_run("multi_task", seed, {"semseg": semseg, "depth": depth, "edge": None})
    for seed in range(3):
        make_run("single_semseg", seed, {"semseg": 0.25})
        make_run("single_depth", seed, {"depth": 1.05})
    make_run("longer", 0, {"semseg": 0.4, "depth": 0.9}, iteration=80)
    (runs_dir / ".multirun").mkdir()
    return runs_dir


def lines_of(text):
    """Cells of the first Markdown table by the name in the first column (without its footnote numbers)."""
    text = text.partition("\n\n### Differences")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].split(" ")[0]: row for row in rows}


def test_cells_in_display_units(study):
    rows = lines_of(tables.to_markdown(tables.collect([study / "multi_task"])))
    header = rows["Run"]
    assert header[1:4] == ["Seeds", "SemSeg miou [%] ↑", "Depth rmse [m] ↓"]
    assert header[4] == "Δm (semseg, depth) [%] ↑"
    assert rows["multi_task"][1:4] == ["2", "31.00 ± 1.41", "1.0500 ± 0.0707"]
    assert rows["multi_task"][4].split()[0] == "+12.00"  # (31 / 25 - 1) / 2, depth unchanged


def test_single_run_has_no_deviation(study):
    rows = lines_of(tables.to_markdown(tables.collect([study / "longer"])))
    assert rows["longer"][1:4] == ["1", "40.00", "0.9000"]


def test_undefined_delta_says_why(study):
    text = tables.to_markdown(tables.collect([study / "longer"]))
    assert lines_of(text)["longer"][4] == "n/a ¹"
    assert "¹ no single-task runs of semseg, depth on rooms" in text


def test_task_without_metric_is_a_footnote_not_a_column(study):
    text = tables.to_markdown(tables.collect([study / "multi_task"]))
    assert not any("Bound" in cell for cell in lines_of(text)["Run"])
    assert lines_of(text)["multi_task"][0] == "multi_task ¹"
    assert "¹ no headline metric in these runs for: edge" in text


def test_settings_are_kept_apart(study):
    report = tables.collect([study])
    assert [row.name for row in report.rows] == ["longer", "multi_task", "single_depth", "single_semseg"]
    assert [[line[0].split()[0] for line in section.cells] for section in report.sections()] == [
        ["longer"],
        ["multi_task", "single_depth", "single_semseg"],
    ]


def test_tasks_follow_the_table_of_tasks_and_gaps_are_marked(study):
    rows = lines_of(tables.to_markdown(tables.collect([study / "single_depth", study / "single_semseg"])))
    assert rows["single_depth"][2:] == ["–", "1.0500 ± 0.0000"]
    assert rows["single_semseg"][2:] == ["25.00 ± 0.00", "–"]


def test_rows_of_different_task_sets_do_not_share_a_delta_column(study, make_run):
    make_run("two", 0, {"semseg": 0.3, "depth": 1.0})
    make_run("one", 0, {"depth": 1.0}, distillation="global")
    section = tables.collect([study / "two", study / "one"]).sections()[0]
    assert section.header[-2:] == ["Δm (semseg, depth) [%] ↑", "Δm (depth) [%] ↑"]
    (two, one) = section.cells
    assert two[-1] == one[-2] == "–"


def test_mixed_name_is_a_marked_gap_beside_the_others(study, make_run):
    make_run("mixed", 0, {"depth": 1.0})
    make_run("mixed", 1, {"depth": 1.0}, iteration=80)
    report = tables.collect([study / "multi_task", study / "mixed"])
    assert [row.name for row in report.rows] == ["multi_task"]
    assert "mixed is not in the table: " in tables.to_markdown(report)
    with pytest.raises(UserError, match="iterations is 40 in seed0 and 80 in seed1"):
        tables.collect([study / "mixed"])


def test_json_and_csv_tell_the_same_numbers(study):
    report = tables.collect([study])
    rows = json.loads(json.dumps(tables.as_dict(report), allow_nan=False))["rows"]
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(report))))
    assert [line["name"] for line in lines] == [row["name"] for row in rows]
    for row, line in zip(rows, lines, strict=True):
        for task, found in row["tasks"].items():
            assert float(line[f"{task}_{found['metric']}_mean"]) == found["mean"]
            assert line[f"{task}_{found['metric']}_std"] == ("" if found["std"] is None else str(found["std"]))
    multi = rows[1]
    assert multi["tasks"]["semseg"]["mean"] == pytest.approx(31.0)
    assert multi["tasks"]["semseg"]["std"] == pytest.approx(2**0.5)
    assert multi["delta_m"]["percent"] == pytest.approx(12.0)
    assert multi["seeds"] == [0, 1]
    assert float(lines[1]["delta_m_percent"]) == pytest.approx(12.0)
    assert lines[0]["delta_m_percent"] == ""


def test_command_writes_beside_the_runs_and_prints_whole_lines(study, capsys):
    main([str(study)])
    assert {path.name for path in study.glob("table.*")} == {"table.md", "table.json", "table.csv"}
    printed = capsys.readouterr().out
    assert "Depth rmse [m] ↓" in printed  # no markup eaten, no heading wrapped
    assert "31.00 ± 1.41" in printed


def test_command_writes_where_it_is_told(study, tmp_path):
    main([str(study / "longer"), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "table.md").is_file()
    main([str(study / "longer")])
    assert (study / "longer" / "table.md").is_file()


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_command_without_runs_is_one_message(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=f"error: .*{folder}") as stop:
        main([str(tmp_path / folder)])
    assert "\n" not in str(stop.value)
