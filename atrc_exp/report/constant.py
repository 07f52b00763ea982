"""Scores of constant predictions, which a trained network has to beat on unseen images.

`python -m atrc_exp.report.constant ROOT` reads a dataset in the NYUD layout and scores on the validation split what the
training split says of every image alike: the most frequent class, the mean depth, the mean direction, and for
boundaries the map of how often each pixel is one. `--out RUNS` keeps the scores for the tables of the runs there.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json

FILE_NAME = "constants.json"
NOTE = (
    "constants of the training split: its most frequent class, mean depth, mean direction, and the map of how often "
    "each pixel is a boundary"
)


@dataclass(frozen=True)
class Constants:
    """Scores of constant predictions on one dataset."""

    fingerprint: str
    """Hash of the data set's file list."""
    headline: Mapping[str, float]
    """Headline metric by task, in the metric's own unit."""


def read(runs_dir: Path) -> Constants | None:
    """The scores kept in a folder of runs, if there are any.

    Raises:
        UserError: the file was not written by this module.
    """
    path = runs_dir / FILE_NAME
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(path)
        return Constants(content["fingerprint"], {task: float(score) for task, score in content["headline"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it or make it again"
        ) from None


def main() -> None:
    """Print the scores of the dataset at the root that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.constant", description=__doc__.split("\n")[0])
    parser.add_argument("root", help="folder with images/ and gt_sets/")
    parser.add_argument("--out", type=Path, help=f"folder of runs in which to keep the scores, as {FILE_NAME}")
    options = parser.parse_args()
    from atrc_exp.report.results.constant_scores import constant_scores  # tables read the kept file without its imports

    try:
        found = constant_scores(options.root)
    except UserError as error:
        sys.exit(f"error: {error}")
    for task, score in found.headline.items():
        print(f"{task}: {score:.4f}")
    if options.out:
        write_json(options.out / FILE_NAME, {"version": 1, "fingerprint": found.fingerprint,
                                             "headline": dict(found.headline), "note": NOTE})  # fmt: skip


if __name__ == "__main__":
    main()
