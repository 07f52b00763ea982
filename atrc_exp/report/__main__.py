"""`python -m atrc_exp.report runs/NAME [...]`: the table of one or several names; `runs` alone stands for all."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.report.results import tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it to `--out`, else into the one folder given or the one that holds them all."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="runs/<name>, or the folder of all runs")
    parser.add_argument("--out", type=Path, help="folder for table.md, table.json and table.csv")
    options = parser.parse_args(arguments)
    folders = [folder.absolute() for folder in options.folders]
    try:
        report = tables.collect(folders)
        out = options.out or (folders[0] if len(folders) == 1 else folders[0].parent)
        tables.write(report, out)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    tables.show(report)
    print(f"written: {out}/table.md, table.json, table.csv")


if __name__ == "__main__":
    main()
