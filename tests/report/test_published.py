"""The paper's numbers against the paper's own formula, and against the presets that repeat its rows."""

import re
from itertools import product

import pytest

from atrc_exp.config.compose import CONF
from atrc_exp.metrics.delta import delta_m
from atrc_exp.report.paper.published import DATASETS, NUMBERS, TABLE_F, TABLES
from atrc_exp.tasks import TASKS

WITH_DELTA = [(table, row) for table in TABLES.values() for row in table.rows if row.delta != "-"]


def bounds(mean):
    """Smallest and largest number that is printed as `mean`."""
    half = 0.5 * 10 ** -len(mean.partition(".")[2])
    return float(mean) - half, float(mean) + half


@pytest.mark.parametrize(("table", "row"), WITH_DELTA, ids=lambda x: getattr(x, "number", getattr(x, "title", "")))
def test_printed_delta_follows_from_the_printed_means(table, row):
    """Δm of the rounded means differs from the printed one by no more than their rounding."""
    tasks = [TASKS[task] for task in table.tasks]
    own, base = table.means(row), table.means(table.rows[0])
    extremes = [
        delta_m({task.name: bounds(own[task.name])[up == task.higher_is_better] for task in tasks},
                {task.name: bounds(base[task.name])[up != task.higher_is_better] for task in tasks}, tasks)
        for up in (False, True)
    ]  # fmt: skip
    lowest, highest = bounds(row.delta)
    assert extremes[0] <= highest and extremes[1] >= lowest
    middle = delta_m({t: float(v) for t, v in own.items()}, {t: float(v) for t, v in base.items()}, tasks)
    assert middle == pytest.approx(float(row.delta), abs=0.015)


def test_every_row_has_a_number_for_every_task():
    for table in TABLES.values():
        for row in table.rows:
            assert list(table.means(row)) == list(table.tasks)
            printed = [*row.means.split(), *row.stds.split(), row.delta]
            assert all(text == "-" or re.fullmatch(r"-?\d+\.\d+", text) for text in printed), row


def test_rows_that_the_paper_repeats_are_the_same():
    first = {row.preset: row for row in TABLES["1"].rows}
    for number, titles in {"2": ("Single task", "Multi-task", "ATRC"), "E-1": ("Single task",)}.items():
        rows = {row.title: row for row in TABLES[number].rows}
        for title in titles:
            row, original = rows[title], first[rows[title].preset]
            assert (row.means, row.delta) == (original.means, original.delta)
    assert TABLES["1"].rows[0].stds == TABLES["G-1"].rows[0].stds != ""


def test_every_row_names_presets_that_exist():
    """Of the paper's own dataset; the search that a row needs among them."""
    known = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    for table in TABLES.values():
        for row in (row for row in table.rows if row.preset):
            wanted = [row.preset.format(task=task) for task in table.tasks] + list(row.needs)
            assert {f"{table.dataset}_{row.backbone}_{preset}" for preset in wanted} <= known
    assert f"{TABLE_F.dataset}_{TABLE_F.backbone}_{TABLE_F.preset}" in known


def test_module_of_each_row_is_that_of_its_preset():
    for table, task in product(TABLES.values(), ["depth"]):
        for row in (row for row in table.rows if row.preset):
            text = (CONF / f"experiment/{table.dataset}_{row.backbone}_{row.preset.format(task=task)}.yaml").read_text()
            assert f"override /distillation: {row.distillation}\n" in text


def test_names_of_single_task_runs_have_the_task():
    names = TABLES["D-1"].rows[1].run_names("rooms", ("depth", "normals"))
    assert names["normals"] == "rooms_hrnet18_single_task_normals_classification"
    assert TABLES["4"].rows[0].run_names("pascal", ("sal",)) == {"sal": "pascal_hrnet18_single_task_sal"}
    assert TABLES["B-1"].rows[0].run_names("nyud", ("depth",)) == {}


def test_all_tables_of_the_paper_are_there():
    assert [DATASETS[number] for number in NUMBERS] == ["nyud"] * 3 + ["pascal"] * 2 + ["nyud"] * 5
    assert {*TABLES, "F"} == set(NUMBERS)
    assert [len(TABLES[number].rows) for number in NUMBERS if number != "F"] == [13, 5, 5, 5, 7, 4, 2, 3, 4]
