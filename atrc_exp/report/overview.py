"""Tables of what a folder of runs holds: its sweeps with the fate of every seed, and what their runs took."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.logging import jsonl
from atrc_exp.report.aggregate import SUMMARY, Row, find_baselines, run_name, run_names, seed_folders, unfinished
from atrc_exp.report.sheet import GAP, Notes, Sheet, plain
from atrc_exp.report.tables import Report, gather
from atrc_exp.stored import CONFIG


@dataclass(frozen=True)
class Runs:
    """What a folder of runs holds, read once."""

    folder: Path
    names: Sequence[Path]
    """Folders of all names, finished or not."""
    report: Report
    baselines: Sequence[Row]

    @property
    def rows(self) -> Sequence[Row]:
        """Names whose finished runs can be aggregated."""
        return self.report.rows


def read(folder: Path) -> Runs:
    """Read a folder of runs.

    Raises:
        UserError: it does not exist or holds no runs.
    """
    if not folder.is_dir():
        raise UserError(f"runs_dir={folder}: does not exist; give the folder that holds the runs")
    names = run_names(folder)
    if not names:
        raise UserError(f"runs_dir={folder}: holds no runs (no <name>/seed<k>); give the folder that holds them")
    return Runs(folder, names, gather(names), find_baselines(folder))


def sweeps(runs: Runs) -> Sheet:
    """One row a name: what it repeats, and how many of its seeds are done, running or failed."""
    header = ("Name", "Stage", "Network", "Data", "Backbone", "Iterations", "Done", "Not finished", "Failed", "Hours")
    rows, notes = [], []
    by_name = {row.name: row for row in runs.rows}
    for folder in runs.names:
        left = unfinished(folder)
        failed = [path for path, reason in left.items() if reason.startswith("failed")]
        done = [path for path in seed_folders(folder).values() if path not in left]
        counts = [str(len(done)), str(len(left) - len(failed)), str(len(failed))]
        rows.append([run_name(folder), *_experiment(by_name.get(run_name(folder))), *counts, _hours(done)])
        notes += [f"{run_name(folder)}/{path.name}: {reason}" for path, reason in left.items()]
        if len(done) == 1:
            notes.append(f"{run_name(folder)}: one finished run has no deviation")
    notes += [f"{name}: {reason}" for name, reason in runs.report.refused.items()]
    return Sheet("runs_sweeps", "Sweeps", header, plain(rows), tuple(notes), align="lllll" + "r" * 5)


def _experiment(row: Row | None) -> list[str]:
    if row is None:
        return [GAP] * 5
    experiment, setting = row.experiment, row.experiment.setting
    network = experiment.distillation + ("" if experiment.neck == "shared" else f", {experiment.neck}")
    return [experiment.stage, network, setting.dataset, setting.backbone, str(setting.iterations)]


def _hours(done: Iterable[Path]) -> str:
    seconds = [read_json(path / SUMMARY).get("seconds") for path in done]
    known = [value for value in seconds if value is not None]
    return f"{sum(known) / 3600:.2f}" if known else GAP


def system(runs: Runs) -> Sheet:
    """One row a name: time of a step, images a second, memory, length, device, versions and commit of its runs."""
    header = ("Name", "Step [s]", "Images/s", "Peak memory [MiB]", "Run [min]", "Starts", "Device", "PyTorch", "Commit")
    rows, damaged, devices = [], [], Notes()
    for folder in runs.names:
        try:
            rows.append([run_name(folder), *_measured(list(seed_folders(folder).values()), devices)])
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{run_name(folder)}: records cannot be read ({type(error).__name__}: {error})")
    legend = "Step: median of the logged means; images a second: batch over that; run: mean of the finished runs."
    notes = (*devices.lines(), *damaged, legend)
    return Sheet("runs_system", "System", header, plain(rows), notes, align="l" + "r" * 5 + "lll")


def _measured(paths: Sequence[Path], devices: Notes) -> list[str]:
    """Cells after the name; what differs between the runs stands with all its values, devices in full in a note."""
    records = [r for path in paths for r in jsonl.read(path / "metrics.jsonl") if r["kind"] == "train"]
    steps = [r["seconds_per_step"] for r in records if r.get("seconds_per_step")]
    memory = [r["memory_mib"] for r in records if r.get("memory_mib")]
    configs = [yaml.safe_load((p / CONFIG).read_text(encoding="utf-8")) for p in paths if (p / CONFIG).is_file()]
    batches = {config["engine"]["batch_size"] for config in configs}
    seconds = [read_json(p / SUMMARY).get("seconds") for p in paths if (p / SUMMARY).is_file()]
    minutes = [value / 60 for value in seconds if value is not None]
    environments = [read_json(p / "environment.json") for p in paths if (p / "environment.json").is_file()]
    starts: list[dict[str, Any]] = [start for environment in environments for start in environment["starts"]]
    step = statistics.median(steps) if steps else None
    return [
        f"{step:.3f}" if step else GAP,
        f"{next(iter(batches)) / step:.1f}" if step and len(batches) == 1 else GAP,
        f"{max(memory):.0f}" if memory else GAP,
        f"{statistics.fmean(minutes):.1f}" if minutes else GAP,
        str(len(starts)) if starts else GAP,
        _all(_device(start, devices) for start in starts),
        _all(start["versions"]["torch"] for start in starts),
        _all(start["commit"][:8] if start["commit"] else "installed" for start in starts),
    ]


def _device(start: dict[str, Any], devices: Notes) -> str:
    times = f" × {start['world']}" if start["world"] > 1 else ""
    return start["device"].split(" ")[0] + times + devices.mark([start["device"]])


def _all(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or GAP
