"""Runs that exist: where their files are, and their configuration for stages that look at them.

A stored configuration passes the same schema as a command line. Of what it names, a user's own module alone comes from
outside the package, and it is imported only where this command's `allow` has it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from atrc_exp.config import STORED_STAGES, Config
from atrc_exp.config.checks import with_home
from atrc_exp.config.hydra_errors import USER_MISTAKES, explain
from atrc_exp.config.keys import override_key, within
from atrc_exp.errors import UserError
from atrc_exp.files import read_settings
from atrc_exp.runs.files import BRANCHING, CHECKPOINT, CONFIG, GENOTYPE, SUMMARY, WEIGHTS

OWN = ("run", "checkpoint", "input", "image", "pixel", "target", "output", "allow", "predict", "importance", "export",
       "logger", "stage")  # fmt: skip
"""Keys of the command itself, which say what is done with the run; the stage last, since it asks for others.

`allow` is among them so that no file decides which code is run."""
CHANGEABLE = ("dataset.root", "dataset.cache_dir", "engine.device", "engine.workers", "engine.val_batch_size",
              "engine.precision", "engine.progress", "engine.save_predictions", "evaluation",
              "debug.limit_val", "dataset.packed")  # fmt: skip
"""Keys, or groups of keys, of the run's configuration that the command line may replace."""


def run_folder(config: Config) -> Path:
    """Folder of the run that `run` or `checkpoint` names.

    Raises:
        UserError: there is no such run, or it has no checkpoint yet.
    """
    if config.checkpoint is not None:
        file = Path(config.checkpoint).absolute()
        if not file.is_file():
            raise UserError(f"checkpoint={config.checkpoint}: there is no such file; give one of a run, or run=RUN_DIR")
        folder = next((folder for folder in file.parents[:2] if (folder / CONFIG).is_file()), None)
        if file.suffix == Path(WEIGHTS).suffix:
            raise UserError(
                f"checkpoint={config.checkpoint}: holds weights alone; give run={folder or 'RUN_DIR'}, or train from "
                f"them with init={config.checkpoint}"
            )
        if folder is not None:
            return folder
        raise UserError(
            f"checkpoint={config.checkpoint}: has no {CONFIG} beside or above it; keep it in its run folder"
        )
    assert config.run is not None
    folder = Path(config.run).absolute()
    if not (folder / CONFIG).is_file():
        state = f"holds no {CONFIG}" if folder.is_dir() else "does not exist"
        raise UserError(f"run={config.run}: {state}; give the folder of a run, runs/<name>/seed<k>")
    if not (folder / CHECKPOINT).is_file():
        raise UserError(f"run={config.run}: holds no checkpoint yet ({CHECKPOINT}); wait for the first one")
    return folder


def checkpoint_file(config: Config) -> Path:
    """The checkpoint that `checkpoint` names, or the run's latest one."""
    return Path(config.checkpoint).absolute() if config.checkpoint else run_folder(config) / CHECKPOINT


def training_folder(config: Config) -> Path:
    """Where a training writes: `<runs_dir>/<name>/seed<seed>`."""
    return Path(config.runs_dir).absolute() / config.name / f"seed{config.seed}"


def has_begun(config: Config) -> bool:
    """Whether a start of this training has left a checkpoint, or its end a summary."""
    return any((training_folder(config) / kept).exists() for kept in (CHECKPOINT, SUMMARY))


def init_file(source: str) -> Path:
    """The file of weights that `init` names: itself, or the last checkpoint of a run, else its weights.

    Raises:
        UserError: there is none.
    """
    path = Path(source).absolute()
    if path.is_file():
        return path
    wanted = "give the folder of a run, runs/<name>/seed<k>, a checkpoint, or a .safetensors file"
    if not path.is_dir():
        raise UserError(f"init={source}: does not exist; {wanted}")
    found = [path / kept for kept in (CHECKPOINT, WEIGHTS) if (path / kept).is_file()]
    if not found:
        raise UserError(f"init={source}: holds neither {CHECKPOINT} nor {WEIGHTS}; {wanted}")
    return found[0]


def with_stored(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration of the run that a stage looks at, changed where `overrides` say so; `config` for other stages.

    The run is that of `config.run` or `config.checkpoint`. Weights are random, since the checkpoint replaces them;
    genotype and branching are those kept in the run folder.

    Args:
        config: the composed configuration, whose values of the overridden keys are taken.
        overrides: command line, as Hydra lists it.

    Raises:
        UserError: no such run, a stored configuration that this build does not read, or an override of a key that
            belongs to the run.
    """
    if config.stage.name not in STORED_STAGES or not (config.run or config.checkpoint):
        return config
    folder = run_folder(config)
    keys = list(map(override_key, overrides))
    foreign = [key for key in keys if not within(key, OWN + CHANGEABLE)]
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: belongs to the run {folder}, whose own configuration holds; "
            f"only these can be given beside it: {', '.join(OWN + CHANGEABLE)}"
        )
    stored = _read(folder / CONFIG)
    if stored.stage.name == "branch":
        raise UserError(
            f"{folder} is a branch search, which leaves no network to use; train the network of its branching "
            f"(a preset *_bmtas_* with branching.file={folder})"
        )
    for key in (*OWN, *(key for key in keys if within(key, CHANGEABLE))):
        stored = _with_value(stored, key.split("."), reduce(getattr, key.split("."), config))
    return _with_kept_files(stored, folder)


def read_network_config(folder: Path) -> Config:
    """Read the configuration of a run for a look at its network alone, which allows no code of the user's.

    Raises:
        UserError: a stored configuration that this build does not read.
    """
    return _with_kept_files(replace(_read(folder / CONFIG), allow=[]), folder)


def _with_kept_files(stored: Config, folder: Path) -> Config:
    """The genotype and the branching of the run folder, and random weights, which a checkpoint replaces."""
    kept = folder / GENOTYPE
    if stored.distillation.name == "atrc":
        stored = replace(stored, genotype=str(kept), genotype_blocks={})
    if stored.branching.file is not None:
        stored = replace(stored, branching=replace(stored.branching, file=str(folder / BRANCHING)))
    return replace(stored, backbone=replace(stored.backbone, weights="random"))


def _read(path: Path) -> Config:
    values = read_settings(path)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    except USER_MISTAKES as error:
        raise UserError(f"{path}: {explain(error)}") from None
    assert isinstance(config, Config)
    return with_home(config)


def _with_value(node: Any, path: Sequence[str], value: Any) -> Any:
    """Copy nested dataclasses and give the field at `path` another value."""
    name, *rest = path
    return replace(node, **{name: _with_value(getattr(node, name), rest, value) if rest else value})
