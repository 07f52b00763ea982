"""Waiting for jobs that leave a result, are queued again, or die; and what a launcher says when it cannot start."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.plugins import Plugins

from atrc_exp.errors import UserError
from atrc_exp.processes import launchers, local_sweep, slurm

pytest.importorskip("submitit", reason="the extra slurm is not installed")


def job(folder: Path, name: str) -> SimpleNamespace:
    """What is looked at of submitit's jobs."""
    return SimpleNamespace(
        job_id=name, paths=SimpleNamespace(result_pickle=folder / f"{name}.pkl", stdout=f"{name}.out")
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """What Slurm says at each question, one a turn; time passes at once."""
    answers: list = []
    now = [0.0]
    monkeypatch.setattr(launchers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(launchers.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 100))
    monkeypatch.setattr(slurm, "states", lambda: answers.pop(0))
    yield answers
    assert not answers, "it asked too seldom"


def test_dead_job_is_given_up_and_a_result_is_waited_for(tmp_path: Path, told: list, capsys) -> None:
    jobs = [job(tmp_path, name) for name in ("1_0", "1_1", "1_2")]
    jobs[0].paths.result_pickle.touch()
    told += [
        {"1_0": "COMPLETED", "1_1": "CANCELLED", "1_2": "RUNNING"},
        None,  # the controller is down for a while
        {"1_1": "CANCELLED", "1_2": "PREEMPTED"},
        {"1_2": "PENDING"},  # queued again
        {"1_2": "COMPLETED"},
        {},
    ]
    launchers._wait(jobs)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "1_1" in lines[0] and "cancelled" in lines[0] and "1_1.out" in lines[0]
    assert "1_2" in lines[1], "over, and without a result"


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"])
def test_states_of_jobs_that_may_still_come_to_something(state: str) -> None:
    assert not slurm.over(state)


def test_machine_without_slurm_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"no srun .*joblib"):
        launchers.SlurmLauncher(submitit_folder=str(tmp_path), max_num_timeout=0)._submit([])


def test_reason_of_a_refusal_is_slurms() -> None:
    text = (
        "subprocess.CalledProcessError: Command failed\nsbatch: error: invalid partition specified: gpu\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    )
    assert launchers._refusal(text, 5).count("invalid partition specified: gpu") == 1
    assert "MaxArraySize" in launchers._refusal("sbatch: error: Invalid job array specification", 5000)


def test_killed_worker_ends_the_sweep_but_not_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """With joblib's own workers: what is below one goes on after another has been killed."""
    from joblib.externals.loky import ProcessPoolExecutor, process_executor

    workers = ProcessPoolExecutor(2)

    def launch(*_: object) -> None:
        workers.submit(os.system, f"cd '{tmp_path}'; touch runs; until [ -e go ]; do sleep 0.05; done; touch saved")
        wait_for(tmp_path / "runs")
        workers.submit(signal.raise_signal, signal.SIGKILL).result()

    monkeypatch.setattr(process_executor, "kill_process_tree", process_executor.kill_process_tree)
    monkeypatch.setattr(launchers.JoblibLauncher.__base__, "launch", launch)
    monkeypatch.setenv(local_sweep.NOTE_VARIABLE, str(tmp_path / "signal"))
    assert launchers.JoblibLauncher().launch([["seed=0"]], 0) == []
    assert "worker" in capsys.readouterr().err
    workers.shutdown()
    (tmp_path / "go").touch()
    wait_for(tmp_path / "saved")


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


def test_launchers_take_the_place_of_the_plugins() -> None:
    launchers.register()
    known = Plugins.instance().class_name_to_class
    for name in ("hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
                 "hydra_submitit_launcher.submitit_launcher.SlurmLauncher"):  # fmt: skip
        assert known[f"hydra_plugins.{name}"].__module__ == launchers.__name__
