"""The folder of one run: who may write it, whether it is new, half done or done, and what identifies it.

A second start of the same command finds its folder by name and seed. It resumes, or says that the run is done; a start
with another configuration is refused, since its numbers would not belong to the folder's.
"""

import dataclasses
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import yaml
from omegaconf import OmegaConf

from atrc_exp import genotype as genotypes
from atrc_exp.bmtas import tree as branchings
from atrc_exp.config import Config
from atrc_exp.config.checks import free_keys
from atrc_exp.config.keys import within
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, read_settings, take_lock, unwritable, write_json, write_text
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.processes import slurm
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.runs.configurations import training_folder
from atrc_exp.runs.environment import describe_environment
from atrc_exp.runs.files import (
    BRANCHING,
    CHECKPOINT,
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    GENOTYPE,
    LOCK,
    PREDICTIONS,
    START,
    STATUS,
    SUMMARY,
)

log = logging.getLogger(__name__)

_PATIENCE = 300.0
"""Seconds for which a job that Slurm has queued again waits for its process of before, which may end slowly."""
_LOOK = 5.0  # seconds between looks at the lock


class DatasetRecord(Protocol):
    """What a run needs to know of its dataset: `atrc_exp.data.readers.sample.DatasetInfo`."""

    @property
    def fingerprint(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclasses.dataclass
class Run:
    """An open run folder; a context manager that leaves `status.json` behind when the run fails or is interrupted.

    Attributes:
        id: identity in W&B, drawn at the first start.
        dataset: the dataset's record for the summary.
        normalisation: of the run's images, see `keep_backbone`.
        init: file and SHA-256 of the weights that the run started from, and what of them did not fit; None without
            `init`.
        summary: content of summary.json where the run is done, else None.
    """

    folder: Path
    ranks: Ranks
    id: str
    dataset: dict[str, Any]
    normalisation: Normalisation = IMAGENET
    init: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    lock: IO[str] | None = None

    @classmethod
    def open(cls, config: Config, ranks: Ranks, data: DatasetRecord, overrides: Sequence[str] = ()) -> "Run":
        """Claim `<runs_dir>/<name>/seed<seed>` for this process; collective.

        Args:
            data: record of the dataset that the run reads.
            overrides: command line, recorded in environment.json.

        Raises:
            UserError: the folder belongs to another configuration or dataset, is in use by another process, or cannot
                be written.
        """
        folder = training_folder(config)
        lock: IO[str] | None = None

        def claim() -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
            nonlocal lock
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder / LOCK, patience=_PATIENCE if slurm.restarted() else 0)
            _remove_leftovers(folder)
            if not (folder / SUMMARY).exists() and not checkpoint.exists(folder / CHECKPOINTS):
                _clear(folder)
            environment = _compare(folder, config, data)
            if (folder / SUMMARY).exists():
                return environment["run_id"], environment.get("init"), read_json(folder / SUMMARY)
            run_id = _record_start(folder, config, ranks, data, overrides, environment)
            return run_id, environment.get("init"), None

        try:
            run_id, init, summary = ranks.on_main(claim)
        except (UserError, OSError) as error:
            if lock is not None:
                lock.close()
            raise (unwritable(folder, error) if isinstance(error, OSError) else error) from None
        return cls(folder, ranks, run_id, data.as_dict(), init=init, summary=summary, lock=lock)

    @property
    def done(self) -> bool:
        """Whether an earlier start has finished."""
        return self.summary is not None

    @property
    def checkpoint(self) -> Path:
        """Latest checkpoint; it exists from the first save on."""
        return self.folder / CHECKPOINT

    def keep_genotype(self, genotype: genotypes.Genotype) -> None:
        """Write the genotype that a fixed network is built from. On a resume it must equal the one in the folder.

        Raises:
            UserError: the file that the configuration names has changed since the first start.
        """
        self._keep(
            self.folder / GENOTYPE,
            lambda path: dict(genotypes.load(path).blocks) == dict(genotype.blocks),
            lambda path: genotypes.save(genotype, path),
        )

    def keep_branching(self, branching: branchings.Branching) -> None:
        """Write the branching of the encoder. On a resume it must equal the one in the folder."""
        self._keep(
            self.folder / BRANCHING,
            lambda path: branchings.load(path) == branching,
            lambda path: branchings.save(branching, path),
        )

    def keep_backbone(self, provenance: Mapping[str, str | None], normalisation: Normalisation) -> None:
        """Record the weights of the backbone at the first start. A resumed run keeps that start's normalisation.

        A run that began before there was such a record goes on with ImageNet's normalisation, with which it began.

        Args:
            provenance: of the weights, see `models.backbones.backbone.Backbone`.
            normalisation: with which they were trained.
        """

        def keep() -> Normalisation:
            path = self.folder / ENVIRONMENT
            environment = read_json(path)
            if "backbone" not in environment and not self.checkpoint.exists():
                environment["backbone"] = {**provenance, **normalisation.as_dict()}
                write_json(path, environment)
            return Normalisation.of_run(environment)

        self.normalisation = self.ranks.on_main(keep)
        if self.normalisation != normalisation:
            log.warning(
                "images are normalised as at the first start of this run (%s), not as for the weights of the backbone "
                "(%s); another name= starts one that is", self.normalisation, normalisation,
            )  # fmt: skip

    def _keep(self, path: Path, unchanged: Callable[[Path], bool], save: Callable[[Path], None]) -> None:
        def keep() -> None:
            if path.exists() and not unchanged(path):
                raise UserError(f"{path} differs from the {path.stem} given now; use another name= for another one")
            save(path)

        self.ranks.on_main(keep)

    def keep_init(self, record: dict[str, Any]) -> None:
        """Write down where the weights of a new run come from."""
        self.init = record
        if self.ranks.is_main:
            environment = read_json(self.folder / ENVIRONMENT)
            write_json(self.folder / ENVIRONMENT, environment | {"init": record})

    def note_start(self, **facts: Any) -> None:
        """Add what has turned out about this start to its entry in environment.json; on rank 0 only."""
        environment = read_json(self.folder / ENVIRONMENT)
        environment["starts"][-1] |= facts
        write_json(self.folder / ENVIRONMENT, environment)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json, the mark of a finished run."""
        self.summary = summary
        if self.ranks.is_main:
            write_json(self.folder / SUMMARY, summary)
            (self.folder / STATUS).unlink(missing_ok=True)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        cause = unwritable(self.folder, error) if isinstance(error, OSError) else error
        if cause is not None and self.ranks.is_main and not self.done:
            try:
                signal = _interruption(error)
                text = str(signal or cause) or type(cause).__name__
                status = "interrupted" if signal or isinstance(error, KeyboardInterrupt) else "failed"
                write_json(self.folder / STATUS, {"status": status, "error": text})
            except OSError as second:
                log.warning("%s was not written: %s", STATUS, second)
        if self.lock is not None:
            self.lock.close()  # the kernel releases the lock with the file, also after kill -9
        if cause is not error and cause is not None:
            raise cause from error


def _interruption(error: BaseException | None) -> Interrupted | None:
    """Return the signal that ended the run, if one did. A scheduler's handler may have replaced it by an exit."""
    found = (cause for cause in (error, error and error.__context__) if isinstance(cause, Interrupted))
    return next(found, None)


