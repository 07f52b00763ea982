"""The vote of repeated searches (Sec. 3.3): `python -m atrc_exp.report.votes runs/NAME`.

The command reads `runs/<name>/seed*/genotype.json` of finished searches and writes `runs/<name>/genotype.json`,
`votes.png` and `votes.pdf`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from atrc_exp.errors import UserError
from atrc_exp.genotype import FILE_NAME, Genotype, in_order, load, parted, save, vote, votes_by_type
from atrc_exp.report.figures import drawing
from atrc_exp.report.results.sheet import Sheet, plain
from atrc_exp.report.results.tables import show_sheet
from atrc_exp.runs.finished import common_experiment, left_out, read_runs, run_name, seed_folders
from atrc_exp.tasks import title_of
from atrc_exp.tasks.kinds.colours import ink

FIGURE = "votes"
TIE = "*"


def vote_folder(folder: Path) -> Genotype:
    """Vote over the finished searches of one name and write the genotype and its figure beside them.

    If other searches of the name still run or have failed, everything that is written names them.

    Raises:
        UserError: no finished search, runs of another stage, or runs that are no repetitions of one search.
    """
    runs = read_runs(folder)
    if not runs:
        raise UserError(f"{folder} holds no finished search to vote on: run the search first")
    stage = common_experiment(runs).stage
    if stage != "search":
        raise UserError(f"{folder} holds runs of stage {stage}; only searches vote")
    sources = [f"{run_name(folder)}/{run.folder.name}" for run in runs]
    voted = vote([load(run.folder) for run in runs], sources)
    finished = {run.seed for run in runs}
    if missing := [path.name for seed, path in seed_folders(folder).items() if seed not in finished]:
        voted = replace(voted, details={**voted.details, "unfinished": missing})
    save(voted, folder / FILE_NAME)
    drawing.save(draw(voted), folder / FIGURE)
    return voted


def _tied(voted: Genotype) -> set[tuple[str, str]]:
    return {(tie["target"], tie["source"]) for tie in voted.details["ties"]}


def _agreement(voted: Genotype) -> str:
    runs, share, kappa = (voted.details[key] for key in ("runs", "agreement", "kappa"))
    missing = voted.details.get("unfinished", [])
    part = f" of {runs + len(missing)}" if missing else ""
    if share is None:
        return f"1{part} search{'es' if part else ''}: no agreement to measure"
    return f"{runs}{part} searches, agreement {100 * share:.1f} %, Light's κ {kappa:.2f}"


def _tie_notes(voted: Genotype) -> list[str]:
    return [
        f"{TIE} tie at {tie['target']} ← {tie['source']} between {' and '.join(tie['tied'])}, "
        f"decided for {tie['chosen']} by {tie['by']}"
        for tie in voted.details["ties"]
    ]


def _unfinished_notes(voted: Genotype) -> list[str]:
    missing = voted.details.get("unfinished")
    return [f"part of the searches: not finished are {', '.join(missing)}"] if missing else []


def show(voted: Genotype) -> None:
    """Print the matrix: the chosen type of every block, its votes, and the votes of the other types."""
    rows = ([target, *(_cell_text(voted, target, source) for source in voted.tasks)] for target in voted.rows)
    notes = (*_tie_notes(voted), *_unfinished_notes(voted))
    header = ("target ← source", *voted.tasks)
    title = f"Vote of {_agreement(voted)}"
    show_sheet(Sheet("vote", title, header, plain(rows), notes, align="l" * len(header)), lines=True)


def _cell_text(voted: Genotype, target: str, source: str) -> str:
    chosen = voted.blocks[target][source]
    votes = voted.details["votes"][target][source]
    mark = TIE if (target, source) in _tied(voted) else ""
    others = ", ".join(f"{name} {count}" for name, count in votes.items() if count and name != chosen)
    return f"{chosen} {_won(chosen, votes)}/{voted.details['runs']}{mark}" + (f"\n{others}" if others else "")


def _won(chosen: str, votes: Mapping[str, int]) -> str:
    """How many searches have each type of the chosen block: `3`, or `4+3`."""
    by_type = votes_by_type(votes)
    return "+".join(str(by_type[name]) for name in parted(chosen))


def draw(voted: Genotype) -> Figure:
    """Matrix of blocks: colour and name of what was chosen, its votes, and below a box for every vote, cut by type."""
    tied = _tied(voted)
    width, height = len(voted.tasks), len(voted.rows)
    figure = Figure(figsize=(1.15 * width + 0.8, 0.95 * height + 0.9))
    axes = figure.add_subplot()
    for row, target in enumerate(voted.rows):
        for column, source in enumerate(voted.tasks):
            _draw_block(axes, column, row, voted, target, source, TIE if (target, source) in tied else "")
    axes.set(xlim=(0, width), ylim=(height, 0), ylabel="target task")
    axes.set_xticks([index + 0.5 for index in range(width)], [title_of(task) for task in voted.tasks])
    axes.set_yticks([index + 0.5 for index in range(height)], [drawing.row_title(row, "\n") for row in voted.rows])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source task", labelpad=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    notes = [_agreement(voted), *([f"{TIE} decided from a tie"] if tied else []), *_unfinished_notes(voted)]
    axes.text(0, height + 0.1, "\n".join(notes), fontsize=9, va="top")
    chosen = (block for row in voted.details["votes"].values() for votes in row.values() for block in votes)
    types = in_order(name for block in chosen for name in parted(block))
    handles = [drawing.patch(name, edgecolor="0.35") for name in types]
    axes.legend(handles=handles, title="votes", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure


def _draw_block(axes: Axes, x: int, y: int, voted: Genotype, target: str, source: str, mark: str) -> None:
    chosen, runs = voted.blocks[target][source], voted.details["runs"]
    votes = voted.details["votes"][target][source]
    fill = drawing.fill(chosen)
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor="white", linewidth=3))
    axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, fill=False, edgecolor="0.35", linewidth=0.6))
    centred = partial(axes.text, x + 0.5, color=ink(fill), ha="center", va="center")
    names = [drawing.title(name) for name in parted(chosen)]
    centred(y + 0.3, "\n".join(names), fontsize={1: 11, 2: 8}.get(len(names), 6), weight="bold")
    centred(y + 0.56, f"{_won(chosen, votes)} of {runs}{mark}", fontsize=9)
    # The boxes, one a vote, stand on a white strip: on the cell's own colour a unanimous vote would look empty.
    axes.add_patch(Rectangle((x + 0.09, y + 0.7), 0.82, 0.2, facecolor="white", edgecolor="0.35", linewidth=0.6))
    given = [parted(block) for block, count in votes.items() for _ in range(count)]
    for number, types in enumerate(given):
        left, height = x + 0.12 + 0.76 * (number + 0.08) / runs, 0.14 / len(types)
        for part, name in enumerate(types):
            axes.add_patch(Rectangle((left, y + 0.73 + part * height), 0.76 * 0.84 / runs, height,
                                     facecolor=drawing.fill(name), edgecolor="black", linewidth=0.7))  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Vote over the folders given and print each vote."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.votes", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="runs/<name> of a search")
    try:
        for folder in parser.parse_args(arguments).folders:
            show(vote_folder(folder.absolute()))
            for path, reason in left_out(folder).items():
                print(f"{folder.name}/{path.name} has no vote: {reason}")
            print(f"written: {folder}/{FILE_NAME}, {FIGURE}.png, {FIGURE}.pdf")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
