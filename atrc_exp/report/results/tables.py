"""The table of results: one row a name, one column a task, mean ± sample standard deviation, number of seeds and Δm.

Rows stand together only under the same data, backbone and number of iterations. Fractions are shown in per cent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text, write_json, write_text
from atrc_exp.report.results import differences
from atrc_exp.report.results.aggregate import Row, Statistic, aggregate, find_baselines
from atrc_exp.report.results.columns import heading, measure, scale
from atrc_exp.report.results.constants import NOTE, Constants, read_constants
from atrc_exp.report.results.differences import Compared
from atrc_exp.report.results.sheet import GAP, Notes, Sheet, plain
from atrc_exp.runs.finished import Setting, run_name, run_names, runs_root, seed_folders
from atrc_exp.tasks import TASKS

WIDE = 200  # columns where the output is no terminal, so that log files keep one line a row


@dataclass(frozen=True)
class Section:
    """Rows of one setting as text: cells, and footnotes numbered from 1."""

    setting: Setting
    header: list[str]
    cells: list[list[str]]
    footnotes: list[str]


@dataclass(frozen=True)
class Report:
    """Aggregated rows, and the names that had to be left out, each with the reason."""

    rows: list[Row]
    refused: dict[str, str] = field(default_factory=dict)
    baselines: Sequence[Row] = ()
    """Single-task rows that can be compared with, whether or not they are among `rows`."""
    constants: Mapping[str, Constants] = field(default_factory=dict)
    """Scores of constant predictions by the fingerprint of their dataset."""

    def sections(self) -> list[Section]:
        """One section a setting, in the order of first appearance."""
        groups: dict[Setting, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.experiment.setting, []).append(row)
        return [_section(setting, rows, self.constants.get(setting.fingerprint)) for setting, rows in groups.items()]

    def sheets(self) -> list[Sheet]:
        """One table a setting, named `results_1` and so on, each followed by its differences to the baselines."""
        found: list[Sheet | None] = []
        for number, section in enumerate(self.sections(), start=1):
            name, conditions = f"results_{number}", str(section.setting)
            found.append(Sheet(name, conditions, tuple(section.header), plain(section.cells),
                               tuple(section.footnotes)))  # fmt: skip
            found.append(self._differences(name, section.setting))
        return [sheet for sheet in found if sheet is not None]

    def _differences(self, name: str, setting: Setting) -> Sheet | None:
        """Rows of a setting against its multi-task rows, and against its single-task networks together."""
        rows = [row for row in self.rows if row.experiment.setting == setting and not row.experiment.is_baseline]
        compared = {row.name: Compared(row.name, row.values) for row in rows}
        single: dict[str, Mapping[int, float]] = {}
        for row in self.baselines:
            if row.experiment.setting == setting:
                single |= row.values
        references = [compared[row.name] for row in rows if row.experiment.is_multi_task]
        return differences.sheet(
            name, str(setting), list(compared.values()), [*references, Compared("single-task networks", single)]
        )


def collect(folders: Iterable[Path]) -> Report:
    """Aggregate folders of runs (`runs/<name>`); a folder of such folders stands for all of them.

    Raises:
        UserError: a folder that does not exist, or not one row.
    """
    report = gather(_expand(folders))
    if not report.rows:
        raise UserError("; ".join(report.refused.values()))
    return report


def gather(names: Iterable[Path]) -> Report:
    """Aggregate `runs/<name>` folders; one that cannot be becomes a marked gap and does not spoil the others."""
    rows: list[Row] = []
    refused: dict[str, str] = {}
    baselines: dict[Path, list[Row]] = {}
    for folder in names:
        root = runs_root(folder)
        if root not in baselines:
            baselines[root] = find_baselines(root)
        try:
            rows.append(aggregate(folder, baselines[root]))
        except UserError as error:
            refused[run_name(folder)] = str(error)
    constants = [found for root in baselines if (found := read_constants(root))]
    return Report(rows, refused, [row for found in baselines.values() for row in found],
                  {found.fingerprint: found for found in constants})  # fmt: skip


def _expand(folders: Iterable[Path]) -> list[Path]:
    names: list[Path] = []
    for folder in (Path(f).absolute() for f in folders):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give runs/<name>, or the folder of all runs")
        found = [folder] if seed_folders(folder) else run_names(folder)
        if not found:
            raise UserError(f"{folder} holds no runs (no seed<k> folder); give runs/<name>, or the folder of all runs")
        names += found
    return list(dict.fromkeys(names))


def _section(setting: Setting, rows: Sequence[Row], constants: Constants | None) -> Section:
    tasks = [task for task in TASKS if any(task in row.statistics for row in rows)]
    deltas = list(dict.fromkeys(row.delta.tasks for row in rows if row.delta))
    notes = Notes()
    cells = []
    if constants:
        cells.append(
            [
                "constants" + notes.mark([NOTE]),
                GAP,
                *(
                    measure(task, Statistic(constants.headline[task], None, 1) if task in constants.headline else None)
                    for task in tasks
                ),
                *(GAP for _ in deltas),
            ]
        )
    for row in rows:
        line = [row.name + notes.mark(row.notes), str(len(row.seeds))]
        line += [measure(task, row.statistics.get(task)) for task in tasks]
        for delta_tasks in deltas:
            if row.delta is None or row.delta.tasks != delta_tasks:
                line.append(GAP)
            else:
                value = "n/a" if row.delta.value is None else f"{row.delta.value:+.2f}"
                line.append(value + notes.mark([row.delta.note]))
        cells.append(line)
    header = ["Run", "Seeds", *map(heading, tasks), *(f"Δm ({', '.join(names)}) [%] ↑" for names in deltas)]
    return Section(setting, header, cells, list(notes.lines()))


def to_markdown(report: Report) -> str:
    """The table as Markdown, one heading a setting, footnotes below."""
    blocks = [sheet.to_markdown() for sheet in report.sheets()]
    blocks += [_refusal(name, reason) + "\n" for name, reason in report.refused.items()]
    return "\n".join(blocks)


def _refusal(name: str, reason: str) -> str:
    return f"{name} is not in the table: {reason}"


def as_dict(report: Report) -> dict[str, Any]:
    """The table for programs: full precision in the units of the printed table."""
    return {"version": 1, "rows": [_row_dict(row) for row in report.rows], "refused": report.refused,
            "constants": {key: dict(found.headline) for key, found in report.constants.items()},
            "differences": [record for sheet in report.sheets() for record in sheet.records]}  # fmt: skip


def _row_dict(row: Row) -> dict[str, Any]:
    setting, experiment = row.experiment.setting, row.experiment
    tasks = {}
    for name, found in row.statistics.items():
        task, factor = TASKS[name], scale(name)
        std = None if found.std is None else factor * found.std
        tasks[name] = {"metric": task.metric, "unit": task.unit, "higher_is_better": task.higher_is_better,
                       "mean": factor * found.mean, "std": std, "n": found.n}  # fmt: skip
    delta = row.delta and {"tasks": list(row.delta.tasks), "percent": row.delta.value, "note": row.delta.note}
    return {"name": row.name, "stage": experiment.stage, "distillation": experiment.distillation,
            "dataset": setting.dataset, "fingerprint": setting.fingerprint, "backbone": setting.backbone,
            "iterations": setting.iterations, "seeds": list(row.seeds), "tasks": tasks, "delta_m": delta,
            "notes": list(row.notes)}  # fmt: skip


def to_csv(report: Report) -> str:
    """The table for spreadsheets: the numbers of `as_dict`, one line a row, empty cells for gaps."""
    rows = [_row_dict(row) for row in report.rows]
    tasks = [task for task in TASKS if any(task in row["tasks"] for row in rows)]
    return Sheet("table", "", ("Run",), (), records=tuple(_record(row, tasks) for row in rows)).to_csv()


def _record(row: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    facts = ("name", "distillation", "dataset", "fingerprint", "backbone", "iterations")
    delta = row["delta_m"] or {"percent": None, "tasks": [], "note": ""}
    scores = {f"{task}_{TASKS[task].metric}_{key}": row["tasks"].get(task, {}).get(key)
              for task in tasks for key in ("mean", "std", "n")}  # fmt: skip
    return {**{fact: row[fact] for fact in facts}, "seeds": " ".join(map(str, row["seeds"])), **scores,
            "delta_m_percent": delta["percent"], "delta_m_tasks": " ".join(delta["tasks"]),
            "notes": "; ".join(filter(None, [*row["notes"], delta["note"]]))}  # fmt: skip


def write(report: Report, folder: Path) -> None:
    """Write table.md, table.json and table.csv into `folder`."""
    write_text(folder / "table.md", to_markdown(report))
    write_json(folder / "table.json", as_dict(report))
    write_text(folder / "table.csv", to_csv(report))


def console() -> Console:
    """The terminal, or wide lines where there is none."""
    print_any_text()
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=WIDE)


def show(report: Report) -> None:
    """Print the table."""
    for sheet in report.sheets():
        show_sheet(sheet)
    for name, reason in report.refused.items():
        console().print(Text(_refusal(name, reason)))


def show_sheet(sheet: Sheet, *, lines: bool = False) -> None:
    """Print one table, the best of a column bold and the second underlined; with `lines` between the rows."""
    output = console()
    title = Text(sheet.title) if sheet.title else None
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=lines)
    for text, side in zip(sheet.header, sheet.align, strict=True):
        table.add_column(Text(text), justify="left" if side == "l" else "right")
    styles = {None: "", 1: "bold", 2: "underline"}
    for row in sheet.rows:
        table.add_row(*(Text(cell.text, styles[cell.rank]) for cell in row))
    output.print(table)
    for note in sheet.notes:
        output.print(Text(note))
