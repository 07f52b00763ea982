"""Whether every network learned: `python -m atrc_exp.report.learning RUNS`: training losses at the start and the end.

The table has a row for each run of a folder: its mean training loss over the first and the last logging interval, and
its final scores. The exit code is 1 where a loss did not fall or a run cannot be read.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text, write_json, write_text
from atrc_exp.report.results.sheet import GAP, Sheet, plain
from atrc_exp.runs.files import RECORDS
from atrc_exp.runs.finished import left_out, read_runs, run_name, run_names, seed_folders
from atrc_exp.runs.logging import jsonl
from atrc_exp.tasks import TASKS


@dataclass(frozen=True)
class Learning:
    """One run."""

    run: str
    distillation: str
    iterations: int
    first: float
    """Mean training loss over the first logging interval."""
    last: float
    scores: dict[str, float]
    """Headline metric by task, fractions as fractions."""

    @property
    def fell(self) -> bool:
        """Whether the loss ended below its start."""
        return self.last < self.first


def read_run(folder: Path) -> Learning:
    """Read a finished run.

    Raises:
        UserError: it is not finished, or has fewer than two training records.
    """
    result = next((run for run in read_runs(folder.parent) if run.folder == folder), None)
    if result is None:
        raise UserError(f"{folder} has no result: {left_out(folder.parent)[folder]}")
    losses = [record["loss"] for record in jsonl.read(folder / RECORDS) if record["kind"] == "train"]
    if len(losses) < 2:
        raise UserError(f"{folder} has {len(losses)} training records; give a smaller engine.log_every")
    run, experiment = f"{run_name(folder.parent)}/{folder.name}", result.experiment
    iterations, headline = experiment.setting.iterations, dict(result.headline)
    return Learning(run, experiment.distillation, iterations, losses[0], losses[-1], headline)


def to_markdown(rows: Sequence[Learning]) -> str:
    """The table; a loss that did not fall is marked."""
    tasks = [task for name, task in TASKS.items() if any(name in row.scores for row in rows)]
    scores = [f"{task.title} {task.metric} [{task.unit}] {'↑' if task.higher_is_better else '↓'}" for task in tasks]
    header = ("Run", "Iterations", "Loss at start", "Loss at end", *scores)
    lines = []
    for row in rows:
        line = [row.run, str(row.iterations), f"{row.first:.3f}", f"{row.last:.3f}{'' if row.fell else ' (not lower)'}"]
        line += [
            f"{row.scores[task.name] * (100 if task.unit == '%' else 1):.3f}" if task.name in row.scores else GAP
            for task in tasks
        ]
        lines.append(line)
    return Sheet("learning", "", header, plain(lines)).to_markdown()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write `learning.md` and `learning.json` into the folder."""
    print_any_text()
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.learning", description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of runs")
    runs = parser.parse_args(arguments).runs
    rows, problems = list[Learning](), list[str]()
    try:
        for folder in (folder for name in run_names(runs) for folder in seed_folders(name).values()):
            try:
                rows.append(read_run(folder))
            except UserError as error:
                problems.append(str(error))
        if not rows:
            raise UserError("; ".join(problems) or f"{runs} holds no runs")
        write_text(runs / "learning.md", to_markdown(rows))
        write_json(runs / "learning.json", {"version": 1, "rows": [{**vars(row), "fell": row.fell} for row in rows]})
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(to_markdown(rows), end="")
    print(f"written: {runs}/learning.md, learning.json")
    for problem in problems:
        print(f"left out: {problem}")
    if problems or not all(row.fell for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
