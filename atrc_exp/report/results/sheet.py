"""One table as text, and the four forms it is written in: Markdown, LaTeX, CSV and HTML.

Cells are finished text; what stands for a number is rounded before. The best cell of a column is bold, the second
underlined. Notes stand below the table, one a line.
"""

import csv
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GAP = "–"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """Text of one cell; `rank` is 1 for the best of its column, 2 for the second."""

    text: str
    rank: int | None = None


@dataclass(frozen=True)
class Sheet:
    """A table with its title and its notes.

    Raises:
        ValueError: a row, or the alignment, that does not have one entry for each heading.
    """

    name: str
    """Name of its files and of its label in LaTeX: letters, digits, `-` and `_`."""
    title: str
    """Heading, or caption; empty for none."""
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    align: str = ""
    """`l` or `r` for each column; by default the first is left, the others right."""
    records: tuple[Mapping[str, Any], ...] = ()
    """The rows for programs, flat and at full precision; empty where the cells say it all."""

    def __post_init__(self) -> None:
        if not self.align:
            object.__setattr__(self, "align", "l" + "r" * (len(self.header) - 1))
        for entries in (self.align, *self.rows):
            if len(entries) != len(self.header):
                raise ValueError(f"sheet {self.name}: {len(entries)} entries for {len(self.header)} headings")

    def to_markdown(self) -> str:
        """The table in GitHub's Markdown: title as a heading of level 3, table, notes."""
        rows = [[_marked(cell, _markdown_text, "**{}**", "<u>{}</u>") for cell in row] for row in self.rows]
        sides = [":--" if side == "l" else "--:" for side in self.align]
        lines = map(_markdown_line, (map(_markdown_text, self.header), sides, *rows))
        blocks = [f"### {self.title}"] if self.title else []
        blocks.append("\n".join(lines))
        if self.notes:
            blocks.append("  \n".join(self.notes))
        return "\n\n".join(blocks) + "\n"

    def to_latex(self) -> str:
        r"""A `table` with a `tabular` between the rules of the package `booktabs`; notes below it in small print."""
        rows = [" & ".join(_marked(cell, latex_text, r"\textbf{{{}}}", r"\underline{{{}}}") for cell in row)
                for row in self.rows]  # fmt: skip
        lines = [r"\begin{table}", r"\centering"]
        if self.title:
            lines += [rf"\caption{{{latex_text(self.title)}}}", rf"\label{{tab:{self.name}}}"]
        lines += [rf"\begin{{tabular}}{{{self.align}}}", r"\toprule"]
        lines += [" & ".join(map(latex_text, self.header)) + r" \\", r"\midrule"]
        lines += [row + r" \\" for row in rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        if self.notes:
            lines.append(r"\par\smallskip\footnotesize\raggedright")
            lines.append("\\par\n".join(map(latex_text, self.notes)))
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def to_csv(self) -> str:
        """The records, or without them the header and the cells; no title, no notes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self.records:
            columns = list(dict.fromkeys(key for record in self.records for key in record))
            writer.writerow(columns)
            writer.writerows([record.get(column) for column in columns] for record in self.records)
        else:
            writer.writerow(self.header)
            writer.writerows([cell.text for cell in row] for row in self.rows)
        return text.getvalue()

    def to_html(self) -> str:
        """A `table` element with a caption, its notes in a paragraph after it; styled by the page that holds it."""
        lines = [f'<table id="{html.escape(self.name)}">']
        if self.title:
            lines.append(f"<caption>{html.escape(self.title)}</caption>")
        lines += ["<thead>", _html_line("th", map(html.escape, self.header), self.align), "</thead>", "<tbody>"]
        lines += [
            _html_line("td", (_marked(cell, html.escape, "<b>{}</b>", "<u>{}</u>") for cell in row), self.align)
            for row in self.rows
        ]
        lines += ["</tbody>", "</table>"]
        if self.notes:
            lines.append(f"<p>{'<br>'.join(map(html.escape, self.notes))}</p>")
        return "\n".join(lines) + "\n"


class Notes:
    """Numbered notes of a table; one that comes again keeps its number."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, notes: Iterable[str]) -> str:
        """Superscript numbers of the notes, to be put after a cell's text; empty for none."""
        marks = []
        for note in notes:
            if note not in self._texts:
                self._texts.append(note)
            marks.append(f" {_superscript(self._texts.index(note) + 1)}")
        return "".join(marks)

    def lines(self) -> tuple[str, ...]:
        """The notes, each with its number."""
        return tuple(f"{_superscript(number)} {text}" for number, text in enumerate(self._texts, start=1))


def _superscript(number: int) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def plain(rows: Iterable[Iterable[str]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows of cells without ranks."""
    return tuple(tuple(map(Cell, row)) for row in rows)


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    return " ".join(text.replace("|", r"\|").replace("<", r"\<").split())


def _marked(cell: Cell, escape: Callable[[str], str], best: str, second: str) -> str:
    form = {1: best, 2: second}.get(cell.rank or 0, "{}")
    return form.format(escape(cell.text))


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}",  # a bracket after \\ would be taken for its argument
    "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "°": r"$^\circ$", "Δ": r"$\Delta$", "κ": r"$\kappa$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "←": r"$\leftarrow$", "→": r"$\rightarrow$",
    "≤": r"$\leq$", "≥": r"$\geq$", "–": "--",
    **{digit: rf"\textsuperscript{{{number}}}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
})  # fmt: skip


def latex_text(text: str) -> str:
    """Text in LaTeX: characters that it would take for commands, or lacks, as commands; hyphens of numbers as minus."""
    escaped = text.replace("Δm", "\0").translate(_LATEX).replace("\0", r"$\Delta_m$")
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)


def _html_line(tag: str, cells: Iterable[str], align: Sequence[str]) -> str:
    sides = {"l": "left", "r": "right"}
    scope = ' scope="col"' if tag == "th" else ""
    line = (
        f'<{tag}{scope} style="text-align: {sides[a]}">{cell}</{tag}>' for cell, a in zip(cells, align, strict=True)
    )
    return f"<tr>{''.join(line)}</tr>"
