"""The Explorer: one HTML file in which a reader picks a search, a seed, an iteration and a block.

Data, style and scripts stand in the file, which asks for nothing else. It lies beside the report page, not inside it,
so that the report stays a document that prints whole and does not grow with the length of the searches.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import to_hex

from atrc_exp.errors import UserError
from atrc_exp.files import write_text
from atrc_exp.genotype import (
    CONTEXT_TYPES,
    CONTEXTS,
    Genotype,
    load,
    parted,
    task_of,
    vote,
    vote_agreement,
    votes_by_type,
)
from atrc_exp.report.figures import drawing
from atrc_exp.report.page import dynamics, findings
from atrc_exp.report.page.dynamics import Course
from atrc_exp.report.results import columns
from atrc_exp.report.results.overview import Runs
from atrc_exp.runs.finished import left_out, read_runs, run_name, seed_folders
from atrc_exp.runs.logging.jsonl import plain
from atrc_exp.tasks import TASKS
from atrc_exp.tasks.kinds.colours import ink

FILE_NAME = "explorer.html"
NUMBERS = 400_000
"""Probabilities that all searches of a page have together, about 1.6 MB of text; blocks that freeze add a few."""
STEPS = (40, 300)
"""Steps that a search has at least, whatever `NUMBERS`, and at most."""
PANEL_BYTES = 1_500_000
"""Size of all attention panels of a page together, as text."""

_PACKAGE = Path(__file__).parent
_STYLES = ("base.css", "explorer.css")
_SCRIPTS = ("dom.js", "chart.js", "panels.js", "explorer.js")


def write(runs: Runs, folder: Path) -> Path | None:
    """Write `<folder>/explorer.html`; return its path, or None where no run is a search."""
    data = collect(runs)
    path = folder / FILE_NAME
    if not data["searches"]:
        path.unlink(missing_ok=True)  # of an earlier report
        return None
    write_text(path, render(runs.folder.name, data))
    return path


def render(title: str, data: Mapping[str, Any]) -> str:
    """The page as HTML; the data cannot end their script element, whatever names and messages they hold."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII, so free of line separators
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    environment = Environment(loader=FileSystemLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("explorer.html").render(
        title=title, data=Markup(text), style=_read(_STYLES), script=_read(_SCRIPTS)
    )


def _read(names: Iterable[str]) -> Markup:
    return Markup("\n".join((_PACKAGE / name).read_text(encoding="utf-8") for name in names))


def collect(runs: Runs) -> dict[str, Any]:
    """Everything that the page shows, as plain values: looks of types, tasks, and the searches with their seeds."""
    sweeps = {folder: courses for folder in runs.names if (courses := _courses(folder, runs))}
    curves = [name for courses in sweeps.values() for course in courses.values()
              for row in course.shape.values() for types in row.values() for name in types]  # fmt: skip
    steps = steps_of(len(curves))
    budget = PANEL_BYTES // max(len(sweeps), 1)
    searches = [_search(folder, courses, runs, steps, budget) for folder, courses in sweeps.items()]
    chosen = [name for search in searches for name in _chosen(search)]
    tasks = dict.fromkeys(task for search in searches for task in (*search["tasks"], *search["rows"]))
    return plain({
        "types": {name: _looks(name) for name in dict.fromkeys((*CONTEXTS, *curves, *chosen))},
        "tasks": {task: _task(task) for task in tasks},
        "searches": searches,
    })  # fmt: skip


def steps_of(curves: int) -> int:
    """How many steps a search of a page with so many curves is thinned to."""
    least, most = STEPS
    return min(most, max(least, NUMBERS // max(curves, 1)))


def _looks(name: str) -> dict[str, Any]:
    """Name and colours of a context type, or of several, as in the figures; what this build does not know is grey."""
    types = parted(name)
    known = CONTEXT_TYPES.keys() >= set(types)
    line: dict[str, Any] = (
        drawing.curve(types[0]) if known else {"color": "0.35", "linestyle": (0, (3, 1, 1, 1)), "linewidth": 1.6}
    )
    dashes = () if line["linestyle"] == "-" else line["linestyle"][1]
    fill = drawing.fill(name) if known else "0.8"
    return {
        "title": drawing.title(name) if known else name,
        "fill": to_hex(fill),
        "ink": to_hex(ink(fill)),
        "line": to_hex(line["color"]),
        "width": line["linewidth"],
        "dashes": [round(dash * line["linewidth"], 2) for dash in dashes],
    }


def _task(row: str) -> dict[str, Any]:
    """What is shown of a task, or of a task at a scale."""
    title, name = drawing.row_title(row), task_of(row)
    if name not in TASKS:
        return {"title": title, "metric": "metric", "scale": 1, "places": columns.DEFAULT_PLACES}
    return {"title": title, "metric": columns.heading(name), "scale": columns.scale(name),
            "places": columns.places(name)}  # fmt: skip


def _courses(folder: Path, runs: Runs) -> dict[int, Course]:
    """The searches of a name by seed; none where no file tells that they are searches, or what their blocks are."""
    unfinished = left_out(folder)
    courses = {seed: dynamics.read_course(run, run not in unfinished) for seed, run in seed_folders(folder).items()}
    known = any(row.name == run_name(folder) and row.experiment.stage == "search" for row in runs.rows)
    known = known or any(course.records for course in courses.values())
    return courses if known and any(map(_matrix, courses.values())) else {}


def _search(folder: Path, courses: Mapping[int, Course], runs: Runs, steps: int, budget: int) -> dict[str, Any]:
    """One name: the course of every seed, their vote, and what is known about the blocks they chose."""
    notes = list[str]()
    unfinished = left_out(folder)
    first = next((shape for course in courses.values() if (shape := _matrix(course))), {})
    tasks = list(dict.fromkeys(map(task_of, first)))
    seeds = []
    for seed, course in courses.items():
        run = folder / f"seed{seed}"
        fits = _matrix(course).keys() in (set(), first.keys())
        notes += [f"{run.name}: {note}" for note in course.notes]
        notes += [] if fits else [f"{run.name}: is left out, since it searches other tasks"]
        if fits:
            state = unfinished.get(run, "finished")
            seeds.append({"seed": seed, "state": state, **dynamics.as_dict(course, steps)})
    voted, why = _vote(folder)
    notes += why
    genotypes = {"the vote": voted.blocks} if voted else {}
    genotypes |= {f"seed {one['seed']}": one["chosen"] for one in seeds if one["chosen"]}
    built = findings.built_on(runs.names, genotypes)
    importances, unread = findings.importances(built)
    panels, missing = findings.panels(built, budget)
    costs, reasons = findings.costs(folder, first)
    return {
        "name": run_name(folder), "tasks": tasks, "rows": list(first), "seeds": seeds, "vote": voted and _votes(voted),
        "importance": importances, "attention": panels, "costs": costs, "notes": [*notes, *unread, *missing, *reasons],
    }  # fmt: skip


def _matrix(course: Course) -> Mapping[str, Any]:
    """The rows of blocks of a search, from its records or, where it has none, from its genotype."""
    chosen = course.choices.blocks if course.choices else {}
    return course.shape or chosen


def _vote(folder: Path) -> tuple[Genotype | None, list[str]]:
    runs = read_runs(folder)
    if not runs:
        return None, ["no search has finished, so there is no vote"]
    try:
        return vote([load(run.folder) for run in runs]), []
    except UserError as error:
        return None, [f"no vote: {error}"]


def _votes(voted: Genotype) -> dict[str, Any]:
    details = voted.details
    blocks: dict[str, dict[str, Any]] = {row: {} for row in voted.rows}
    for target, source in voted.pairs():
        counts = details["votes"][target][source]
        blocks[target][source] = {"chosen": voted.blocks[target][source], "votes": votes_by_type(counts),
                                  "agreement": vote_agreement(counts)}  # fmt: skip
    for tie in details["ties"]:
        blocks[tie["target"]][tie["source"]]["tie"] = tie["by"]
    return {**{key: details[key] for key in ("runs", "agreement", "kappa")}, "blocks": blocks}


def _chosen(search: Mapping[str, Any]) -> Sequence[str]:
    rows = [row for seed in search["seeds"] if seed["chosen"] for row in seed["chosen"].values()]
    voted = search["vote"]["blocks"].values() if search["vote"] else ()
    return [*(name for row in rows for name in row.values()), *(one["chosen"] for row in voted for one in row.values())]
