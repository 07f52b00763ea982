"""Scores of constant predictions as they are kept in a folder of runs, for the tables of the runs there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json

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


def read_constants(runs_dir: Path) -> Constants | None:
    """The scores kept in a folder of runs, if there are any.

    Raises:
        UserError: a file that is none of ours.
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
