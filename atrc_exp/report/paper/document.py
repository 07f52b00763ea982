"""The tables of the paper with our runs beside its numbers: `python -m atrc_exp.report.paper RUNS [--table 1 ...]`.

Ours are mean ± sample standard deviation; Δm is computed from the means. The best and the second of ours are marked in
every column, single-task networks and upper bounds included; values that print alike share their mark, and a value is
marked only if another one is worse. With `--dataset rooms` the same rows are made from the runs of
`rooms_<backbone>_<what>`, with `--backbone lite` from those on that backbone, without the paper's numbers, which belong
to its datasets and backbones. Below each table stand the differences to its baselines, paired by seed, with intervals.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text, write_json, write_text
from atrc_exp.report.paper.ours import Found, find
from atrc_exp.report.paper.published import DATASETS, NUMBERS, TABLES, TITLES
from atrc_exp.report.paper.table import TableBuilder
from atrc_exp.report.results import differences
from atrc_exp.report.results.differences import Compared
from atrc_exp.report.results.reliability import reliability
from atrc_exp.report.results.sheet import Sheet
from atrc_exp.runs.finished import run_names


def sheets(
    runs_dir: Path, dataset: str = "nyud", numbers: Sequence[str] = (), backbone: str | None = None
) -> list[Sheet]:
    """The paper's tables from the runs in `runs_dir` that are named after `dataset`, each with its differences.

    Args:
        backbone: of all rows, in place of the paper's.
        numbers: tables to make, of `published.NUMBERS`. Without, each that shows a run which none before it shows,
            those on `dataset` in the paper before the others.

    Raises:
        UserError: `runs_dir` is not a folder.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir} is not a folder; give the folder of all runs")
    if numbers:
        return [sheet for number in numbers for sheet in _make(number, runs_dir, dataset, backbone)[0]]
    chosen, shown = {}, set[str]()
    for number in sorted(NUMBERS, key=lambda number: DATASETS[number] != dataset):
        found, names = _make(number, runs_dir, dataset, backbone)
        if not names <= shown:
            chosen[number] = found
            shown |= names
    return [sheet for number in NUMBERS for sheet in chosen.get(number, ())]


def other_backbones(runs_dir: Path, dataset: str) -> list[str]:
    """Backbones in the names of runs on `dataset` that no table of the paper is about."""
    known = {row.backbone for table in TABLES.values() for row in table.rows}
    named = [folder.name.removeprefix(f"{dataset}_").partition("_")[0] for folder in run_names(runs_dir)
             if folder.name.startswith(f"{dataset}_")]  # fmt: skip
    return [backbone for backbone in dict.fromkeys(named) if backbone not in known]


def _make(number: str, runs_dir: Path, dataset: str, backbone: str | None) -> tuple[list[Sheet], set[str]]:
    """A table and its differences, and the names of the runs in it."""
    if number not in TABLES:
        sheet, names = reliability(runs_dir, dataset, backbone)
        return [sheet], names
    table = TABLES[number]
    if backbone is not None and {row.backbone for row in table.rows} != {backbone}:
        table = table.on(backbone)
    else:
        backbone = None
    found = find(table, runs_dir, dataset)
    sheet = TableBuilder(table, found, runs_dir, dataset, backbone).sheet()
    compared = _differences(sheet, found)
    return [sheet, *([compared] if compared else [])], {name for row in found.rows for name in row.seeds}


def _differences(sheet: Sheet, found: Found) -> Sheet | None:
    """Rows of the table against its multi-task and its single-task row."""
    rows = {row.published: Compared(row.published.title, row.values) for row in found.rows}
    single = [row for row in rows if row.runs]
    references = [compared for row, compared in rows.items() if row.preset == "multi_task" or row in single]
    others = [compared for row, compared in rows.items() if row not in single]
    return differences.sheet(sheet.name, sheet.title, others, references)


def write(sheets: Sequence[Sheet], out: Path) -> list[Path]:
    """Write `<name>.md`, `.tex`, `.csv` and `.json` of every sheet into `out`, and return the paths."""
    written = []
    for sheet in sheets:
        texts = {".md": sheet.to_markdown(), ".tex": sheet.to_latex(), ".csv": sheet.to_csv()}
        for suffix, text in texts.items():
            written.append(out / f"{sheet.name}{suffix}")
            write_text(written[-1], text)
        written.append(out / f"{sheet.name}.json")
        write_json(written[-1], {"version": 1, "title": sheet.title, "rows": list(sheet.records),
                                 "notes": list(sheet.notes)})  # fmt: skip
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown and write them in all forms."""
    print_any_text()
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.paper", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("runs", type=Path, help="folder of all runs")
    parser.add_argument("--table", nargs="+", choices=NUMBERS, default=(), metavar="N", help=", ".join(NUMBERS))
    parser.add_argument("--dataset", help="dataset of the runs; by default that of the paper's table")
    parser.add_argument("--backbone", help="backbone of the runs; by default those of the paper's table")
    parser.add_argument("--out", type=Path, help="folder of the files, by default RUNS/paper")
    options = parser.parse_args(arguments)
    out = options.out or options.runs / "paper"
    try:
        made = _of_command(options.runs, options.dataset, options.table, options.backbone)
        if not made:
            on = options.dataset or " or ".join(TITLES)
            raise UserError(f"{options.runs} has no runs named after presets of {on}; "
                            "--dataset NAME and --backbone NAME choose others")  # fmt: skip
        write(made, out)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(sheet.to_markdown() for sheet in made), end="")
    print(f"\nwritten: {out}/" + ", ".join(f"{sheet.name}.md/.tex/.csv/.json" for sheet in made))


def _of_command(runs: Path, dataset: str | None, numbers: Sequence[str], backbone: str | None) -> list[Sheet]:
    """Each table on its own dataset, or all on the one given."""
    if dataset is not None:
        return sheets(runs, dataset, numbers, backbone)
    if numbers:
        return [sheet for number in numbers for sheet in sheets(runs, DATASETS[number], [number], backbone)]
    return [sheet for each in TITLES for sheet in sheets(runs, each, (), backbone)]
