"""One page of all that a folder of runs shows (`stage=report`): self-contained HTML, figures and tables as files.

The page needs nothing beside itself, neither network nor service.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atrc_exp.files import write_text
from atrc_exp.report.page import explorer
from atrc_exp.report.page.sections import Note, Picture, Section, build
from atrc_exp.report.paper import document
from atrc_exp.report.results import overview
from atrc_exp.report.results.sheet import Sheet

FOLDER = "report"
FILE_NAME = "index.html"
_PACKAGE = Path(__file__).parent
_STYLES = ("base.css", "page.css")


def write(runs_dir: Path) -> tuple[Path, list[Section]]:
    """Write `<runs_dir>/report/index.html`, `figures/` and `tables/`; return the page and what it shows.

    Where there are searches, `explorer.html` is written beside it and linked from it.

    Raises:
        UserError: a folder that holds no runs.
    """
    runs = overview.read(runs_dir)
    out = runs_dir / FOLDER
    datasets = dict.fromkeys(row.experiment.setting.dataset for row in runs.rows)
    tables = [
        table
        for dataset in datasets
        for backbone in (None, *document.other_backbones(runs_dir, dataset))
        for table in document.sheets(runs_dir, dataset, backbone=backbone)
    ]
    sections = build(runs, out / "figures", tables)
    document.write(tables, out / "tables")
    for table in (block for section in sections for block in section.blocks if isinstance(block, Sheet)):
        if table not in tables:
            write_text(out / "tables" / f"{table.name}.csv", table.to_csv())
    interactive = explorer.write(runs, out)
    write_text(out / FILE_NAME, render(runs_dir.name, sections, interactive.name if interactive else None))
    return out / FILE_NAME, sections


def render(title: str, sections: Sequence[Section], interactive: str | None = None) -> str:
    """The page as HTML; whatever comes from files is escaped.

    Args:
        interactive: name of the Explorer's file beside the page, None where there is none.
    """
    environment = Environment(
        loader=FileSystemLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["table"] = lambda block: Markup(block.to_html())  # it escapes
    environment.tests["picture"] = lambda block: isinstance(block, Picture)
    environment.tests["note"] = lambda block: isinstance(block, Note)
    return environment.get_template("page.html").render(
        title=title,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        sections=sections,
        interactive=interactive,
        style=Markup("\n".join((_PACKAGE / name).read_text(encoding="utf-8") for name in _STYLES)),
    )
