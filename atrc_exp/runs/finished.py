"""The finished runs of a folder, from their `summary.json` files alone, and why the others are left out.

The runs of one name must be repetitions of one experiment (`common_experiment`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from atrc_exp.config.task_table import TaskConfig
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, read_settings
from atrc_exp.runs.files import CONFIG, STATUS, SUMMARY
from atrc_exp.tasks import TASKS, Task, know

_PLAIN_NECKS = ("shared", "skip", "simple_fpn")  # those under which tasks neither exchange nor predict anything


@dataclass(frozen=True)
class Setting:
    """Conditions under which results can be compared."""

    dataset: str
    fingerprint: str
    """Hash of the data set's file list."""
    backbone: str
    iterations: int
    init: str | None = None
    """SHA-256 of the weights that the whole network started from (`init`)."""

    def __str__(self) -> str:
        start = f", from weights {self.init[:8]}" if self.init else ""
        return f"{self.dataset} (files {self.fingerprint[:8]}), {self.backbone}, {self.iterations} iterations{start}"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the repetitions of one experiment have in common."""

    stage: str
    neck: str = "shared"
    distillation: str
    tasks: tuple[str, ...]
    classifications: tuple[str, ...]
    """Regression tasks in the form of a classification (App. D)."""
    objective: tuple[str, ...] = ()
    """What is not the published sum of losses, as on a command line: `balance.name=dwa`, `loss_weights.edge=10`."""
    setting: Setting

    @property
    def _is_plain(self) -> bool:
        """Whether no module connects the tasks, and all is trained as published."""
        own = self.classifications or self.objective
        return self.distillation == "none" and self.neck in _PLAIN_NECKS and not own

    @property
    def is_baseline(self) -> bool:
        """A single-task network in the usual form, against which Δm is measured (in Table 5 also that of ASPP)."""
        return self._is_plain and len(self.tasks) == 1

    @property
    def is_multi_task(self) -> bool:
        """A network of several tasks whose features are not exchanged: the multi-task baseline."""
        return self._is_plain and self.stage == "retrain" and len(self.tasks) > 1


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One finished run, as its summary tells it."""

    folder: Path
    seed: int
    experiment: Experiment
    headline: Mapping[str, float]
    """Headline metric by task, in the metric's own unit (fractions, metres, degrees); tasks without one are absent."""
    data_notes: tuple[str, ...]
    """Deviations of the data set from the published one."""
    parameters: int | None
    """Number of the network; None in summaries that do not tell it."""
    seconds: float | None
    """Time from the first step to the last; None in summaries that do not tell it."""


def seed_folders(folder: Path) -> dict[int, Path]:
    """Run folders `seed<k>` of a name, in the order of the seeds."""
    found = {path.name.removeprefix("seed"): path for path in folder.glob("seed*") if path.is_dir()}
    return {int(seed): found[seed] for seed in sorted((s for s in found if s.isdecimal()), key=int)}


def run_names(runs_dir: Path) -> list[Path]:
    """Folders of `runs_dir` that hold runs, by name; those of names with a "/" lie in sub-folders."""
    seeds, found = seed_folders(runs_dir).values(), []
    for path in sorted(path for path in runs_dir.iterdir() if path.is_dir() and path not in seeds):
        found += [path] if seed_folders(path) else []
        found += run_names(path) if not path.is_symlink() and not path.name.startswith(".") else []
    return found


def runs_root(folder: Path) -> Path:
    """The folder of all runs that a folder of one name lies in: above it by as many levels as the name has parts."""
    whole = folder.absolute()
    for name in filter(None, map(_own_name, seed_folders(folder).values())):
        parts = PurePosixPath(name).parts
        if whole.parts[-len(parts) :] == parts:
            return whole.parents[len(parts) - 1]
    return whole.parent


def _own_name(run: Path) -> str | None:
    """The name that a run was given, from the first of its files that tells it."""
    for file in (SUMMARY, CONFIG):
        try:
            read = read_json if file == SUMMARY else read_settings
            return str(read(run / file)["name"])
        except (UserError, OSError, KeyError, TypeError):
            continue
    return None


def run_name(folder: Path) -> str:
    """Name of the runs in a folder, `a/b` where it has parts."""
    return folder.absolute().relative_to(runs_root(folder)).as_posix()