def _clear(folder: Path) -> None:
    """Forget a start that saved nothing, so that a corrected command is not refused for what the first one said."""
    for name in START:
        (folder / name).unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of a process that was killed while it wrote (`files.replacing`)."""
    for part in (folder, folder / CHECKPOINTS, *folder.glob(f"{PREDICTIONS}/*")):
        for path in part.glob(".*-*.*"):
            path.unlink()


def require_same(folder: Path, config: Config) -> None:
    """Compare the run in `folder`, if there is one, with `config` in the keys that change its results.

    Raises:
        UserError: it has another configuration; the message names what differs.
    """
    if not (folder / CONFIG).exists():
        return
    stored = read_settings(folder / CONFIG)
    unset: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    before = _flat(unset) | _flat(stored)  # keys that came after the run was started had their defaults
    now = _flat(dataclasses.asdict(config))
    free = free_keys(Config)
    lines = [
        f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not within(key, free)
    ]
    if lines:
        raise UserError(
            f"{folder} holds a run with another configuration ({'; '.join(lines)}); "
            "give another name= or seed=, or delete the folder"
        )


def _compare(folder: Path, config: Config, data: DatasetRecord) -> dict[str, Any]:
    """Refuse a folder of other results; return its environment record, empty for a new folder."""
    require_same(folder, config)
    if not (folder / CONFIG).exists():
        return {}
    environment = read_json(folder / ENVIRONMENT)
    if environment["dataset"]["fingerprint"] != data.fingerprint:
        raise UserError(
            f"{folder} was started on other files: the file list of the dataset has changed; "
            "restore the files, give another name=, or delete the folder"
        )
    return environment


def _lock(path: Path, patience: float) -> IO[str]:
    """Take the lock of a run folder. The call waits up to `patience` seconds for the process that holds it.

    Raises:
        UserError: another process holds it.
    """
    lock, until = path.open("a+", encoding="utf-8"), time.monotonic() + patience
    while not take_lock(lock, wait=False):
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        if time.monotonic() >= until:
            lock.close()
            raise UserError(f"{path.parent} is in use by {owner}; wait for it or stop it")
        log.warning("waiting for %s, which still uses %s", owner, path.parent)
        time.sleep(_LOOK)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _record_start(
    folder: Path,
    config: Config,
    ranks: Ranks,
    data: DatasetRecord,
    overrides: Sequence[str],
    environment: dict[str, Any],
) -> str:
    """Add this start to environment.json, write config.yaml at the first one, and return the run's id."""
    start = {**describe_environment(ranks.device), "overrides": list(overrides), "world": ranks.world,
             "accumulate": config.engine.accumulate}  # fmt: skip
    environment = environment or {"run_id": secrets.token_hex(4), "dataset": data.as_dict(), "starts": []}
    for last in environment["starts"][-1:]:
        keys = ("world", "accumulate", "device")
        changed = [f"{key}: {last[key]} -> {start[key]}" for key in keys if last[key] != start[key]]
        if changed:
            log.warning("%s: the resumed run is not bit for bit what it would have been", "; ".join(changed))
    environment["starts"].append(start)
    write_json(folder / ENVIRONMENT, environment)
    (folder / STATUS).unlink(missing_ok=True)  # it tells of the start before
    if not (folder / CONFIG).exists():
        stored = dataclasses.asdict(config)
        stored["dataset"]["root"] = str(
            Path(config.dataset.root).expanduser().absolute()
        )  # for stages started elsewhere
        write_text(folder / CONFIG, yaml.safe_dump(stored, sort_keys=False))
    return environment["run_id"]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys; an empty dictionary has none."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
