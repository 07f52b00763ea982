"""Ranking of the settings of a grid by validation loss, from the runs' `summary.json` files.

On NYUD-v2 the validation split is the test split: what is chosen by such a ranking is selected on it, and is marked so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json, write_text
from atrc_exp.report.results.sheet import GAP, Sheet, plain
from atrc_exp.report.results.tables import show_sheet
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.finished import run_name, seed_folders

NOTE = "selected on val: sum over tasks of the validation loss divided by the lowest of all settings; lower is better"


@dataclass(frozen=True)
class Ranked:
    """One setting of the grid."""

    name: str
    seeds: tuple[int, ...]
    score: float
    """Sum over tasks of loss / lowest loss, at best the number of tasks; infinite where a loss has no value."""
    losses: Mapping[str, float | None]
    """Validation loss of the last iteration by task, mean over seeds."""


def rank(folders: Sequence[Path]) -> list[Ranked]:
    """Finished runs of each folder `runs/<name>`, the best name first; names without a finished run are left out.

    Raises:
        UserError: no finished run, a summary that cannot be read, or names that were trained on different tasks or for
            different lengths.
    """
    runs = {run_name(folder): _summaries(folder) for folder in folders}
    runs = {name: found for name, found in runs.items() if found}
    if not runs:
        raise UserError("none of the runs has finished")
    kinds = {_kind(summary) for found in runs.values() for summary in found.values()}
    if len(kinds) > 1:
        raise UserError("the runs differ in tasks, data or number of iterations, and cannot be ranked")
    losses = {name: _mean_losses(list(found.values())) for name, found in runs.items()}
    lowest = {task: min(_value(by_task[task]) for by_task in losses.values()) for task in next(iter(kinds))[0]}
    ranked = [
        Ranked(
            name,
            tuple(found),
            sum(_value(loss) / max(lowest[task], 1e-12) for task, loss in losses[name].items()),
            losses[name],
        )
        for name, found in runs.items()
    ]
    return sorted(ranked, key=lambda setting: setting.score)


def show(ranked: Sequence[Ranked], folder: Path) -> None:
    """Print the ranking and write `ranking.json` and `ranking.md` into `folder`."""
    header = ("", "Setting", "Seeds", "Score", *(f"{task} loss" for task in ranked[0].losses))
    align = "rl" + "r" * (len(header) - 2)
    rows = [
        [str(place), one.name, str(len(one.seeds)), f"{one.score:.4f}", *map(_shown, one.losses.values())]
        for place, one in enumerate(ranked, 1)
    ]
    show_sheet(Sheet("ranking", f"{folder.name}, {NOTE}", header, plain(rows), align=align))
    written = Sheet("ranking", "", header, plain(rows), (f"Score: {NOTE}.",), align)
    write_text(folder / "ranking.md", written.to_markdown())
    entries = [asdict(one) | {"score": one.score if math.isfinite(one.score) else None} for one in ranked]
    write_json(folder / "ranking.json", {"version": 1, "selected_on": "val", "criterion": NOTE, "ranking": entries})


def _summaries(folder: Path) -> dict[int, dict]:
    """Summaries of the finished runs by seed."""
    paths = {seed: path / SUMMARY for seed, path in seed_folders(folder).items()}
    summaries = {seed: read_json(path) for seed, path in paths.items() if path.is_file()}
    for seed, summary in summaries.items():
        try:
            _kind(summary)
        except (KeyError, TypeError) as error:
            raise UserError(f"{paths[seed]} is not a summary of a run ({type(error).__name__}: {error})") from None
    return summaries


def _kind(summary: Mapping) -> tuple[tuple[str, ...], int, str]:
    """What runs must have in common to be ranked."""
    return tuple(summary["losses"]), summary["iteration"], summary["dataset"]["fingerprint"]


def _mean_losses(summaries: Sequence[Mapping]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for task in summaries[0]["losses"]:
        values = [summary["losses"][task] for summary in summaries]
        means[task] = None if None in values else fmean(values)
    return means


def _value(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _shown(loss: float | None) -> str:
    return GAP if loss is None else f"{loss:.4f}"
