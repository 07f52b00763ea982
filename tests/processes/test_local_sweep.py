"""Runs below a worker of a sweep: how they end is told, and ends nothing else."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from atrc_exp.processes import local_sweep, orphans


@pytest.mark.parametrize(("number", "text"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "SIGTERM")])
def test_killed_run_is_told_by_its_signal(number: signal.Signals, text: str) -> None:
    code = local_sweep.run_apart(0, lambda worker: os.kill(os.getpid(), number))
    assert code == -number and text in local_sweep.describe(code)


def test_exit_code_of_a_run_is_told() -> None:
    code = local_sweep.run_apart(0, lambda worker: sys.exit(143))
    assert code == 143 and "143" in local_sweep.describe(code)
    assert local_sweep.run_apart(0, lambda worker: None) == 0


def test_worker_keeps_the_number_of_its_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sweep, "_first", None)
    assert [local_sweep.run_apart(number, sys.exit) for number in (3, 4)] == [3, 3]


def test_run_needs_its_worker() -> None:
    def look(worker: int) -> None:
        parent, os.getppid = os.getppid(), lambda: 1  # type: ignore[assignment]
        sys.exit(7 if orphans.orphaned() and parent != 1 else 8)

    assert local_sweep.run_apart(0, look) == 7
    assert not orphans.orphaned(), "this process depends on none"


def test_run_that_has_lost_its_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(local_sweep.NOTE_VARIABLE, str(tmp_path / "signal"))
    runs, go, saved = (tmp_path / name for name in ("runs", "go", "saved"))

    def run(worker: int) -> None:
        runs.touch()
        while not (go.exists() and orphans.orphaned()):
            time.sleep(0.01)
        saved.touch()

    def work() -> None:
        local_sweep.join()
        local_sweep.run_apart(0, run)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    while not runs.exists() and worker.is_alive():
        time.sleep(0.01)
    local_sweep.end_worker(worker)
    assert worker.exitcode == -signal.SIGKILL
    threading.Timer(0.3, go.touch).start()
    local_sweep.wait_for_workers()
    assert saved.exists()
