"""What the report page shows, section by section, each block made from run folders alone.

A figure or table that cannot be made becomes a note that says why, and the rest is made.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, load, vote
from atrc_exp.report import curves, votes
from atrc_exp.report.figures import cost, drawing, gains, gallery, proportions, thresholds, training_curves
from atrc_exp.report.results import overview
from atrc_exp.report.results.aggregate import Row
from atrc_exp.report.results.overview import Runs
from atrc_exp.report.results.sheet import Sheet
from atrc_exp.runs.finished import read_runs, run_name

T = TypeVar("T")

DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a damaged file of a run raises."""

_PIXELS_PER_INCH = 96  # of CSS


@dataclass(frozen=True)
class Picture:
    """A figure or picture with what it shows."""

    title: str
    caption: str
    source: str
    """Data URI."""
    width: int | None = None
    """CSS pixels; its own where none is given."""
    folded: bool = False


@dataclass(frozen=True)
class Note:
    """A visible gap: what is missing, and why."""

    text: str


Block = Picture | Note | Sheet


@dataclass(frozen=True)
class Section:
    """A part of the page with its anchor."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Drawer:
    """Draws figures into a folder and for the page."""

    folder: Path

    def picture(
        self, stem: str, title: str, caption: str, draw: Callable[[T], Figure], subject: T, *, folded: bool = False
    ) -> Picture | Note:
        """The figure of `subject`, written as `<folder>/<stem>.png` and `.pdf`, or the reason why there is none."""
        try:
            figure = draw(subject)
        except UserError as error:
            return Note(f"{title}: {error}")
        except DAMAGE as error:
            return Note(f"{title}: files of the runs cannot be read ({type(error).__name__}: {error})")
        drawing.freeze_layout(figure)
        png, _ = drawing.save(figure, self.folder / stem.replace("/", "-"))
        width = round(_PIXELS_PER_INCH * figure.get_figwidth())
        return Picture(title, caption, drawing.data_uri(figure, png.read_bytes()), width, folded)


def build(runs: Runs, folder: Path, tables: Sequence[Sheet]) -> list[Section]:
    """All sections; figures are written to `folder`.

    Args:
        tables: the paper's tables.
    """
    drawer = Drawer(folder)
    searches = [row for row in runs.rows if row.experiment.stage == "search"]
    found = [
        Section("overview", "Overview", [overview.sweeps(runs)]),
        Section("results", "Results", [*_results(runs), *_gains(drawer, runs, searches), *_costs(drawer, runs)]),
        Section("search", "Search dynamics", list(_searches(drawer, runs, searches))),
        Section("training", "Losses and metrics", list(_training(drawer, runs))),
        Section("thresholds", "Thresholds", list(_thresholds(drawer, runs))),
        Section("predictions", "Predictions", list(_gallery(runs, "predicted/panels/*.png", "stage=predict"))),
        Section("importance", "Importance of the blocks", list(_gallery(runs, "importance.png", "stage=importance"))),
        Section("attention", "Attention", list(_gallery(runs, "attention/*/*.png", "stage=attention"))),
        Section("system", "System", [overview.system(runs)]),
        Section("tables", "Tables of the paper", list(tables) or [Note("no preset of these runs has a table")]),
    ]
    return [section for section in found if section.blocks]


def _results(runs: Runs) -> Iterator[Block]:
    yield from runs.report.sheets()
    if not runs.rows:
        yield Note("no run has finished")


def _gains(drawer: Drawer, runs: Runs, searches: Sequence[Row]) -> Iterator[Block]:
    def compare(search: Row) -> list[gains.Bars]:
        return gains.compare(search, runs.rows, runs.baselines, runs.folder)

    for search in searches:
        block = drawer.picture(
            f"search_vs_retrain_{search.name}",
            f"Search against retraining, {search.name} (Fig. 4)",
            "Performance relative to the means of the single-task networks, higher is better: mean and standard "
            "deviation over the seeds of the networks sampled from the supergraph at the end of the search, and of "
            "those retrained from its vote.",
            lambda row: gains.draw(compare(row)),
            search,
        )
        yield block
        if isinstance(block, Picture):
            yield from map(Note, gains.notes(compare(search)))


def _costs(drawer: Drawer, runs: Runs) -> Iterator[Block]:
    groups = cost.groups(runs.rows)
    for number, ((setting, tasks), rows) in enumerate(groups.items(), start=1):
        found, reasons = cost.points(rows, runs.baselines, runs.folder)
        yield drawer.picture(
            "resources" if len(groups) == 1 else f"resources_{number}",
            f"Gain and cost of the modules (Fig. 5), {setting}",
            f"Δm over {', '.join(tasks)} against the parameters and, for one image, the multiply-adds of the whole "
            "network, counted by the paper's convention. The single-task networks stand together at 0.",
            cost.draw,
            found,
        )
        yield from map(Note, reasons)
    if not groups:
        yield Note("Gain and cost of the modules (Fig. 5): no retrained runs with a Δm")


def _searches(drawer: Drawer, runs: Runs, searches: Sequence[Row]) -> Iterator[Block]:
    for row in searches:
        name, folder = row.name, runs.folder / row.name
        yield drawer.picture(
            f"votes_{name}",
            f"Vote, {name}",
            "The context type that most searches chose for each block, its votes, and a box for every vote.",
            lambda path: votes.draw(_vote(path)),
            folder,
        )
        yield drawer.picture(
            f"probabilities_{name}",
            f"Architecture probabilities, {name}",
            "Mean over the searches of the probability of each context type, one-hot from where a search froze the "
            "block; each marker above a panel is a search that froze it, at that time and to that type.",
            lambda path: curves.draw_sweep(curves.read_sweep(path)),
            folder,
        )
        yield drawer.picture(
            f"search_{name}",
            f"Entropy and freezing, {name}",
            "Mean entropy of the blocks' probabilities, number of frozen blocks, weight of the entropy in the loss "
            "and temperature of the samples, one line a seed.",
            lambda path: training_curves.draw_search(training_curves.read(path)),
            folder,
        )
    groups = proportions.groups(searches)
    for number, rows in enumerate(groups, start=1):
        setting, counted = rows[0].experiment.setting, list[proportions.Proportions]()
        for row in rows:
            try:
                counted.append(proportions.read(row, runs.folder))
            except UserError as error:
                yield Note(f"{row.name} is not counted: {error}")
        yield drawer.picture(
            "proportions" if len(groups) == 1 else f"proportions_{number}",
            f"Proportions of the selected context types on {setting.dataset} (Fig. 7)",
            "Share of all blocks of all searches of a sweep, in per cent.",
            proportions.draw,
            counted,
        )
    if not searches:
        yield Note("no finished search")


def _vote(folder: Path) -> Genotype:
    runs = read_runs(folder)
    return vote([load(run.folder) for run in runs], [run.folder.name for run in runs])


def _training(drawer: Drawer, runs: Runs) -> Iterator[Block]:
    for folder in runs.names:
        yield drawer.picture(
            f"training_{run_name(folder)}",
            run_name(folder),
            "Above the losses of every task, below its headline metric on the validation images, one colour a seed; "
            "runs that have not finished are shown as far as they are.",
            lambda path: training_curves.draw_training(training_curves.read(path)),
            folder,
            folded=True,
        )
        yield from map(Note, training_curves.damaged(folder))


def _thresholds(drawer: Drawer, runs: Runs) -> Iterator[Block]:
    evaluations, damaged = thresholds.read(runs.folder)
    yield drawer.picture(
        "thresholds",
        "Scores over the threshold",
        "Precision, recall and F-measure of boundaries and saliency, pooled over the validation images; the best F of "
        "each run is marked.",
        thresholds.draw,
        evaluations,
    )
    yield from map(Note, damaged)


def _gallery(runs: Runs, pattern: str, command: str) -> Iterator[Block]:
    found = gallery.find(runs.names, pattern)
    for path in found[: gallery.SHOWN]:
        where = path.relative_to(runs.folder)
        try:
            yield Picture(str(where), "", gallery.data_uri(path))
        except UserError as error:
            yield Note(str(error))
    if not found:
        yield Note(f"none in these folders; {command} makes them")
    if len(found) > gallery.SHOWN:
        yield Note(f"{len(found) - gallery.SHOWN} more lie in the run folders as {pattern}")
