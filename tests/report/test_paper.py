"""Ours beside the paper's: numbers, marks, gaps with their reasons, and the files."""

import csv
import io
import itertools
import json

import pytest

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.genotype import load
from atrc_exp.report.paper import table
from atrc_exp.report.paper.document import main, sheets, write
from atrc_exp.report.results.reliability import chance

NYUD = {"dataset": {"name": "nyud", "fingerprint": "0123456789abcdef", "packaging": "A", "notes": []}}
SINGLE = {"semseg": 0.25, "depth": 1.0, "normals": 40.0, "edge": 0.5}


@pytest.fixture
def make_single(make_run):
    def make(prefix="nyud_hrnet18", seeds=(0, 1), **changes):
        for task, value in SINGLE.items():
            for seed in seeds:
                make_run(f"{prefix}_single_task_{task}", seed, {task: value}, **{**NYUD, **changes})

    return make


def rows_of(sheet):
    """Cells by the title of the row, without the numbers of notes."""
    return {row[0].text.split(" ¹")[0].split(" ²")[0]: row for row in sheet.rows}


def texts(row):
    return [cell.text for cell in row]


def ours(sheet, title):
    """Cells of a row that are not the paper's."""
    return [cell.text for cell, heading in zip(rows_of(sheet)[title], sheet.header, strict=True) if heading != "paper"]


