"""The table of results: one row a name, one column a task, mean ± sample standard deviation, number of seeds and Δm.

Rows stand together only under the same data, backbone and number of iterations. Fractions are shown in per cent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text, write_json, write_text
from atrc_exp.report import sheet as forms
from atrc_exp.report.aggregate import Row, Setting, Statistic, aggregate, find_baselines, run_names, seed_folders
from atrc_exp.report.sheet import GAP, Notes, Sheet
from atrc_exp.tasks import TASKS

PLACES = {"m": 4}  # decimal places by unit, as in the paper's tables
DEFAULT_PLACES = 2
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

    def sections(self) -> list[Section]:
        """One section a setting, in the order of first appearance."""
        groups: dict[Setting, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.experiment.setting, []).append(row)
        return [_section(setting, rows) for setting, rows in groups.items()]

    def sheets(self) -> list[Sheet]:
        """One table a setting, named `results_1` and so on."""
        return [
            Sheet(f"results_{number}", str(section.setting), tuple(section.header), forms.plain(section.cells),
                  tuple(section.footnotes))
            for number, section in enumerate(self.sections(), start=1)
        ]  # fmt: skip


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
        if folder.parent not in baselines:
            baselines[folder.parent] = find_baselines(folder.parent)
        try:
            rows.append(aggregate(folder, baselines[folder.parent]))
        except UserError as error:
            refused[folder.name] = str(error)
    return Report(rows, refused)


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


def _section(setting: Setting, rows: Sequence[Row]) -> Section:
    tasks = [task for task in TASKS if any(task in row.statistics for row in rows)]
    deltas = list(dict.fromkeys(row.delta.tasks for row in rows if row.delta))
    notes = Notes()
    cells = []
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


def heading(name: str) -> str:
    """Heading of a task's column: metric, unit and direction."""
    task = TASKS[name]
    return f"{task.title} {task.metric} [{task.unit}] {'↑' if task.higher_is_better else '↓'}"


def scale(name: str) -> float:
    """Factor from a task's headline metric to the unit of its column."""
    return 100.0 if TASKS[name].unit == "%" else 1.0


def measure(name: str, found: Statistic | None) -> str:
    """Mean ± standard deviation in the unit of the task's column, a gap where there is none."""
    if found is None:
        return GAP
    places = PLACES.get(TASKS[name].unit, DEFAULT_PLACES)
    mean = f"{scale(name) * found.mean:.{places}f}"
    return mean if found.std is None else f"{mean} ± {scale(name) * found.std:.{places}f}"


def to_markdown(report: Report) -> str:
    """The table as Markdown, one heading a setting, footnotes below."""
    blocks = [forms.markdown(sheet) for sheet in report.sheets()]
    blocks += [_refusal(name, reason) + "\n" for name, reason in report.refused.items()]
    return "\n".join(blocks)


def _refusal(name: str, reason: str) -> str:
    return f"{name} is not in the table: {reason}"


def as_dict(report: Report) -> dict[str, Any]:
    """The table for programs: full precision in the units of the printed table."""
    return {"version": 1, "rows": [_row_dict(row) for row in report.rows], "refused": report.refused}


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
    return forms.csv(Sheet("table", "", ("Run",), (), records=tuple(_record(row, tasks) for row in rows)))


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


def show_sheet(sheet: Sheet) -> None:
    """Print one table, the best of a column bold and the second underlined."""
    output = console()
    table = Table(title=Text(sheet.title), title_justify="left", title_style="bold")
    for text, side in zip(sheet.header, sheet.align, strict=True):
        table.add_column(Text(text), justify="left" if side == "l" else "right")
    styles = {None: "", 1: "bold", 2: "underline"}
    for row in sheet.rows:
        table.add_row(*(Text(cell.text, styles[cell.rank]) for cell in row))
    output.print(table)
    for note in sheet.notes:
        output.print(Text(note))
