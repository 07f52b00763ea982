"""End of a Hydra multirun: the vote after searches, the table after trainings, and an honest exit code.

Set by `hydra.callbacks.sweep._target_: atrc_exp.report.sweep.SweepCallback`. Launchers such as joblib and submitit run
the jobs in other processes, so every job leaves a file, `<runs_dir>/.multirun/<sweep id>/<job number>.json`; the id
travels in the configuration of every job. Hydra skips the end of a multirun in which a job raised, and swallows
exceptions of callbacks: jobs record their failure instead of raising, and this callback leaves by SystemExit.
"""

import os
import signal
import sys
import traceback
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from atrc_exp.config import TRAINING_STAGES
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json
from atrc_exp.processes import local_sweep
from atrc_exp.report.campaign.jobs import job_overrides, require_one_process, require_own_places
from atrc_exp.words import counted

FOLDER = ".multirun"
EXIT_CODE = 3


@dataclass(frozen=True)
class JobRecord:
    """How one job of a sweep ended."""

    job_num: int
    run_dir: str
    name: str
    stage: str
    status: str
    """done or failed."""
    error: str | None


def record_job(
    runs_dir: str | Path,
    sweep_id: str,
    job_num: int,
    run_dir: str | Path,
    name: str,
    stage: str,
    status: str,
    error: str | None = None,
) -> None:
    """Leave the record of a job for the end of its sweep."""
    record = JobRecord(job_num, str(run_dir), name, stage, status, error)
    write_json(_folder(runs_dir, sweep_id) / f"{job_num}.json", asdict(record))


def current_sweep() -> str:
    """Id of the sweep that the running job belongs to."""
    return str(HydraConfig.get().callbacks["sweep"].id)


def _folder(runs_dir: str | Path, sweep_id: str) -> Path:
    return Path(runs_dir) / FOLDER / sweep_id


def read_records(runs_dir: str | Path, sweep_id: str) -> list[JobRecord]:
    """Records of a sweep by job number; one that cannot be read counts as missing."""
    records = []
    for path in _folder(runs_dir, sweep_id).glob("[0-9]*.json"):
        with suppress(UserError, TypeError):
            records.append(JobRecord(**read_json(path)))
    return sorted(records, key=lambda record: record.job_num)


def finish(runs_dir: str | Path, sweep_id: str, expected: int, ranking: str | None = None) -> bool:
    """Aggregate what the jobs of a sweep left and print it, then what went wrong; True if nothing did.

    Args:
        ranking: name under which the runs' names are ranked against one another, if they are.
    """
    records = read_records(runs_dir, sweep_id)
    names = {stage: list(dict.fromkeys(r.name for r in records if r.stage == stage)) for stage in TRAINING_STAGES}
    root = Path(runs_dir).absolute()
    problems = _vote([root / name for name in names["search"]])
    problems += _tabulate([root / name for name in names["retrain"]])
    if ranking is not None:
        problems += _rank([root / name for name in dict.fromkeys(r.name for r in records)], root / ranking)
    problems += _damaged([root / name for stage in TRAINING_STAGES for name in names[stage]])
    problems += [f"job {r.job_num}, {r.run_dir}: {r.error}" for r in records if r.status != "done"]
    missing = sorted(set(range(expected)) - {record.job_num for record in records})
    if missing:
        numbers = ", ".join(map(str, missing))
        problems.append(f"no record of job {numbers}: killed, or it failed before it could write into {root}")
    done = sum(record.status == "done" for record in records)
    print(f"sweep: {done} of {counted(expected, 'job')} done")
    for problem in problems:
        print(f"  {problem}")
    if problems:
        print("  the same command again runs only what is missing")
    return not problems


def _damaged(folders: Iterable[Path]) -> list[str]:
    """Finished runs that vote and table had to do without."""
    from atrc_exp.runs.files import SUMMARY
    from atrc_exp.runs.finished import left_out

    return [reason for folder in folders for path, reason in left_out(folder).items() if (path / SUMMARY).is_file()]


def _vote(folders: Iterable[Path]) -> list[str]:
    from atrc_exp.report import votes  # matplotlib: not in every start of a single run, which loads this module too

    problems = []
    for folder in folders:
        try:
            votes.show(votes.vote_folder(folder))
        except (UserError, OSError) as error:
            problems.append(f"no vote: {error}")
    return problems


def _tabulate(folders: list[Path]) -> list[str]:
    """Write the table of every name and print one table of all of them."""
    from atrc_exp.report.results import tables

    problems, finished = [], []
    for folder in folders:
        try:
            tables.write(tables.collect([folder]), folder)
            finished.append(folder)
        except (UserError, OSError) as error:
            problems.append(f"no table: {error}")
    if finished:
        tables.show(tables.collect(finished))
    return problems


def _rank(folders: list[Path], output: Path) -> list[str]:
    from atrc_exp.report.results import ranking

    try:
        ranking.show(ranking.rank(folders), output)
    except (UserError, OSError) as error:
        return [f"no ranking: {error}"]
    return []


def _root(config: DictConfig) -> Path:
    return Path(config.runs_dir).expanduser()


class SweepCallback(Callback):
    """Gives a multirun its id and aggregates it at its end. The exit code is 3 where anything failed or is missing.

    Args:
        ranking: what is ranked, as `+sweep=...` sets it; the folder `<preset>_<ranking>` tells the outcome.
        id: identity of the sweep. It is drawn at the start and written into the configuration of the jobs.
    """

    def __init__(self, ranking: str | None = None, id: str | None = None) -> None:
        self.ranking, self.id = ranking, id

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look whether the jobs can run side by side; set the sweep id, and who answers signals, before any starts.

        Raises:
            SystemExit: the jobs cannot run side by side.
        """
        try:
            require_one_process()
            require_own_places(config)
        except UserError as error:  # Hydra would turn it into a warning
            if os.environ.get("RANK", "0") == "0":
                print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except (HydraException, OmegaConfBaseException):
            pass  # Hydra composes all jobs itself before the first starts, and raises
        self.id = f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
        with read_write(config.hydra):  # jobs are composed from these overrides and their own
            # Hydra makes this folder, of the sweep and, from the overrides, of every job.
            config.hydra.sweep.dir = os.path.expanduser(config.hydra.sweep.dir)
            literal = QuotedString(config.hydra.sweep.dir, Quote.double).with_quotes()
            config.hydra.overrides.hydra += [f"hydra.sweep.dir={literal}", f"++hydra.callbacks.sweep.id={self.id}"]
        if "Joblib" in config.hydra.launcher._target_:  # other launchers run jobs in this process or on other machines
            local_sweep.watch(_folder(_root(config), self.id) / "signal")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Aggregate and report.

        Raises:
            SystemExit: a job failed or is missing, the aggregation itself failed, or a signal ended the sweep.
        """
        try:
            assert self.id is not None
            expected = len(job_overrides(config))
            left = expected - len(read_records(_root(config), self.id))
            if left and (number := local_sweep.noted()):
                ended = f"sweep: ended by {signal.Signals(number).name}, {left} of {counted(expected, 'job')} left"
                print(f"{ended}; the same command goes on", file=sys.stderr)
                code = 128 + number
            else:
                ranking = self.ranking and f"{config.hydra.runtime.choices['experiment']}_{self.ranking}"
                code = 0 if finish(_root(config), self.id, expected, ranking) else EXIT_CODE
        except Exception:  # Hydra would turn it into a warning and exit code 0
            traceback.print_exc()
            code = EXIT_CODE
        if code:
            raise SystemExit(code)