def test_ours_stand_beside_the_papers(runs_dir, make_run, make_single):
    make_single()
    for seed, (semseg, depth) in enumerate([(0.30, 0.9), (0.32, 1.1)]):
        make_run("nyud_hrnet18_multi_task", seed, SINGLE | {"semseg": semseg, "depth": depth}, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    row = rows_of(sheet)["Multi-task"]
    assert sheet.header[:5] == ("Network", "n", "Params [M]", "SemSeg miou [%] ↑", "paper")
    assert texts(row) == [
        "Multi-task", "2", "4.52", "31.00 ± 1.41", "36.35", "1.0000 ± 0.1414", "0.6284", "40.00 ± 0.00", "21.02",
        "50.00 ± 0.00", "76.36", "+6.00", "-1.89",  # (31 / 25 - 1) / 4
    ]  # fmt: skip
    single = rows_of(sheet)["Single task"]
    assert texts(single)[1:4] == ["2", "18.08", "25.00 ± 0.00"] and texts(single)[-2:] == ["+0.00", "+0.00"]


def test_rows_without_runs_are_missing_beside_the_papers_numbers(runs_dir, make_single):
    make_single()
    sheet, *_ = sheets(runs_dir, numbers=["1"])
    row = rows_of(sheet)["PAP"]
    assert row[1].text == "missing"
    assert [cell.text for cell in row[2:]] == ["–", "4.54", "–", "53.04", "–", "36.72 ± 0.31", "–", "0.6178 ± 0.0065",
                                               "–", "20.82 ± 0.03", "–", "76.42 ± 0.07", "–", "-0.95"]  # fmt: skip
    assert len(sheet.rows) == 13


@pytest.mark.parametrize(
    ("shown", "higher", "expected"),
    [
        (["1.0", "3.0", "2.0"], True, [None, 1, 2]),
        (["1.0", "3.0", "2.0"], False, [1, None, 2]),
        (["2.0", "2.0", "1.0", "0.0"], True, [1, 1, 2, None]),  # a tie shares the mark
        (["1.0", "1.0"], True, [None, None]),  # nothing is worse
        (["1.0", "–", "2.0"], True, [None, None, 1]),  # the last of two is not marked as second
        (["–"], True, [None]),
    ],
)
def test_best_and_second(shown, higher, expected):
    values = [None if text == "–" else float(text) for text in shown]
    assert table._ranks(shown, values, higher) == expected


def test_marks_go_by_the_direction_of_the_metric(runs_dir, make_run, make_single):
    make_single()
    better = {"semseg": 0.3, "depth": 0.9, "normals": 50.0, "edge": 0.4}
    make_run("nyud_hrnet18_multi_task", 0, better, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    ranks = [cell.rank for cell in rows_of(sheet)["Multi-task"]]
    assert [ranks[sheet.header.index(h)] for h in sheet.header if "↑" in h or "↓" in h] == [1, 1, None, None, None]


def test_one_seed_has_no_deviation_and_says_so(runs_dir, make_run, make_single):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    row = rows_of(sheet)["Multi-task"]
    assert row[1].text == "1 ¹" and "¹ one seed: no standard deviation" in sheet.notes
    assert row[3].text == "25.00" and sheet.records[1]["semseg_miou_std"] is None


@pytest.mark.parametrize(
    ("changes", "headline", "word", "part"),
    [
        ({"iteration": 80}, SINGLE, "left out", "80 iterations, the other rows on"),
        ({"dataset": NYUD["dataset"] | {"fingerprint": "f" * 16}}, SINGLE, "left out", "files ffffffff"),
        ({"dataset": NYUD["dataset"] | {"name": "rooms"}}, SINGLE, "left out", "dataset rooms where the row has nyud"),
        ({"distillation": "pap"}, SINGLE, "left out", "distillation pap where the row has none"),
        ({"backbone": "hrnet_w48"}, SINGLE, "left out", "hrnet_w48, 40 iterations, the other rows on"),
        ({}, {"semseg": 0.9, "depth": 0.1}, "left out", "tasks semseg, depth where the row has semseg, depth, normals"),
        ({"stage": "search"}, SINGLE, "left out", "stage search where the row has retrain"),
        ({"classifications": ["depth"]}, SINGLE, "left out", "classifications depth where the row has none"),
        ({"objective": ["balance=dwa"]}, SINGLE, "left out", "objective balance=dwa where the row has none"),
        ({"version": 7}, SINGLE, "left out", "has version 7"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_a_gap_with_its_reason(runs_dir, make_run, make_single, changes, headline, word, part):
    make_single()
    for seed in (0, 1):
        make_run("nyud_hrnet18_multi_task", seed, headline, **{**NYUD, **changes})
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    row = rows_of(sheet)["Multi-task"]
    assert row[1].text == word and row[0].text.endswith("¹")
    assert ours(sheet, "Multi-task")[2:] == ["–"] * 6
    assert any(part in note for note in sheet.notes), sheet.notes


def test_mixed_seeds_are_a_gap(runs_dir, make_run, make_single):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    make_run("nyud_hrnet18_multi_task", 1, SINGLE, **NYUD, iteration=80)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    assert rows_of(sheet)["Multi-task"][1].text == "left out"
    assert any("iterations is 40 in seed0 and 80 in seed1" in note for note in sheet.notes)


def test_unfinished_runs_do_not_count(runs_dir, make_run, make_single):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    (runs_dir / "nyud_hrnet18_multi_task" / "seed1").mkdir()
    failed = runs_dir / "nyud_hrnet18_mti_net" / "seed0"
    write_json(failed / "status.json", {"status": "failed", "error": "disk full"})
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    assert rows_of(sheet)["Multi-task"][1].text.startswith("1 ")
    assert rows_of(sheet)["MTI-Net (FPM)"][1].text == "unfinished"
    assert any("multi_task/seed1 is left out: not finished" in note for note in sheet.notes)
    assert any("mti_net/seed0: failed: disk full" in note for note in sheet.notes)


def test_without_a_baseline_there_is_no_delta(runs_dir, make_run, make_single):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    for seed in (0, 1):
        (runs_dir / "nyud_hrnet18_single_task_edge" / f"seed{seed}" / "summary.json").unlink()
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    assert rows_of(sheet)["Multi-task"][-2].text.startswith("n/a")
    assert any("no single-task runs of edge" in note for note in sheet.notes)
    assert ours(sheet, "Single task")[2:] == ["–", "25.00 ± 0.00", "1.0000 ± 0.0000", "40.00 ± 0.00", "–", "–"]


def test_other_single_task_runs_are_no_baselines(runs_dir, make_run, make_single):
    """A second single-task name of the same data would make Δm ambiguous; the row's own name decides."""
    make_single()
    make_run("edge_with_other_rate", 0, {"edge": 0.1}, **NYUD)
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    assert rows_of(sheet)["Multi-task"][-2].text == "+0.00"


def test_another_dataset_has_the_same_rows_and_none_of_the_papers_numbers(runs_dir, make_run, make_single):
    rooms = {"dataset": NYUD["dataset"] | {"name": "rooms"}}
    make_single("rooms_hrnet18", **rooms)
    for preset, module in {"multi_task": "none", "atrc": "atrc"}.items():
        make_run(f"rooms_hrnet18_{preset}", 0, SINGLE, distillation=module, **rooms)
    sheet, *_ = sheets(runs_dir, "rooms")
    assert sheet.name == "table_1_rooms" and "on rooms" in sheet.title
    assert "paper" not in sheet.header and not any("38.02" in cell.text for row in sheet.rows for cell in row)
    assert rows_of(sheet)["ATRC"][-1].text == "+0.00"
    assert not any("paper" in key for record in sheet.records for key in record)


def test_tasks_of_another_dataset_are_those_of_its_runs(runs_dir, make_run):
    people = {"dataset": NYUD["dataset"] | {"name": "rooms_people"}}
    make_run("rooms_people_hrnet18_multi_task", 0, {"semseg": 0.1, "human_parts": 0.2, "sal": 0.3}, **people)
    make_run("rooms_people_hrnet18_single_task_sal", 0, {"sal": 0.3}, **people)
    sheet, *_ = sheets(runs_dir, "rooms_people")
    assert [heading.split()[0] for heading in sheet.header[3:-1]] == ["SemSeg", "PartSeg", "Sal"]
    assert [cell.text for cell in sheet.rows[0][3:]] == ["–", "–", "30.00", "–"]


def test_classification_beside_regression(runs_dir, make_run, make_single):
    make_single()
    for task, value in {"depth": 1.1, "normals": 42.0}.items():
        make_run(f"nyud_hrnet18_single_task_{task}_classification", 0, {task: value}, classifications=[task], **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["D-1"])
    assert [cell.text for cell in sheet.rows[0][3::2]] == ["1.0000 ± 0.0000", "40.00 ± 0.00"]
    assert [cell.text for cell in sheet.rows[1][3::2]] == ["1.1000", "42.00"]
    assert [cell.text for cell in sheet.rows[0][4::2]] == ["0.6104", "20.94"]


def test_backbones_of_one_table_are_not_mixed_up(runs_dir, make_single):
    make_single()
    make_single("nyud_hrnet48", backbone="hrnet_w48")
    sheet, *_ = sheets(runs_dir, numbers=["B-1"])
    assert [row[1].text for row in sheet.rows] == ["–", "2", "–", "2"]
    assert sheet.notes[0].count("hrnet_w") == 2


def test_tables_are_made_that_show_runs_of_their_own(runs_dir, make_run, make_single):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    assert [sheet.name for sheet in sheets(runs_dir) if not sheet.name.endswith("_differences")] == ["table_1"]
    make_run("nyud_hrnet18_mti_net", 0, SINGLE, distillation="mti_net", **NYUD)
    make_run("nyud_hrnet18_tlabel_gt", 0, SINGLE, distillation="tlabel", **NYUD)
    names = [sheet.name for sheet in sheets(runs_dir) if not sheet.name.endswith("_differences")]
    assert names == ["table_1", "table_2", "table_E-1"]
    assert sheets(runs_dir, "pascal") == []


def test_worked_example_of_the_searches(runs_dir, make_search):
    """Three searches of four blocks: Cohen's kappa of each pair, and their mean."""
    for seed, rows in enumerate(["gl nn", "gl nn", "gg nn"]):
        make_search("nyud_hrnet18_search", seed, "semseg depth", rows, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["F"])
    # Equal searches: 1. The others: po = 3/4, pe = 1/4 1/2 + 1/4 0 + 1/2 1/2 = 3/8, kappa = 3/5.
    cells = dict(zip(sheet.header, (cell.text for cell in sheet.rows[0]), strict=True))
    assert [cells[key] for key in ("Search", "n", "Agreement [%] ↑", "Light's κ ↑", "Cohen's κ of the pairs")] == [
        "HRNet18 ¹", "3", "83.3", "0.73", "0.60 to 1.00",
    ]  # fmt: skip
    assert [cell.text for cell, title in zip(sheet.rows[0], sheet.header, strict=True) if title == "paper"] == [
        "71.2",
        "0.48",
    ]
    assert sheet.records[0]["light_kappa"] == pytest.approx((1 + 0.6 + 0.6) / 3)
    assert sheet.records[0]["agreement_percent"] == pytest.approx(100 * 10 / 12)


def test_chance_is_that_of_all_permutations(make_search):
    """Against every way to deal out the choices of two searches while the first stays."""
    rows = ["gl nn", "gl nn", "gg nn"]
    genotypes = [load(make_search("search", seed, "semseg depth", row)) for seed, row in enumerate(rows)]
    first, *others = [tuple(row.replace(" ", "")) for row in rows]
    agreements = []
    for dealt in itertools.product(*(itertools.permutations(choices) for choices in others)):
        pairs = list(itertools.combinations([first, *dealt], 2))
        agreements.append(sum(a == b for x, y in pairs for a, b in zip(x, y, strict=True)) / (4 * len(pairs)))
    found = chance(genotypes)
    assert found.agreement == pytest.approx(sum(agreements) / len(agreements), abs=0.01)
    assert found.p == pytest.approx(sum(a >= 10 / 12 - 1e-9 for a in agreements) / len(agreements), abs=0.01)
    assert found == chance(genotypes)
    assert chance(genotypes[:1]) is None


@pytest.mark.parametrize(
    ("seeds", "changes", "n", "note"),
    [
        ((), {}, "missing", None),
        ((0,), {}, "1", "one search: nothing to compare"),
        ((0, 1), {"stage": "retrain"}, "left out", "stage=retrain on nyud, not searches on nyud"),
        ((0, 1), {"dataset": NYUD["dataset"] | {"name": "rooms"}}, "left out", "on rooms, not searches on nyud"),
    ],
)
def test_searches_that_cannot_be_compared(runs_dir, make_search, seeds, changes, n, note):
    runs_dir.mkdir()
    for seed in seeds:
        make_search("nyud_hrnet18_search", seed, "semseg depth", "gl nn")
        summary = runs_dir / f"nyud_hrnet18_search/seed{seed}/summary.json"
        write_json(summary, json.loads(summary.read_text()) | NYUD | changes)
    sheet, *_ = sheets(runs_dir, numbers=["F"])
    assert [cell.text for cell in sheet.rows[0][1:]] == [n, "–", "71.2", "–", "–", "–", "0.48", "–"]
    assert note is None or any(note in line for line in sheet.notes)


def test_files_of_every_form(runs_dir, make_run, make_single, tmp_path):
    make_single()
    make_run("nyud_hrnet18_multi_task", 0, SINGLE, **NYUD)
    sheet, *_ = sheets(runs_dir, numbers=["2"])
    written = write([sheet], tmp_path / "out")
    assert [path.name for path in written] == ["table_2.md", "table_2.tex", "table_2.csv", "table_2.json"]
    rows = json.loads(written[3].read_text())["rows"]
    lines = list(csv.DictReader(io.StringIO(written[2].read_text())))
    assert rows[0]["semseg_miou_mean"] == 25.0 and rows[0]["semseg_miou_paper_mean"] == 38.02
    assert float(lines[0]["depth_rmse_mean"]) == 1.0 and lines[2]["gap"] == "missing"
    assert lines[2]["delta_m_percent_paper"] == "2.94"


def test_command(runs_dir, make_single, capsys):
    make_single()
    main([str(runs_dir), "--table", "2", "4"])
    printed = capsys.readouterr().out
    assert "### Table 2" in printed and "### Table 4" in printed and "PASCAL-Context" in printed
    assert (runs_dir / "paper" / "table_4.tex").is_file()


def test_multiply_adds_are_those_that_were_counted(runs_dir, make_single):
    make_single()
    counted = {"preset": "nyud_hrnet18_single_task", "multiply_adds": 40.91e9}
    write_json(runs_dir / "resources.json", {"rows": [counted]})
    sheet, *_ = sheets(runs_dir, numbers=["1"])
    assert [cell.text for cell in sheet.rows[0][2:6]] == ["18.08", "16.09", "40.91", "40.93"]


@pytest.mark.parametrize(("make", "part"), [(False, "is not a folder"), (True, "no runs named after presets of nyud")])
def test_command_without_runs_is_one_message(tmp_path, make, part):
    folder = tmp_path / "runs"
    if make:
        folder.mkdir()
    with pytest.raises(SystemExit, match=part) as stop:
        main([str(folder)])
    assert "\n" not in str(stop.value)
    with pytest.raises(UserError, match="is not a folder"):
        sheets(tmp_path / "nowhere")
