"""Entry: compose the configuration with Hydra, validate it, hand typed objects to the stage.

Only light modules are imported here, so that `--cfg job`, `--help` and error messages come at once.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from atrc_exp import __version__
from atrc_exp.config import TRAINING_STAGES
from atrc_exp.config.arguments import prepared
from atrc_exp.config.compose import CONF, typed
from atrc_exp.config.help import help_text
from atrc_exp.config.hydra_errors import SLURM_PLUGIN, USER_MISTAKES, explain
from atrc_exp.errors import RankError, UserError, missing_extra
from atrc_exp.files import print_any_text, unwritable
from atrc_exp.models.distillation import DISTILLATIONS
from atrc_exp.processes import launchers, local_sweep
from atrc_exp.runs.configurations import with_stored
from atrc_exp.stages import run_stage

_SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")

OmegaConf.register_new_resolver("atrc_exp_help", lambda: help_text(CONF, DISTILLATIONS), replace=True)


def _fail(error: BaseException) -> None:
    """End the command with one message and exit code 2; HYDRA_FULL_ERROR=1 asks for the traceback."""
    if _SHOW_TRACEBACK:
        raise error
    if _is_main() or isinstance(error, RankError):
        print(f"error: {explain(error)}", file=sys.stderr, flush=True)
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) and _is_main() and not isinstance(error, RankError):
        os.kill(os.getppid(), signal.SIGTERM)  # torchrun would start all ranks again, to the same end
    sys.exit(2)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(composed: DictConfig) -> None:
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        _sweep_job(composed)
        return
    try:
        _run(composed)
    except USER_MISTAKES as error:  # caught here, since Hydra adds lines of its own to what leaves a job
        _fail(error)


def _run(composed: DictConfig) -> None:
    overrides = HydraConfig.get().overrides.task
    run_stage(with_stored(typed(composed, overrides), overrides))


def _sweep_job(composed: DictConfig) -> None:
    """Run one job of a multirun; the workers of a sweep on this machine give it a process of its own."""
    if not local_sweep.is_worker():
        _run_and_record(composed)
        return
    local_sweep.join()
    if local_sweep.noted():
        return
    if composed.stage.name in TRAINING_STAGES:
        import atrc_exp.data.augment  # once for all runs of this worker, since these imports take seconds
        import atrc_exp.stages.training  # noqa: F401

    def run(worker: int) -> None:
        from atrc_exp.processes.ranks import take_gpu

        take_gpu(worker)
        _run_and_record(composed)

    code = local_sweep.run_apart(HydraConfig.get().job.num, run)
    if code and not local_sweep.noted():
        _record(composed, f"its process ended with {local_sweep.describe(code)}")


def _run_and_record(composed: DictConfig) -> None:
    """Run one job of a multirun; a failure is printed at once and recorded, and the other jobs go on.

    A signal ends the sweep: without a record the job counts as one that is still to be done.
    """
    failure = None
    try:
        _run(composed)
    except USER_MISTAKES as error:
        failure = explain(error)
        if isinstance(error, RankError) and not _is_main():
            print(f"error: {failure}", file=sys.stderr)
    except Exception as error:  # a defect of ours must not take the other seeds down either
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    if _is_main():
        _record(composed, failure)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _record(composed: DictConfig, failure: str | None) -> None:
    from atrc_exp.report.sweep import current_sweep, record_job

    number, stage, name = HydraConfig.get().job.num, str(composed.stage.name), str(composed.name)
    runs_dir = os.path.expanduser(composed.runs_dir)
    run_dir = f"{runs_dir}/{name}/seed{composed.seed}"
    if failure:
        print(f"error: job {number} ({run_dir}): {failure}", file=sys.stderr)
    try:
        status = "failed" if failure else "done"
        record_job(runs_dir, current_sweep(), number, run_dir, name, stage, status, failure)
    except OSError as error:  # a full disk must not take the other seeds down either; the sweep misses this record
        print(f"error: job {number}: its record was not written: {error}", file=sys.stderr)


def main() -> None:
    """Run one command of the package."""
    print_any_text()
    if "--version" in sys.argv[1:]:  # Hydra would print its own
        print(f"atrc_exp {__version__}")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own report and exiting
    launchers.register()
    launchers.accept_our_configuration()
    try:
        sys.argv[1:] = prepared(sys.argv[1:])
        _job()
    except USER_MISTAKES as error:
        _fail(error)
    except OSError as error:  # a sweep writes before its jobs do
        explained = unwritable(Path.cwd(), error)
        if explained is error:
            raise
        _fail(explained)
    except KeyboardInterrupt:  # before the run, or in a stage that has nothing to save
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if number := local_sweep.noted():  # workers that were about to start have met the signal themselves
            sys.exit(128 + number)
        if "hydra_submitit_launcher" in str(error):  # Hydra knows no such plugin
            _fail(missing_extra("hydra/launcher=submitit_slurm", [SLURM_PLUGIN], "slurm"))
        if not str(error).startswith("Only one of --"):  # Hydra's, of options such as --cfg beside --multirun
            raise
        _fail(UserError(f"{error}; without -m the configuration of one job is shown"))


if __name__ == "__main__":
    main()
