"""The four forms of a table: marks, notes, and whatever text may stand in a cell."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from atrc_exp.report.results.sheet import Cell, Sheet, latex_text, plain

NASTY = r"50 % of a_b & {c} #1 $x^2~\y| <i> [z] ± ↓ Δm ²"


@pytest.fixture
def small():
    rows = ((Cell("one"), Cell("2.00 ± 0.10", 1)), (Cell("two"), Cell("1.00", 2)), (Cell("three"), Cell("–")))
    return Sheet("t_1", "A title", ("Run", "Depth [m] ↓"), rows, ("¹ first", "² second"))


@pytest.fixture
def nasty():
    return Sheet("nasty", NASTY, (NASTY, "x"), plain([(NASTY, "1")]), (NASTY,))


def test_markdown_marks_best_and_second_and_puts_notes_below(small):
    assert small.to_markdown().splitlines() == [
        "### A title",
        "",
        "| Run | Depth [m] ↓ |",
        "| :-- | --: |",
        "| one | **2.00 ± 0.10** |",
        "| two | <u>1.00</u> |",
        "| three | – |",
        "",
        "¹ first  ",
        "² second",
    ]


def test_markdown_cells_keep_their_column(nasty):
    row = Sheet("t", "", ("a", "b"), plain([("x|y\n<z>", "1")])).to_markdown().splitlines()[-1]
    assert row == r"| x\|y \<z> | 1 |"
    assert len(re.findall(r"(?<!\\)\|", nasty.to_markdown().splitlines()[4])) == 3


def tabular(text):
    """Rows of the `tabular` between its rules, split at the ampersands that are not escaped."""
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0].replace("\\midrule\n", "")
    return [re.split(r"(?<!\\)&", row) for row in body.strip().removesuffix(r"\\").split("\\\\\n")]


@pytest.mark.parametrize("name", ["small", "nasty"])
def test_latex_is_balanced_and_every_row_has_every_column(name, request):
    sheet = request.getfixturevalue(name)
    text = sheet.to_latex()
    bare = re.sub(r"\\\\|\\[{}$]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert re.findall(r"\\(begin|end){(\w+)}", text) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    assert [len(row) for row in tabular(text)] == [len(sheet.header)] * (len(sheet.rows) + 1)


def test_latex_marks_and_label(small):
    text = small.to_latex()
    assert r"\textbf{2.00 $\pm$ 0.10}" in text and r"\underline{1.00}" in text
    assert r"\label{tab:t_1}" in text and r"\begin{tabular}{lr}" in text
    assert r"\textsuperscript{1} first\par" in text


def test_latex_escapes_each_character_that_means_something():
    written = (
        r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\textasciitilde{}\textbackslash{}y\textbar{} "
        r"\textless{}i\textgreater{} {[}z] $\pm$ $\downarrow$ $\Delta_m$ \textsuperscript{2}"
    )
    assert latex_text(NASTY) == written


def test_csv_is_read_back_as_written(nasty, small):
    assert list(csv.reader(io.StringIO(nasty.to_csv()))) == [[NASTY, "x"], [NASTY, "1"]]
    assert list(csv.reader(io.StringIO(small.to_csv())))[1] == ["one", "2.00 ± 0.10"]


def test_csv_of_records_has_their_numbers_and_empty_cells_for_gaps():
    records = ({"name": "a", "mean": 1 / 3}, {"name": "b", "std": None, "n": 2})
    lines = list(csv.DictReader(io.StringIO(Sheet("t", "", ("Run",), plain(["a", "b"]), records=records).to_csv())))
    assert [float(lines[0]["mean"]), lines[0]["n"]] == [1 / 3, ""]
    assert lines[1] == {"name": "b", "mean": "", "std": "", "n": "2"}


class Page(HTMLParser):
    """Tags in their order, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_nested_and_shows_the_text_as_given(nasty, small):
    page = Page(nasty.to_html())
    assert page.open == [] and "i" not in page.tags
    assert [text for text in page.text if text.strip()] == [NASTY, NASTY, "x", NASTY, "1", NASTY]
    marked = small.to_html()
    assert "<b>2.00 ± 0.10</b>" in marked and "<u>1.00</u>" in marked and "¹ first<br>² second" in marked
    assert Page(marked).tags.count("tr") == 4


def test_braces_in_a_marked_cell_stay_as_they_are():
    sheet = Sheet("t", "", ("a",), ((Cell("{0}", 1),),))
    assert "| **{0}** |" in sheet.to_markdown()
    assert r"\textbf{\{0\}}" in sheet.to_latex()


def test_a_row_that_does_not_fit_the_header_is_refused():
    with pytest.raises(ValueError, match="1 entries for 2 headings"):
        Sheet("t", "", ("a", "b"), plain([("x",)]))
    with pytest.raises(ValueError, match="3 entries for 1 headings"):
        Sheet("t", "", ("a",), (), align="lrr")