def read_runs(folder: Path) -> list[RunResult]:
    """The finished runs of one name, in the order of their seeds; `left_out` names the others."""
    return _sorted(folder)[0]


def left_out(folder: Path) -> dict[Path, str]:
    """Run folders of a name that `read_runs` has no result of, each with the reason.

    The reason begins with "failed" where the run ended with an error.
    """
    return _sorted(folder)[1]


def _sorted(folder: Path) -> tuple[list[RunResult], dict[Path, str]]:
    results, reasons = [], {}
    for seed, path in seed_folders(folder).items():
        if not (path / SUMMARY).is_file():
            reasons[path] = _unfinished(path / STATUS)
            continue
        try:
            results.append(_read_run(path / SUMMARY, seed))
        except UserError as error:
            reasons[path] = str(error)
    return results, reasons


def know_tasks(run: Path) -> None:
    """Make the tasks that the configuration of a run defines known to tables and figures.

    A configuration that cannot be read defines none: a result of its tasks is then refused as one of unknown tasks.

    Raises:
        UserError: see `tasks.know`.
    """
    know(_own_tasks(run), run)


@cache
def _own_tasks(run: Path) -> list[Task]:
    try:
        return TaskConfig.rows_of(read_settings(run / CONFIG)["dataset"])
    except (UserError, KeyError, TypeError, AttributeError):  # not there, or damaged, which others name
        return []


def _unfinished(path: Path) -> str:
    """What the status of a run without a summary says."""
    if not path.is_file():
        return "not finished"
    try:
        status = read_json(path)
        ended = "not finished, interrupted" if status.get("status") == "interrupted" else "failed"
        return f"{ended}: {status['error']}"
    except (UserError, KeyError, TypeError, AttributeError):
        return f"not finished; {path} cannot be read"


def _read_run(path: Path, seed: int) -> RunResult:
    summary = read_json(path)
    know_tasks(path.parent)
    try:
        if summary["version"] != 1:
            raise UserError(f"{path} has version {summary['version']!r}; this build reads version 1")
        dataset = summary["dataset"]
        experiment = Experiment(
            stage=summary["stage"],
            neck=summary.get("neck", "shared"),
            distillation=summary["distillation"],
            tasks=tuple(summary["tasks"]),
            classifications=tuple(summary.get("classifications", ())),
            objective=tuple(summary.get("objective", ())),
            setting=Setting(
                dataset["name"],
                dataset["fingerprint"],
                summary["backbone"],
                int(summary["iteration"]),
                (summary.get("init") or {}).get("sha256"),
            ),
        )
        headline = {task: float(value) for task, value in summary["headline"].items() if value is not None}
        notes = tuple(dataset.get("notes", ()))
        if unknown := sorted({*experiment.tasks, *headline} - TASKS.keys()):
            raise UserError(f"{path} has tasks that this build does not know: {', '.join(unknown)}")
        parameters, seconds = summary.get("parameters"), summary.get("seconds")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a summary of a run ({type(error).__name__}: {error})") from None
    return RunResult(folder=path.parent, seed=seed, experiment=experiment, headline=headline, data_notes=notes,
                     parameters=parameters, seconds=seconds)  # fmt: skip


def common_experiment(runs: Sequence[RunResult]) -> Experiment:
    """Return the experiment that all runs repeat.

    Raises:
        UserError: runs of different experiments; the message names what differs.
    """
    first = runs[0]
    for other in runs[1:]:
        differences = _differences(first.experiment, other.experiment)
        if differences:
            raise UserError(
                f"{first.folder.parent} mixes runs that are no repetitions: "
                + "; ".join(f"{key} is {a} in {first.folder.name} and {b} in {other.folder.name}"
                            for key, (a, b) in differences.items())
                + "; move the ones that do not belong to another name"
            )  # fmt: skip
    return first.experiment


def _differences(first: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    def flat(experiment: Experiment) -> dict[str, Any]:
        values = {f.name: getattr(experiment, f.name) for f in fields(experiment) if f.name != "setting"}
        values |= {f.name: getattr(experiment.setting, f.name) for f in fields(experiment.setting)}
        joined = {key: ", ".join(getattr(experiment, key)) for key in ("tasks", "classifications", "objective")}
        return values | joined

    a, b = flat(first), flat(other)
    return {key: (a[key], b[key]) for key in a if a[key] != b[key]}
