"""Weights & Biases: the only file that imports wandb. Nothing that a run needs is read from here."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from atrc_exp.config import Config

log = logging.getLogger(__name__)

_INIT_TIMEOUT = 30.0  # seconds to reach the server before the run goes on offline


class WandbRun:
    """One W&B run, the same one (by id) after every resume."""

    def __init__(self, wandb: ModuleType, run: Any) -> None:
        self._wandb, self._run = wandb, run

    def record(self, record: Mapping[str, Any]) -> None:
        """Log the numbers of a record under "<kind>/<key>"; nested dictionaries become "a/b/c" keys."""
        numbers = _flat({key: value for key, value in record.items() if key not in ("step", "kind")})
        self._run.log({f"{record['kind']}/{key}": value for key, value in numbers.items()}, step=record["step"])

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the run's configuration. They replace those of an earlier start."""
        self._run.config.update(dict(facts), allow_val_change=True)

    def image(self, step: int, key: str, panel: Any, caption: str | None = None) -> None:
        """Log an (H, W, 3) uint8 array."""
        self._run.log({key: self._wandb.Image(panel, caption=caption)}, step=step)

    def artifact(self, path: Path, kind: str, name: str) -> None:
        """Attach a file, e.g. of kind "model" or "genotype"."""
        artifact = self._wandb.Artifact(name.replace("/", "-"), type=kind)  # W&B allows no "/" there
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, exit_code: int, *, preempted: bool = False) -> None:
        """Finish with the exit code of the run; `preempted` if it will be started again elsewhere."""
        if preempted:
            self._run.mark_preempting()
        self._run.finish(exit_code=exit_code)


def start(config: Config, folder: Path, run_id: str) -> WandbRun | None:
    """Open a W&B run in the run folder, or return None where it is disabled or not installed.

    Without credentials or server an online run goes on offline with one warning; there is never a prompt.
    """
    if config.logger.mode == "disabled" or os.environ.get("WANDB_MODE") == "disabled":
        return None
    try:
        import wandb
    except ImportError:
        log.warning("wandb is not installed: W&B is off, all numbers are in metrics.jsonl")
        return None
    mode = config.logger.mode
    if mode == "online" and not _can_log_in(wandb):
        mode = "offline"
    try:
        return WandbRun(wandb, _init(wandb, config, folder, run_id, mode))
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        log.warning("W&B goes on offline: %s", error)
        return WandbRun(wandb, _init(wandb, config, folder, run_id, "offline"))


def _can_log_in(wandb: ModuleType) -> bool:
    try:
        if wandb.login(prompt=False, verify=True):
            return True
        log.warning("W&B goes on offline: no API key; run `wandb login`, then `wandb sync` in the run folder")
    except wandb.errors.Error as error:
        log.warning("W&B goes on offline: %s", error)
    return False


def _init(wandb: ModuleType, config: Config, folder: Path, run_id: str, mode: str) -> Any:
    settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_TIMEOUT, x_disable_stats=mode != "online")
    return wandb.init(
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.name,
        job_type=config.stage.name,
        name=f"seed{config.seed}",
        tags=config.logger.tags,
        config=dataclasses.asdict(config),
        dir=str(folder),
        id=run_id,
        resume="allow",
        mode=mode,
        reinit="finish_previous",
        settings=settings,
    )


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[key] = value
    return flat
