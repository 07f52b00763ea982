"""Entry: compose the configuration with Hydra, validate it, hand typed objects to the stage.

Only light modules are imported here, so that `--cfg job`, `--help` and error messages come at once.
"""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from atrc_exp.config import Config
from atrc_exp.messages import USER_MISTAKES, explain
from atrc_exp.stages import run_stage

_PACKAGE = Path(__file__).resolve().parent
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (path / "config.yaml").is_file())

_SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")

ConfigStore.instance().store(name="schema", node=Config)


def typed(composed: DictConfig) -> Config:
    """Turn a composed configuration into checked objects.

    The merge into a fresh schema finds keys that `+key=value` added past it.
    """
    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    checked = OmegaConf.merge(OmegaConf.structured(Config), values)
    config = OmegaConf.to_object(checked)
    assert isinstance(config, Config)
    return config


def _fail(error: BaseException) -> None:
    """End the command with one message and exit code 2; HYDRA_FULL_ERROR=1 asks for the traceback."""
    if _SHOW_TRACEBACK:
        raise error
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {explain(error)}", file=sys.stderr)
    sys.exit(2)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(composed: DictConfig) -> None:
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        from atrc_exp.report.sweep import run_job

        run_job(typed, composed, run_stage)
        return
    try:
        run_stage(typed(composed))
    except USER_MISTAKES as error:  # caught here, since Hydra adds lines of its own to what leaves a job
        _fail(error)


def main() -> None:
    """Run one command of the package."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own report and exiting
    try:
        _job()
    except USER_MISTAKES as error:
        _fail(error)


if __name__ == "__main__":
    main()
