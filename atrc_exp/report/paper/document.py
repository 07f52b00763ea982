"""The tables of the paper with our runs beside its numbers: `python -m atrc_exp.report.paper RUNS [--table 1 ...]`.

Ours are mean ± sample standard deviation; Δm is computed from the means. The best and the second of ours are marked in
every column, single-task networks and upper bounds included; values that print alike share their mark, and a value is
marked only if another one is worse. With `--dataset rooms` the same rows are made from the runs of
`rooms_<backbone>_<what>`, with `--backbone lite` from those on that backbone, without the paper's numbers, which belong
to its datasets and backbones. Below each table stand the differences to its baselines, paired by seed, with intervals.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text, read_json, write_json, write_text
from atrc_exp.report.paper.ours import Found, Ours, find
from atrc_exp.report.paper.published import DATASETS, ITERATIONS, NUMBERS, SEEDS, TABLES, TITLES, Published, Table
from atrc_exp.report.results import differences
from atrc_exp.report.results.aggregate import run_names
from atrc_exp.report.results.columns import heading, measure, scale
from atrc_exp.report.results.differences import Compared
from atrc_exp.report.results.reliability import reliability
from atrc_exp.report.results.sheet import GAP, Cell, Notes, Sheet
from atrc_exp.tasks import TASKS

RESOURCES = "resources.json"
LEGEND = (
    "Mean ± sample standard deviation over n seeds, Δm against the single-task row; bold: best, underlined: second."
)


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
    sheet = _Builder(table, found, runs_dir, dataset, backbone).sheet()
    compared = _differences(sheet, found)
    return [sheet, *([compared] if compared else [])], {name for row in found.rows for name in row.seeds}


def _differences(sheet: Sheet, found: Found) -> Sheet | None:
    """Rows of the table against its multi-task and its single-task row."""
    rows = {row.published: Compared(row.published.title, row.values) for row in found.rows}
    single = [row for row in rows if row.runs]
    references = [compared for row, compared in rows.items() if row.preset == "multi_task" or row in single]
    others = [compared for row, compared in rows.items() if row not in single]
    return differences.sheet(sheet.name, sheet.title, others, references)


class _Builder:
    """Puts one table together."""

    def __init__(self, table: Table, found: Found, runs_dir: Path, dataset: str, backbone: str | None) -> None:
        self.table, self.tasks = table, found.tasks
        self.beside_paper = table.dataset == dataset and backbone is None
        self.suffix = "" if self.beside_paper else "_".join(["", dataset, *([backbone] if backbone else [])])
        self.dataset, self.settings = dataset, found.settings
        self.rows = [row for row in found.rows if row.published.preset or self.beside_paper]
        counted = self.beside_paper and any(row.published.multiply_adds for row in self.rows)
        self.multiply_adds, self.damaged = _multiply_adds(runs_dir) if counted else ({}, "")
        self.counted = counted
        self.notes = Notes()

    def sheet(self) -> Sheet:
        """The whole table."""
        header, columns = self._columns()
        title = f"Table {self.table.number}: {self.table.subject}, {TITLES[self.table.dataset]}, {self.table.network}"
        if not self.beside_paper:
            title = (f"Rows of Table {self.table.number} on {self.dataset}: "
                     f"{self.table.subject}, {self.table.network}")  # fmt: skip
        name = f"table_{self.table.number}{self.suffix}"
        return Sheet(
            name=name,
            title=title,
            header=tuple(header),
            rows=tuple(zip(*columns, strict=True)),
            notes=(*self.notes.lines(), *self._conditions()),
            records=tuple(map(self._record, self.rows)),
        )

    def _columns(self) -> tuple[list[str], list[list[Cell]]]:
        first = [Cell(row.published.title + self.notes.mark(row.notes)) for row in self.rows]
        header, columns = ["Network", "n"], [first, [self._seeds(row) for row in self.rows]]

        def add(title: str, ours: Iterable[Cell], printed: Iterable[str]) -> None:
            header.append(title)
            columns.append(list(ours))
            if not self.beside_paper:
                return
            beside = [Cell(GAP if text == "-" else text) for text in printed]
            if any(cell.text != GAP for cell in beside):
                header.append("paper")
                columns.append(beside)

        published = [row.published for row in self.rows]
        if any(row.parameters for row in self.rows) or self.counted:
            ours = [GAP if row.parameters is None else f"{row.parameters / 1e6:.2f}" for row in self.rows]
            add("Params [M]", map(Cell, ours), (_fixed(row.parameters) for row in published))
        if self.counted:
            add("MAdds [G]", (Cell(_fixed(self.multiply_adds.get(row.preset or ""))) for row in published),
                (_fixed(row.multiply_adds) for row in published))  # fmt: skip
        for task in self.tasks:
            means = [row.statistics[task].mean if task in row.statistics else None for row in self.rows]
            texts = [measure(task, row.statistics.get(task)) for row in self.rows]
            ranks = _ranks([text.split(" ")[0] for text in texts], means, TASKS[task].higher_is_better)
            add(heading(task), map(Cell, texts, ranks), (self._printed(row, task) for row in published))
        if any(row.delta != "-" for row in published):
            add("Δm [%] ↑", self._deltas(), (_signed(row.delta) for row in published))
        return header, columns

    def _seeds(self, row: Ours) -> Cell:
        if not row.seeds:
            return Cell(row.gap if row.published.preset else GAP)
        counts = sorted(set(row.seeds.values()))
        alone = ["one seed: no standard deviation"] if counts[0] < 2 else []
        return Cell("–".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) + self.notes.mark(alone))

    def _deltas(self) -> list[Cell]:
        values = [row.delta.value if row.delta else None for row in self.rows]
        texts = [GAP if value is None else f"{value:+z.2f}" for value in values]
        cells = []
        for row, text, rank in zip(self.rows, texts, _ranks(texts, values, True), strict=True):
            undefined = [row.delta.note] if row.delta and row.delta.value is None else []
            cells.append(Cell("n/a" + self.notes.mark(undefined) if undefined else text, rank))
        return cells

    def _printed(self, row: Published, task: str) -> str:
        mean, std = self.table.means(row)[task], self.table.stds(row).get(task)
        return mean if std is None else f"{mean} ± {std}"

    def _conditions(self) -> list[str]:
        ours = "; ".join(map(str, self.settings)) or "no runs"
        lines = [f"Ours: {ours}. {LEGEND}"]
        if self.table.note:
            lines.append(self.table.note)
        if self.beside_paper:
            lines.append(f"Paper: {SEEDS} runs of {ITERATIONS} iterations.")
            if self.damaged:
                lines.append(self.damaged)
            elif self.counted and not self.multiply_adds:
                lines.append("MAdds of ours: python -m atrc_exp.report.resources --out RUNS counts them.")
        else:
            about = TABLES[self.table.number]
            lines.append(f"The paper's Table {about.number} is about {TITLES[about.dataset]}, {about.network}.")
        return lines

    def _record(self, row: Ours) -> dict[str, Any]:
        """The row at full precision, in the units of the table."""
        published = row.published
        record: dict[str, Any] = {
            "title": published.title,
            "runs": " ".join(dict.fromkeys(row.names.values())),
            "n": " ".join(map(str, row.seeds.values())),
            "gap": row.gap,
            "parameters": row.parameters,
        }
        if self.counted:
            adds = self.multiply_adds.get(published.preset or "")
            record |= {"parameters_paper": published.parameters and published.parameters * 1e6,
                       "multiply_adds": adds and adds * 1e9,
                       "multiply_adds_paper": published.multiply_adds and published.multiply_adds * 1e9}  # fmt: skip
        for task in self.tasks:
            found, key = row.statistics.get(task), f"{task}_{TASKS[task].metric}"
            record[f"{key}_mean"] = found and scale(task) * found.mean
            record[f"{key}_std"] = None if found is None or found.std is None else scale(task) * found.std
            record[f"{key}_n"] = found and found.n
            if self.beside_paper:
                record[f"{key}_paper_mean"] = _number(self.table.means(published)[task])
                record[f"{key}_paper_std"] = _number(self.table.stds(published).get(task, "-"))
        record["delta_m_percent"] = row.delta and row.delta.value
        if self.beside_paper:
            record["delta_m_percent_paper"] = _number(published.delta)
        return record | {"notes": "; ".join([*row.notes, *([row.delta.note] if row.delta else [])])}


def _multiply_adds(runs_dir: Path) -> tuple[Mapping[str, float], str]:
    """Multiply-adds in 10^9 by preset, where `report.resources` has counted them into `runs_dir`, or why they are not.

    There is no reason where there is no such file.
    """
    path = runs_dir / RESOURCES
    if not path.is_file():
        return {}, ""
    try:
        rows = read_json(path)["rows"]
        return {row["preset"].removeprefix("nyud_hrnet18_"): row["multiply_adds"] / 1e9 for row in rows}, ""
    except UserError as error:
        return {}, str(error)
    except (KeyError, TypeError, AttributeError) as error:
        return {}, f"{path} is no table of resources ({type(error).__name__}: {error})"


def _fixed(value: float | None) -> str:
    return GAP if value is None else f"{value:.2f}"


def _signed(printed: str) -> str:
    return printed if printed == "-" else f"{float(printed):+z.2f}"


def _number(printed: str) -> float | None:
    return None if printed == "-" else float(printed)


def _ranks(texts: Sequence[str], values: Sequence[float | None], higher_is_better: bool) -> list[int | None]:
    """1 for the best, 2 for the second, by what is printed; a value without a worse one has no rank."""
    shown = [None if value is None else float(text) for text, value in zip(texts, values, strict=True)]
    places = sorted({value for value in shown if value is not None}, reverse=higher_is_better)
    ranks = {value: rank for rank, value in enumerate(places[:-1][:2], start=1)}
    return [None if value is None else ranks.get(value) for value in shown]


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
