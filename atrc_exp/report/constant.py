"""Scores of constant predictions, which a trained network has to beat on unseen images.

`python -m atrc_exp.report.constant ROOT` reads a dataset in the NYUD layout and scores on the validation split what the
training split says of every image alike: the most frequent class, the mean depth, the mean direction, and for
boundaries the map of how often each pixel is one. `--out RUNS` keeps the scores for the tables of the runs there.
"""

import argparse
import sys
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.report.results.constant_scores import constant_scores
from atrc_exp.report.results.constants import FILE_NAME, NOTE


def main() -> None:
    """Print the scores of the dataset at the root that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.constant", description=__doc__.split("\n")[0])
    parser.add_argument("root", help="folder with images/ and gt_sets/")
    parser.add_argument("--out", type=Path, help=f"folder of runs in which to keep the scores, as {FILE_NAME}")
    options = parser.parse_args()
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
