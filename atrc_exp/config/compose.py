"""From overrides to a checked configuration: where `conf/` is, how it is composed, and how it gets its types."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from atrc_exp.config import Config
from atrc_exp.config.checks import with_home
from atrc_exp.config.keys import require_used

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (path / "config.yaml").is_file())
"""Inside the package where it is installed from a wheel, beside it in a checkout."""

ConfigStore.instance().store(name="schema", node=Config)


def typed(composed: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """Turn a composed configuration into checked objects.

    The merge into a fresh schema finds keys that `+key=value` added past it. A benchmark keeps the overrides, since its
    other configurations build on them.

    Args:
        overrides: those of the command, each of which its stage has to use.

    Raises:
        UserError: a value that is not allowed, or a key that the stage does not use.
    """
    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    assert isinstance(config, Config)
    config = with_home(config)
    require_used(config, overrides)
    if config.stage.name == "benchmark":
        return replace(config, benchmark=replace(config.benchmark, overrides=list(overrides)))
    return config


def composed(overrides: Sequence[str]) -> Config:
    """The configuration that these overrides make, whether or not its stage uses all of them.

    Raises:
        UserError: a value that is not allowed.
        HydraException: what cannot be composed.
    """
    if GlobalHydra.instance().is_initialized():  # inside a command
        return typed(compose("config", overrides=list(overrides)))
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return typed(compose("config", overrides=list(overrides)))
