"""Launchers of multiruns that take the place of the plugins' own: a job that dies ends no sweep.

Hydra takes launchers only from the package `hydra_plugins`. These extend the ones there, and are registered under their
names, so that `hydra/launcher=joblib` and `hydra/launcher=submitit_slurm` mean them.
"""

import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, filter_overrides
from hydra_plugins.hydra_joblib_launcher import joblib_launcher

from atrc_exp.errors import UserError
from atrc_exp.processes import local_sweep, slurm

try:
    from hydra_plugins.hydra_submitit_launcher import config, submitit_launcher
except ImportError:  # the extra `slurm` is not installed
    submitit_launcher = None

_PAUSES = (2.0, 60.0)  # seconds between questions to Slurm's controller: at first, and of long jobs


def register() -> None:
    """Put the launchers of this module in the place of the plugins'."""
    launchers = {joblib_launcher: JoblibLauncher}
    if submitit_launcher is not None:
        launchers[submitit_launcher] = SlurmLauncher
    for module, launcher in launchers.items():
        Plugins.instance().class_name_to_class[f"{module.__name__}.{launcher.__name__}"] = launcher


def accept_our_configuration() -> None:
    """Silence Hydra: conf/hydra/launcher/submitit_slurm.yaml is complete; that the plugin has a schema is no matter."""
    warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/submitit_slurm' is validated against")


class JoblibLauncher(joblib_launcher.JoblibLauncher):
    """Several jobs at once on this machine, see `local_sweep`."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs. Each job writes its outcome to its record, and nothing is returned."""
        from joblib.externals.loky import process_executor

        process_executor.kill_process_tree = local_sweep.end_worker  # its own kills the runs below the workers as well
        try:
            return super().launch(job_overrides, initial_job_idx)
        except process_executor.TerminatedWorkerError:  # the worker itself: a run that is killed does not get here
            print("a worker process was killed, and joblib ends the others; running jobs save and end", file=sys.stderr)
            local_sweep.wait_for_workers()
            return []


if submitit_launcher is not None:

    class SlurmLauncher(submitit_launcher.SlurmLauncher):
        """Makes one Slurm job of each run, by submitit. If a job has several tasks, they are the ranks of its run."""

        def __call__(self, *job: Any) -> JobReturn:
            """Run one job, in its process on the cluster."""
            import submitit

            accept_our_configuration()
            if submitit.JobEnvironment().num_tasks > 1:
                submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            return super().__call__(*job)

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Submit all jobs and wait until each has left a result, or Slurm no longer knows it.

            Raises:
                UserError: Slurm does not take the jobs.
            """
            from hydra.core.singleton import Singleton

            shared = set.intersection(*map(set, job_overrides))
            names = [" ".join(one for one in filter_overrides(job) if one not in shared) for job in job_overrides]
            arguments = [
                (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
                for number, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
            jobs = self._submit(arguments)
            for name, job in zip(names, jobs, strict=True):
                print(f"job {job.job_id} ({name or 'the only one'}), log: {job.paths.stdout}")
            print("This command waits for the jobs, and votes or writes the table when all have ended.", flush=True)
            try:
                _wait(jobs)
            except KeyboardInterrupt:
                self._tell_how_to_go_on(jobs)
                raise
            return []

        def _submit(self, arguments: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
            """Submit one job for each tuple of arguments of `__call__`."""
            import submitit

            if shutil.which("srun") is None:
                raise UserError(
                    "hydra/launcher=submitit_slurm: there is no srun on this machine; start the sweep where Slurm is, "
                    "or use hydra/launcher=joblib"
                )
            common = set(config.BaseQueueConf.__dataclass_fields__)
            settings = dict(self.params)
            folder, retries = settings.pop("submitit_folder"), settings.pop("max_num_timeout")
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=retries)
            executor.update_parameters(
                **{key if key in common else f"slurm_{key}": value for key, value in settings.items()},
                slurm_srun_args=["--export=ALL"],  # what submitit sets in its script, also under SBATCH_EXPORT=NONE
            )
            try:
                return executor.map_array(self, *zip(*arguments, strict=True))
            except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedSubmissionError) as error:
                raise UserError(_refusal(str(error), len(arguments))) from error

        def _tell_how_to_go_on(self, jobs: Sequence[Any]) -> None:
            assert self.config is not None
            folder = Path(self.config.runs_dir) / self.config.name
            ids = " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))
            print(
                f"\nthe jobs go on without this command; `scancel {ids}` ends them. When they have ended, the same "
                "command again votes or writes the table, and so do, without a job, "
                f"`python -m atrc_exp.report.votes {folder}` and `python -m atrc_exp.report {folder}`",
                file=sys.stderr,
            )


def _wait(jobs: Sequence[Any]) -> None:
    """Wait for submitit's jobs and say which of them have ended without a result."""
    left, missed = list(jobs), set[str]()
    pause, asked = _PAUSES[0], time.monotonic()
    while left := [job for job in left if not _has_result(job)]:
        time.sleep(1)
        if time.monotonic() < asked + pause:
            continue
        states = slurm.states()
        pause, asked = min(pause * 1.5, _PAUSES[1]), time.monotonic()
        if states is None:  # the controller is down: it starts again, or somebody presses Ctrl-C
            continue
        ended = {job.job_id for job in left if slurm.over(states.get(job.job_id))}
        for job in left:
            if job.job_id in ended & missed:  # at the second look, since a job that is queued again ends for a moment
                state = states.get(job.job_id, "it is gone from the queue").lower()
                print(f"job {job.job_id} left no result: {state}; log: {job.paths.stdout}", file=sys.stderr)
        left = [job for job in left if job.job_id not in ended & missed]
        missed = ended


def _has_result(job: Any) -> bool:
    path = job.paths.result_pickle
    try:
        return path.name in os.listdir(path.parent)  # NFS looks again for a listing, not for one name
    except OSError:
        return False


def _refusal(text: str, count: int) -> str:
    """Extract the reason from what sbatch has printed."""
    lines = [line.split("error: ", 1)[1] for line in text.splitlines() if "error: " in line]
    reason = "; ".join(dict.fromkeys(lines)) or text
    advice = " (`scontrol show config` tells its MaxArraySize; give fewer at a time)" if "array" in reason else ""
    return f"Slurm does not take the {count} jobs: {reason}{advice}"
