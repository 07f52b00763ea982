"""Architecture probabilities of one search over time: `python -m atrc_exp.report.curves RUN_DIR`.

Reads the "search" records of `metrics.jsonl`, `genotype.json` and `config.yaml` of a run folder; writes
`probabilities.png` and `.pdf` into it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from omegaconf import OmegaConf

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, candidates, load
from atrc_exp.report import figures
from atrc_exp.tasks import TASKS

RECORDS = "metrics.jsonl"
CONFIG = "config.yaml"
FIGURE = "probabilities"
FROZEN = "0.9"  # background from the time a block is frozen
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


def read_freeze_gap(run: Path) -> float:
    """Read from the configuration of a run by how much two probabilities must differ for a block to freeze."""
    return float(OmegaConf.load(run / CONFIG).search.freeze_gap)


def draw(records: Sequence[dict[str, Any]], genotype: Genotype, freeze_gap: float) -> Figure:
    """One panel a block, targets down and sources across; a frozen block is drawn one-hot on grey.

    The genotype tells which blocks froze. When is taken from the first record that shows `freeze_gap`; a block that
    shows it in none froze between two records and is drawn frozen in the last one only.
    """
    tasks = genotype.tasks
    size = len(tasks)
    figure = Figure(figsize=(1.75 * size + 0.6, 1.45 * size + 0.9), layout="constrained")
    panels = figure.subplots(size, size, sharex=True, sharey=True, squeeze=False)
    for row, target in enumerate(tasks):
        for column, source in enumerate(tasks):
            curves = {
                name: [record["probabilities"][target][source][name] for record in records]
                for name in candidates(target, source)
            }
            kept = genotype.blocks[target][source] if genotype.details["frozen"][target][source] else None
            _draw_block(panels[row][column], [record["step"] for record in records], curves, kept, freeze_gap)
        panels[row][0].set_ylabel(TASKS[target].title, weight="bold")
    for column, source in enumerate(tasks):
        panels[0][column].set_title(TASKS[source].title, fontsize=10, weight="bold")
        panels[-1][column].set_xlabel("iteration", fontsize=8)
    figure.supylabel("target task", fontsize=10)
    figure.suptitle("source task", fontsize=10)
    handles: list[Artist] = [Line2D([], [], label=figures.TITLES[name], **style) for name, style in LINES.items()]
    handles.append(Patch(color=FROZEN, label="frozen"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, handlelength=3,
                  fontsize=9, title="probability of the context type", title_fontsize=9)  # fmt: skip
    return figure


def _draw_block(
    axes: Axes, steps: Sequence[int], curves: dict[str, list[float]], kept: str | None, freeze_gap: float
) -> None:
    if kept is not None:
        reached = (index for index in range(len(steps)) if _gap(curves, index) >= freeze_gap)
        first = next(reached, len(steps) - 1)
        one_hot = {name: [float(name == kept)] * (len(steps) - first) for name in curves}
        curves = {name: [*curve[:first], *one_hot[name]] for name, curve in curves.items()}
        axes.axvspan(steps[first], steps[-1], color=FROZEN, zorder=1)
        late = steps[first] - steps[0] > (steps[-1] - steps[0]) / 2
        x, y, side = (0.04, 0.83, "left") if late else (0.96, 0.5, "right")  # where no curve of such a block runs
        axes.text(x, y, f"{figures.TITLES[kept]}\nsince {steps[first]}", fontsize=7, ha=side, va="center",
                  transform=axes.transAxes)  # fmt: skip
    for name, curve in curves.items():
        axes.plot(steps, curve, **LINES[name], zorder=3)
    axes.set(ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8)
    axes.margins(x=0)


def _gap(curves: dict[str, list[float]], index: int) -> float:
    second, first = sorted(curve[index] for curve in curves.values())[-2:]
    return first - second


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the search whose run folder is given."""
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.curves", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of one search, runs/<name>/seed<k>")
    run = parser.parse_args(arguments).run
    try:
        figure = draw(read_search(run), load(run), read_freeze_gap(run))
        paths = figures.save(figure, run / FIGURE)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print("written: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
