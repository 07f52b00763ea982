"""Claim the folder of a run for one process: lock it, compare what it holds, and write down the start."""

import dataclasses
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import yaml
from omegaconf import OmegaConf

from atrc_exp.config import Config
from atrc_exp.config.checks import free_keys
from atrc_exp.config.keys import within
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, read_settings, take_lock, write_json, write_text
from atrc_exp.processes import slurm
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.runs.environment import describe_environment
from atrc_exp.runs.files import CHECKPOINTS, CONFIG, ENVIRONMENT, LOCK, PREDICTIONS, START, STATUS, SUMMARY

log = logging.getLogger(__name__)

_PATIENCE = 300.0
"""Seconds for which a job that Slurm has queued again waits for its process of before, which may end slowly."""
_LOOK = 5.0  # seconds between looks at the lock


class DatasetRecord(Protocol):
    """What a run needs to know of its dataset: `atrc_exp.data.readers.sample.DatasetInfo`."""

    @property
    def fingerprint(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


def lock(folder: Path) -> IO[str]:
    """Make the folder of a run where there is none and take its lock, which ends with the file or the process.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _take(folder / LOCK, patience=_PATIENCE if slurm.restarted() else 0)


def start(folder: Path, config: Config, ranks: Ranks, data: DatasetRecord, overrides: Sequence[str]) -> dict[str, Any]:
    """Write down a start in a locked folder, unless the run in it is done; return its environment record.

    Raises:
        UserError: the folder belongs to another configuration or dataset.
    """
    _remove_leftovers(folder)
    done = (folder / SUMMARY).exists()
    if not done and not checkpoint.exists(folder / CHECKPOINTS):
        _clear(folder)
    environment = _compare(folder, config, data)
    return environment if done else _record_start(folder, config, ranks, data, overrides, environment)


def _take(path: Path, patience: float) -> IO[str]:
    """Wait up to `patience` seconds for the process that holds the lock."""
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


def _record_start(
    folder: Path,
    config: Config,
    ranks: Ranks,
    data: DatasetRecord,
    overrides: Sequence[str],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Add this start to environment.json, write config.yaml at the first one, and return the record."""
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
    return environment


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys; an empty dictionary has none."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
