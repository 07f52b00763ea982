"""`stage=report`: one page with figures and tables of all runs in `runs_dir`, from their folders alone."""

from pathlib import Path

from rich.text import Text

from atrc_exp.config import Config
from atrc_exp.report.page import explorer, page
from atrc_exp.report.page.sections import Note
from atrc_exp.report.results.sheet import Sheet
from atrc_exp.report.results.tables import console, show_sheet


def run(config: Config) -> None:
    """Print the tables and what could not be made, and write `<runs_dir>/report/`.

    Raises:
        UserError: the folder holds no runs.
    """
    written, sections = page.write(Path(config.runs_dir).expanduser())
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Sheet):
                show_sheet(block)
            elif isinstance(block, Note):
                console().print(Text(f"{section.title}: {block.text}"), soft_wrap=True)
    interactive = f", {explorer.FILE_NAME}" if (written.parent / explorer.FILE_NAME).is_file() else ""
    print(f"written: {written}, figures and tables{interactive} beside it")
