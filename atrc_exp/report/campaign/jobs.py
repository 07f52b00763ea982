"""The jobs of a Hydra multirun before they start: how many there are, and whether each has a place of its own."""

import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from atrc_exp.config import TRAINING_STAGES
from atrc_exp.errors import UserError

_SEED = "seed"
_RUNS = (*TRAINING_STAGES, "branch")
_COUNTED = ("profile", "benchmark")
_STORED = ("evaluate", "importance", "export")

Job = Mapping[str, str]
"""Overrides of one job by key, with the value as Hydra writes it."""


def job_overrides(config: DictConfig) -> list[Job]:
    """Overrides of every job that a multirun asks for: all combinations of the values of its sweeps.

    Args:
        config: the configuration of the multirun, with its `hydra` node.
    """
    arguments = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(arguments, list)
    lines = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()] + arguments
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())  # globs ask the loader
    values = {
        override.get_key_element(): (
            list(override.sweep_string_iterator())
            if override.is_sweep_override()
            else [str(override.get_value_element_as_str())]
        )
        for override in parser.parse_overrides(lines)
    }
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def require_own_places(config: DictConfig) -> None:
    """Compare where the jobs of a multirun write, since a second job in one place would be refused or overwrite it.

    Args:
        config: the configuration of the multirun, with its `hydra` node.

    Raises:
        UserError: a job that is asked for twice, or two jobs with one place; the message names the keys that differ and
            a name that has them.
        HydraException, OmegaConfBaseException: a job that cannot be composed.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in job_overrides(config):
        groups.setdefault(tuple(item for item in job.items() if item[0] != _SEED), []).append(job)
    seeds = [tuple(job.get(_SEED, "") for job in jobs) for jobs in groups.values()]
    for given in seeds:
        if len(set(given)) < len(given):
            raise UserError(f"this sweep asks for the same job twice (seed={','.join(given)}); give every value once")
    if len(groups) == 1:
        return
    places: dict[str, list[Job]] = {}
    for first, *_ in groups.values():  # the seeds are the same in all groups, and a name without them serves for all
        for place in _places(config, first):
            places.setdefault(place, []).append(first)
    for place, jobs in places.items():
        if len(jobs) > 1:
            keys = [key for key in jobs[0] if len({job[key] for job in jobs}) > 1]
            raise _shared(config, place, jobs[0], keys)


def _composed(config: DictConfig, job: Job) -> DictConfig:
    loader = GlobalHydra.instance().config_loader()
    return loader.load_sweep_config(config, [f"{key}={value}" for key, value in job.items()])


def _places(config: DictConfig, job: Job) -> Iterator[str]:
    """Return the places where a job writes; stages that write a file for each image have none."""
    composed, before = _composed(config, job), HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(composed)  # names may be made of Hydra's choices
        stage, name = composed.stage.name, f"{composed.runs_dir}/{composed.name}"
        if stage in _RUNS:
            yield f"{name}/seed{composed.seed}"
        elif stage in _COUNTED:
            yield f"{name}/{stage}.json"
        elif stage in _STORED:
            source = composed.output or composed.run or composed.checkpoint or composed.predictions
            yield f"{source}/{stage}.json"
    finally:
        HydraConfig.instance().cfg = before


def _shared(config: DictConfig, place: str, job: Job, keys: Sequence[str]) -> UserError:
    composed = _composed(config, job)
    key, value = "output", "results"
    if composed.stage.name not in _STORED:
        written: Any = OmegaConf.to_container(composed, resolve=False)
        key, value = "name", written["name"]  # with its interpolations
    parts = "_".join(map(_interpolation, keys))
    own = shlex.quote(f"{key}={value}_{parts}")
    return UserError(
        f"this sweep over {', '.join(keys)} has several jobs for {place}, since the {key} does not tell them apart; "
        f"none was started: add {own} (in these quotes)"
    )


def _interpolation(key: str) -> str:
    """How the value of an override's key is written in another value."""
    plain = key.lstrip("+")
    is_group = GlobalHydra.instance().config_loader().get_group_options(plain, ObjectType.CONFIG)
    return f"${{hydra:runtime.choices.{plain}}}" if is_group else f"${{{plain}}}"


def require_one_process() -> None:
    """Refuse a multirun inside torchrun, whose processes would meet again for the second job and cannot.

    Raises:
        UserError: this process is one of several.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "-m (--multirun) does not work inside torchrun: its processes belong to one run; start one torchrun a run, "
            "for S in 0 1 2; do torchrun ... -m atrc_exp ... seed=$S; done, or give every run one GPU of this machine: "
            "python -m atrc_exp -m hydra/launcher=joblib hydra.launcher.n_jobs=8 ... seed=0,1,2"
        )
