"""Importance, attention and cost of the blocks of a search, from the runs that were built on its genotype."""

from collections.abc import Collection, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.genotype import task_of
from atrc_exp.report.figures import gallery, importance
from atrc_exp.report.figures.cost import PROFILE
from atrc_exp.report.page.dynamics import read_choices
from atrc_exp.runs.finished import run_name, seed_folders

Blocks = Mapping[str, Mapping[str, str]]


def built_on(names: Iterable[Path], genotypes: Mapping[str, Blocks]) -> dict[Path, str]:
    """Runs of all names whose genotype is one of those given, each with the name of that genotype."""
    found = dict[Path, str]()
    for run in (run for name in names for run in seed_folders(name).values()):
        try:
            blocks = read_choices(run).blocks
        except UserError:
            continue  # no genotype: a network without blocks, or a run that has not come so far
        fitting = [called for called, genotype in genotypes.items() if genotype == blocks]
        found |= {run: fitting[0]} if fitting else {}
    return found


def label(run: Path) -> str:
    """What a run is called in the page: name and seed folder."""
    return f"{run_name(run.parent)}/{run.name}"


def importances(runs: Mapping[Path, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Drops by block, mean and deviation, of the runs that have an importance.json; and what cannot be read."""
    found, notes = list[dict[str, Any]](), list[str]()
    for run, basis in runs.items():
        path = run / f"{importance.STEM}.json"
        if not path.is_file():
            continue
        try:
            blocks = {
                target: {source: {key: _spread(entry[key]) for key in ("drop", "delta_m_drop")}
                         for source, entry in row.items()}
                for target, row in read_json(path)["blocks"].items()
            }  # fmt: skip
        except UserError as error:
            notes.append(str(error))
        except (KeyError, TypeError, AttributeError) as error:
            notes.append(f"{path}: is no record of stage=importance ({type(error).__name__}: {error})")
        else:
            found.append({"run": label(run), "basis": basis, "blocks": blocks})
    return found, notes


def _spread(found: Mapping[str, float | None] | None) -> list[float | None] | None:
    return None if found is None else [found["mean"], found["std"]]


def panels(runs: Mapping[Path, str], budget: int) -> tuple[list[dict[str, str]], list[str]]:
    """Pictures of `stage=attention`, scaled down, as long as they fit `budget` bytes of text; and what is left out.

    Every target has its turn, so that none is left out for many pictures of another.
    """
    by_target: dict[str, list[tuple[Path, Path]]] = {}
    for run in runs:
        for path in sorted(run.glob("attention/*/[!.]*.png")):
            by_target.setdefault(path.stem, []).append((run, path))
    found, notes, left_out = list[dict[str, str]](), list[str](), 0
    for run, path in filter(None, (pair for turn in zip_longest(*by_target.values()) for pair in turn)):
        try:
            uri = gallery.data_uri(path)
        except UserError as error:
            notes.append(str(error))
            continue
        if len(uri) > budget:
            left_out += 1
            continue
        budget -= len(uri)
        shown = {"place": path.parent.name, "target": path.stem, "uri": uri}
        found.append({"run": label(run), "basis": runs[run], **shown})
    if left_out:
        notes.append(f"attention panels left out for the size of this page: {left_out}; they lie in the run folders as "
                     "attention/*/*.png")  # fmt: skip
    return found, notes


def costs(folder: Path, rows: Collection[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Multiply-adds, local attention included, and parameters by block and type, for the image size of the profile.

    Args:
        rows: targets of the blocks of the search. Where scales follow one genotype a block has the sums over them.
    """
    path = folder / PROFILE
    if not path.is_file():
        return None, []
    try:
        stored = read_json(path)
        blocks: dict[str, dict[str, dict[str, list[int]]]] = {}
        for target, row in stored["blocks"].items():
            whole = blocks.setdefault(target if target in rows else task_of(target), {})
            for source, types in row.items():
                sums = whole.setdefault(source, {})
                for name, part in types.items():
                    adds, parameters = sums.get(name, (0, 0))
                    sums[name] = [adds + part["multiply_adds_with_local_attention"], parameters + part["parameters"]]
        return {"size": list(stored["input"][2:]), "blocks": blocks}, []
    except UserError as error:
        return None, [str(error)]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        return None, [f"{path}: does not tell the cost of the blocks ({reason}); stage=profile writes it anew"]
