"""Architecture probabilities over time, of one search or of all seeds: `python -m atrc_exp.report.curves FOLDER`.

Reads the "search" records of `metrics.jsonl`, `genotype.json` and `config.yaml` of a run folder, or of all finished
runs of a name; writes `probabilities.png` and `.pdf` into the folder.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from atrc_exp.errors import UserError
from atrc_exp.files import read_settings
from atrc_exp.genotype import Genotype, in_order, load
from atrc_exp.report.figures import drawing
from atrc_exp.runs.files import CONFIG, RECORDS
from atrc_exp.runs.finished import common_experiment, read_runs, seed_folders
from atrc_exp.runs.logging import jsonl
from atrc_exp.tasks import TASKS

FIGURE = "probabilities"
FROZEN = "0.9"  # background from the time a block is frozen


def read_search(run: Path) -> list[dict[str, Any]]:
    """Read the search records of a run in the order of their steps; of steps repeated by a resume the last one counts.

    Raises:
        UserError: no records, none of a search, or none with probabilities.
    """
    path = run / RECORDS
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the folder of a search, runs/<name>/seed<k>")
    found = [record for record in jsonl.read(path) if record["kind"] == "search"]
    if not found:
        raise UserError(f"{path} holds no search records; give the folder of a search, runs/<name>/seed<k>")
    records = {record["step"]: record for record in found if "probabilities" in record}
    if not records:
        raise UserError(f"{path} holds no probabilities; searches of single paths (spos, random) learn none")
    return [records[step] for step in sorted(records)]


def read_freeze_gap(run: Path) -> float:
    """Read from the configuration of a run by how much two probabilities must differ for a block to freeze.

    Raises:
        UserError: a configuration that does not say it.
    """
    try:
        return float(read_settings(run / CONFIG)["search"]["freeze_gap"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / CONFIG}: has no search.freeze_gap ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Search:
    """What one finished search leaves of its dynamics."""

    records: Sequence[Mapping[str, Any]]
    """Search records by rising step."""
    genotype: Genotype
    """Found blocks, with the details which of them are frozen."""
    freeze_gap: float

    def types(self, target: str, source: str) -> tuple[str, ...]:
        """Context types that the block chose from."""
        return in_order(self.records[0]["probabilities"][target][source])


def read_finished(run: Path) -> Search:
    """Read the folder of one finished search.

    Raises:
        UserError: it is none.
    """
    return Search(read_search(run), load(run), read_freeze_gap(run))


def read_sweep(folder: Path) -> list[Search]:
    """Read all finished searches of a name.

    Raises:
        UserError: there is none, or they are no repetitions of one search.
    """
    runs = read_runs(folder)
    if not runs:
        raise UserError(f"{folder} holds no finished search")
    common_experiment(runs)
    return [read_finished(run.folder) for run in runs]


def draw(search: Search) -> Figure:
    """One panel a block, targets down and sources across; a frozen block is drawn one-hot on grey.

    The genotype tells which blocks froze; the first record that shows `freeze_gap` tells when. A block that shows it in
    no record froze between two records and is drawn frozen in the last one only.
    """
    figure, panels = _panels(search.genotype)
    for (target, source), axes in panels.items():
        _draw_block(axes, _block(search, target, source))
    _add_legend(figure, search, [Patch(color=FROZEN, label="frozen")])
    return figure


def draw_sweep(searches: Sequence[Search]) -> Figure:
    """One panel a block: the mean over searches of each type's probability, one-hot from where a search froze.

    Each search that froze the block has a marker above the curves, at that time and of the type that it kept; at the
    right end the curves are the shares of the votes, as far as the blocks are frozen.

    Raises:
        UserError: searches over different tasks or candidates, or without common steps.
    """
    if len({(search.genotype.tasks, search.genotype.rows) for search in searches}) > 1:
        raise UserError("searches over different tasks have no common panels")
    if len({tuple(search.types(*pair) for pair in search.genotype.pairs()) for search in searches}) > 1:
        raise UserError("searches over different candidates have no common curves")
    figure, panels = _panels(searches[0].genotype)
    for (target, source), axes in panels.items():
        _draw_mean(axes, [_block(search, target, source) for search in searches])
    kept = Line2D([], [], color="black", linestyle="none", marker="d", markersize=4, label="marker: one search frozen")
    _add_legend(figure, searches[0], [kept])
    return figure


def _panels(genotype: Genotype) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    tasks, targets = genotype.tasks, genotype.rows
    figure = Figure(figsize=(1.75 * len(tasks) + 0.6, 1.45 * len(targets) + 0.9), layout="constrained")
    grid = figure.subplots(len(targets), len(tasks), sharex=True, sharey=True, squeeze=False)
    for index, target in enumerate(targets):
        grid[index][0].set_ylabel(drawing.row_title(target, "\n"), weight="bold")
    for index, task in enumerate(tasks):
        grid[0][index].set_title(TASKS[task].title, fontsize=10, weight="bold")
        grid[-1][index].set_xlabel("iteration", fontsize=8)
    figure.supylabel("target task", fontsize=10)
    figure.suptitle("source task", fontsize=10)
    return figure, {(t, s): grid[row][column] for row, t in enumerate(targets) for column, s in enumerate(tasks)}


def _add_legend(figure: Figure, search: Search, more: Sequence[Artist]) -> None:
    types = in_order(name for pair in search.genotype.pairs() for name in search.types(*pair))
    handles: list[Artist] = [Line2D([], [], label=drawing.title(name), marker=drawing.marker(name), markersize=4,
                                    **drawing.curve(name)) for name in types]  # fmt: skip
    handles += more
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, handlelength=3,
                  fontsize=9, title="probability of the context type", title_fontsize=9)  # fmt: skip


@dataclass(frozen=True)
class BlockCurves:
    """One block of one search."""

    steps: list[int]
    curves: dict[str, list[float]]
    """Probability by type and record, one-hot from where the block is frozen."""
    kept: str | None
    """The type that it froze to; None while it is open."""
    first: int
    """Index of the first record that shows it frozen; the number of records while it is open."""


def block_curves(
    records: Sequence[Mapping[str, Any]], target: str, source: str, kept: str | None, freeze_gap: float
) -> BlockCurves:
    """Curves of one block over the search records; those of a frozen block are one-hot.

    Args:
        kept: the type that the block froze to; None for an open block.
        freeze_gap: the block is frozen from the first record that shows this gap, or in the last one where none does.
    """
    steps = [record["step"] for record in records]
    found = [record["probabilities"][target][source] for record in records]
    curves = {name: [probabilities[name] for probabilities in found] for name in found[0]}
    if kept is None:
        return BlockCurves(steps, curves, None, len(steps))
    first = next((index for index, now in enumerate(found) if gap(now.values()) >= freeze_gap), len(steps) - 1)
    for name, curve in curves.items():
        curve[first:] = [float(name == kept)] * (len(steps) - first)
    return BlockCurves(steps, curves, kept, first)


def gap(probabilities: Iterable[float]) -> float:
    """By how much the most probable type leads the second one, which has nothing where there is one type only."""
    *_, second, first = sorted((0.0, *probabilities))
    return first - second


def _block(search: Search, target: str, source: str) -> BlockCurves:
    frozen = search.genotype.details["frozen"][target][source]
    kept = search.genotype.blocks[target][source] if frozen else None
    return block_curves(search.records, target, source, kept, search.freeze_gap)


def _draw_block(axes: Axes, block: BlockCurves) -> None:
    steps = block.steps
    if block.kept is not None:
        since = steps[block.first]
        axes.axvspan(since, steps[-1], color=FROZEN, zorder=1)
        late = since - steps[0] > (steps[-1] - steps[0]) / 2
        x, y, side = (0.04, 0.83, "left") if late else (0.96, 0.5, "right")  # where no curve of such a block runs
        axes.text(x, y, f"{drawing.title(block.kept)}\nsince {since}", fontsize=7, ha=side, va="center",
                  transform=axes.transAxes)  # fmt: skip
    _draw_curves(axes, steps, block.curves)
    axes.set_ylim(-0.04, 1.04)


def _draw_mean(axes: Axes, blocks: Sequence[BlockCurves]) -> None:
    steps = sorted(set.intersection(*(set(block.steps) for block in blocks)))
    if not steps:
        raise UserError("the searches logged at different steps; they have no common curve")
    by_step = [{name: dict(zip(b.steps, curve, strict=True)) for name, curve in b.curves.items()} for b in blocks]
    _draw_curves(axes, steps, {name: [fmean(one[name][step] for one in by_step) for step in steps]
                               for name in blocks[0].curves})  # fmt: skip
    frozen = sorted((block.steps[block.first], block.kept) for block in blocks if block.kept is not None)
    for number, (step, kept) in enumerate(frozen):
        before = sum(other == step for other, _ in frozen[:number])  # searches that froze at one step stand in a column
        axes.plot(
            [step], [1.12 + 0.1 * before], drawing.marker(kept), color=drawing.curve(kept)["color"], markersize=3.5
        )
    axes.axhline(1.04, color="0.8", linewidth=0.6)
    axes.set_ylim(-0.04, 1.12 + 0.1 * len(blocks))
    axes.margins(x=0.04)


def _draw_curves(axes: Axes, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    for name, curve in curves.items():
        marker = drawing.marker(name) if len(steps) == 1 else None  # a line of one point cannot be seen
        axes.plot(steps, curve, marker=marker, markersize=4, **drawing.curve(name), zorder=3)
    axes.set_yticks((0, 0.5, 1))
    axes.tick_params(labelsize=8)
    axes.margins(x=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the search, or the sweep of searches, whose folder is given."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.curves", description=__doc__)
    parser.add_argument("folder", type=Path, help="runs/<name>/seed<k> of one search, or runs/<name> of several")
    folder = parser.parse_args(arguments).folder
    try:
        figure = draw_sweep(read_sweep(folder)) if seed_folders(folder) else draw(read_finished(folder))
        paths = drawing.save(figure, folder / FIGURE)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print("written: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
