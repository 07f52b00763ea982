"""Proportions of the context types that searches select (Fig. 7), over all blocks of all seeds of a sweep.

The share is of all blocks, those of type none among them, as in the paper: 41.6 % local of 5 searches of 25 blocks. A
block with several contexts counts in equal parts for each of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, context_type, in_order, load, parted, searched
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.aggregate import Row
from atrc_exp.runs.finished import read_runs
from atrc_exp.tasks.kinds.colours import ink

_WRITTEN_FROM = 0.045  # share of a segment wide enough for its number


@dataclass(frozen=True)
class Proportions:
    """One sweep of searches."""

    name: str
    searches: int
    blocks: int
    """Number of blocks of one search."""
    shares: Mapping[str, float]
    """Share of each context type among all blocks of all searches; the shares add up to 1."""


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Searches that can stand side by side: on the same data and tasks, whatever their network and length."""
    found: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        if row.experiment.stage == "search":
            setting = row.experiment.setting
            found.setdefault((setting.dataset, setting.fingerprint, row.experiment.tasks), []).append(row)
    return list(found.values())


def read(row: Row, runs_dir: Path) -> Proportions:
    """Count the blocks of the finished searches of one name."""
    return proportions(row.name, [load(run.folder) for run in read_runs(runs_dir / row.name)])


def proportions(name: str, genotypes: Sequence[Genotype]) -> Proportions:
    """Shares of the context types in genotypes over the same tasks."""
    types = in_order(name for found in genotypes for t, s in found.pairs() for name in searched(found, t, s))
    counts = dict.fromkeys(types, 0.0)
    for contexts in (parted(found.blocks[t][s]) for found in genotypes for t, s in found.pairs()):
        for context in contexts:
            counts[context] += 1 / len(contexts)
    blocks = len(genotypes[0].pairs())
    total = len(genotypes) * blocks
    return Proportions(name, len(genotypes), blocks, {context: count / total for context, count in counts.items()})


def draw(sweeps: Sequence[Proportions]) -> Figure:
    """One bar a sweep, a segment a context type in the order of the table, with its share in per cent.

    Raises:
        UserError: no sweep.
    """
    if not sweeps:
        raise UserError("no search has a genotype that can be read")
    figure = Figure(figsize=(8, 0.62 * len(sweeps) + 1.25), layout="constrained")
    axes = figure.subplots()
    names = drawing.short_names([sweep.name for sweep in sweeps])
    for y, sweep in enumerate(sweeps):
        left = 0.0
        for context, share in sweep.shares.items():
            fill = drawing.fill(context)
            axes.barh(y, 100 * share, 0.66, left=100 * left, facecolor=fill, edgecolor="0.25", linewidth=0.7,
                      hatch=context_type(context).hatch, label=context)  # fmt: skip
            if share >= _WRITTEN_FROM:
                axes.text(100 * (left + share / 2), y, f"{100 * share:.1f}", ha="center", va="center", fontsize=9,
                          color=ink(fill),
                          bbox={"facecolor": fill, "edgecolor": "none", "pad": 1.2})  # fmt: skip
            left += share
    counts = [f"{sweep.searches} search{'es' if sweep.searches > 1 else ''}" for sweep in sweeps]
    axes.set_yticks(range(len(sweeps)), [f"{names[s.name]}\n{n}" for s, n in zip(sweeps, counts, strict=True)])
    axes.set(xlim=(0, 100), ylim=(len(sweeps) - 0.5, -0.5), xlabel="selected blocks [%]")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    types = in_order(context for sweep in sweeps for context in sweep.shares)
    handles = [drawing.patch(context, edgecolor="0.25", hatch=context_type(context).hatch) for context in types]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    return figure
