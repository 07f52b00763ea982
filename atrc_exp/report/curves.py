"""Architecture probabilities of one search over time (cf. App. F): `python -m atrc_exp.report.curves RUN_DIR`.

Reads the "search" records of `metrics.jsonl`; writes `probabilities.png` and `.pdf` into the run folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from atrc_exp.errors import UserError
from atrc_exp.genotype import candidates
from atrc_exp.report import figures
from atrc_exp.tasks import TASKS

RECORDS = "metrics.jsonl"
FIGURE = "probabilities"
LINES: dict[str, dict[str, Any]] = {  # told apart by dash and lightness, not by hue alone
    "none": {"color": "0.55", "linestyle": "-", "linewidth": 1.0},
    "global": {"color": "#e08214", "linestyle": (0, (6, 2)), "linewidth": 1.4},
    "local": {"color": "#1a9850", "linestyle": (0, (1.2, 1.2)), "linewidth": 1.8},
    "tlabel": {"color": "#2171b5", "linestyle": "-", "linewidth": 1.8},
    "slabel": {"color": "#3f007d", "linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 1.6},
}


def read_search(run: Path) -> list[dict[str, Any]]:
    """Read the search records of a run in the order of their steps; of steps repeated by a resume the last one counts.

    Raises:
        UserError: no records, or none of a search.
    """
    path = run / RECORDS
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the folder of a search, runs/<name>/seed<k>")
    lines = path.read_text(encoding="utf-8").splitlines()
    records = {r["step"]: r for r in map(json.loads, lines) if r["kind"] == "search"}
    if not records:
        raise UserError(f"{path} holds no search records; give the folder of a search, runs/<name>/seed<k>")
    return [records[step] for step in sorted(records)]


def draw(records: Sequence[dict[str, Any]]) -> Figure:
    """One panel a block, targets down and sources across; a frozen block is drawn one-hot on grey."""
    tasks = list(records[-1]["probabilities"])
    size = len(tasks)
    figure = Figure(figsize=(1.75 * size + 0.6, 1.45 * size + 0.9), layout="constrained")
    panels = figure.subplots(size, size, sharex=True, sharey=True, squeeze=False)
    for row, target in enumerate(tasks):
        for column, source in enumerate(tasks):
            _draw_block(panels[row][column], records, target, source)
        panels[row][0].set_ylabel(TASKS[target].title, weight="bold")
    for column, source in enumerate(tasks):
        panels[0][column].set_title(TASKS[source].title, fontsize=10, weight="bold")
        panels[-1][column].set_xlabel("iteration", fontsize=8)
    figure.supylabel("target task", fontsize=10)
    figure.suptitle("source task", fontsize=10)
    handles = [Line2D([], [], label=figures.TITLES[name], **style) for name, style in LINES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, handlelength=3,
                  fontsize=9, title="probability of the context type", title_fontsize=9)  # fmt: skip
    return figure


def _draw_block(axes: Axes, records: Sequence[dict[str, Any]], target: str, source: str) -> None:
    steps = [record["step"] for record in records]
    frozen = [record["frozen"].get(target, {}).get(source) for record in records]
    for name in candidates(target, source):
        curve = [
            record["probabilities"][target][source][name] if kept is None else float(kept == name)
            for record, kept in zip(records, frozen, strict=True)
        ]
        axes.plot(steps, curve, **LINES[name], zorder=3)
    since = next((step for step, kept in zip(steps, frozen, strict=True) if kept is not None), None)
    if since is not None:
        axes.axvspan(since, steps[-1], color="0.9", zorder=1)
        late = since - steps[0] > (steps[-1] - steps[0]) / 2
        x, y, side = (0.04, 0.83, "left") if late else (0.96, 0.5, "right")  # where no curve of such a block runs
        axes.text(x, y, f"{figures.TITLES[frozen[-1]]}\nfrozen by {since}", fontsize=7, ha=side, va="center",
                  transform=axes.transAxes)  # fmt: skip
    axes.set(ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8)
    axes.margins(x=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the search whose run folder is given."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.curves", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of one search, runs/<name>/seed<k>")
    run = parser.parse_args(arguments).run
    try:
        paths = figures.save(draw(read_search(run)), run / FIGURE)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print("written: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
