"""Tables of what a folder of runs holds: its sweeps with the fate of every seed, and what their runs took."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, read_settings
from atrc_exp.report.results.aggregate import Row, find_baselines
from atrc_exp.report.results.sheet import GAP, Notes, Sheet, plain
from atrc_exp.report.results.tables import Report, gather
from atrc_exp.runs.files import CONFIG, ENVIRONMENT, RECORDS, SUMMARY
from atrc_exp.runs.finished import RunResult, left_out, read_runs, run_name, run_names, seed_folders
from atrc_exp.runs.logging import jsonl

T = TypeVar("T")


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
    rows, notes, single = [], list[str](), list[str]()
    by_name = {row.name: row for row in runs.rows}
    for folder in runs.names:
        done, left, name = read_runs(folder), left_out(folder), run_name(folder)
        damaged = sum((path / SUMMARY).is_file() for path in left)
        failed = sum(reason.startswith("failed") for reason in left.values())
        counts = (len(done), len(left) - failed - damaged, failed)
        rows.append([name, *_experiment(by_name.get(name)), *map(str, counts), _hours(done)])
        notes += [f"{name}/{path.name}: {reason}" for path, reason in left.items()]
        if len(done) == 1:
            single.append(name)
    notes += [f"{name}: {reason}" for name, reason in runs.report.refused.items()]
    if single:
        notes.append(f"one finished run has no deviation: {', '.join(single)}")
    return Sheet("runs_sweeps", "Sweeps", header, plain(rows), tuple(notes), align="lllll" + "r" * 5)


def _experiment(row: Row | None) -> list[str]:
    if row is None:
        return [GAP] * 5
    experiment, setting = row.experiment, row.experiment.setting
    network = experiment.distillation + ("" if experiment.neck == "shared" else f", {experiment.neck}")
    return [experiment.stage, network, setting.dataset, setting.backbone, str(setting.iterations)]


def _hours(done: Iterable[RunResult]) -> str:
    known = [run.seconds for run in done if run.seconds is not None]
    return f"{sum(known) / 3600:.2f}" if known else GAP


def system(runs: Runs) -> Sheet:
    """One row a name: time of a step, images a second, memory, length, device, versions and commit of its runs."""
    header = ("Name", "Step [s]", "Images/s", "Peak memory [MiB]", "Run [min]", "Starts", "Device", "PyTorch", "Commit")
    rows, damaged, devices = [], list[str](), Notes()
    for folder in runs.names:
        rows.append([run_name(folder), *_measured(folder, devices, damaged)])
    legend = "Step: median of the logged means; images a second: batch over that; run: mean of the finished runs."
    notes = (*devices.lines(), *damaged, legend)
    return Sheet("runs_system", "System", header, plain(rows), notes, align="l" + "r" * 5 + "lll")


def _measured(folder: Path, devices: Notes, damaged: list[str]) -> list[str]:
    """Cells after the name. What differs between the runs is given with all its values; devices stand in a note."""
    paths = list(seed_folders(folder).values())
    records = [r for path in paths for r in jsonl.read(path / RECORDS) if r["kind"] == "train"]
    steps = [r["seconds_per_step"] for r in records if r.get("seconds_per_step")]
    memory = [r["memory_mib"] for r in records if r.get("memory_mib")]
    batches = set(_readable([p / CONFIG for p in paths], _batch_size, damaged))
    minutes = [run.seconds / 60 for run in read_runs(folder) if run.seconds is not None]
    environments = _readable([p / ENVIRONMENT for p in paths], _starts, damaged)
    starts = [start for environment in environments for start in environment]
    step = statistics.median(steps) if steps else None
    return [
        f"{step:.3f}" if step else GAP,
        f"{next(iter(batches)) / step:.1f}" if step and len(batches) == 1 else GAP,
        f"{max(memory):.0f}" if memory else GAP,
        f"{statistics.fmean(minutes):.1f}" if minutes else GAP,
        str(len(starts)) if starts else GAP,
        _all(start.processors(devices) for start in starts),
        _all(start.torch for start in starts),
        _all(start.commit for start in starts),
    ]


def _readable(paths: Iterable[Path], read: Callable[[Path], T], damaged: list[str]) -> list[T]:
    """What `read` makes of the files that are there; those that it fails on are added to `damaged`."""
    found = []
    for path in paths:
        if not path.is_file():
            continue
        try:
            found.append(read(path))
        except UserError as error:
            damaged.append(str(error))
        except (KeyError, TypeError, AttributeError) as error:
            damaged.append(f"{path}: is damaged ({type(error).__name__}: {error})")
    return found


def _batch_size(path: Path) -> int:
    return read_settings(path)["engine"]["batch_size"]


@dataclass(frozen=True)
class _Start:
    """One start of a run, as environment.json tells it."""

    device: str
    world: int
    torch: str
    commit: str

    def processors(self, devices: Notes) -> str:
        return self.device.split(" ")[0] + (f" × {self.world}" if self.world > 1 else "") + devices.mark([self.device])


def _starts(path: Path) -> list[_Start]:
    return [
        _Start(start["device"], int(start["world"]), start["versions"]["torch"],
               start["commit"][:8] if start["commit"] else "installed")
        for start in read_json(path)["starts"]
    ]  # fmt: skip


def _all(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or GAP
