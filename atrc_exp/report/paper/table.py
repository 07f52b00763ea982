"""One table of the paper with our runs beside its numbers, cell by cell."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.report.paper.ours import Found, Ours
from atrc_exp.report.paper.published import ITERATIONS, SEEDS, TABLES, TITLES, Published, Table
from atrc_exp.report.results.columns import heading, measure, scale
from atrc_exp.report.results.sheet import GAP, Cell, Notes, Sheet
from atrc_exp.tasks import TASKS

RESOURCES = "resources.json"
LEGEND = (
    "Mean ± sample standard deviation over n seeds, Δm against the single-task row; bold: best, underlined: second."
)


class TableBuilder:
    """Puts one table of the paper and our runs together."""

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
