"""Signals: a checkpoint at the next step boundary, the exit code of the signal, and a resume that shows no seam."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line as cli
import pytest
import tiny_engine as tiny
import torch

from atrc_exp.evaluation.evaluate import FirstImages
from atrc_exp.processes import orphans
from atrc_exp.processes.interrupt import Interrupted, Interruption
from atrc_exp.processes.ranks import Ranks


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def hook(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, call: int, action: Any) -> None:
    """Do something at the n-th call of a function."""
    function, calls = getattr(holder, name), 0

    def hooked(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            action()
        return function(*arguments, **options)

    monkeypatch.setattr(holder, name, hooked)


def send(number: signal.Signals) -> Any:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)]
)
def test_signal_in_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int) -> None:
    from atrc_exp.training import step

    before = signal.getsignal(number)
    whole, cut = (tiny.config(tmp_path / name, checkpoint_every=100) for name in ("whole", "cut"))
    tiny.run_training(whole)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stop:
        hook(patch, step, "_update", 5, send(number))
        tiny.run_training(cut)
    assert stop.value.code == code and signal.getsignal(number) is before
    assert cli.last(tiny.folder(cut))["iteration"] == 5
    status = json.loads((tiny.folder(cut) / "status.json").read_text())
    assert status["status"] == "interrupted" and number.name in status["error"]
    tiny.run_training(cut)
    assert cli.records(tiny.folder(cut)) == cli.records(tiny.folder(whole))
    assert cli.same(cli.last(tiny.folder(cut)), cli.last(tiny.folder(whole)))


def test_signal_in_a_validation_does_not_wait_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = (tiny.config(tmp_path / name, checkpoint_every=100) for name in ("whole", "cut"))
    tiny.run_training(whole)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        hook(patch, FirstImages, "__call__", 3, send(signal.SIGTERM))
        tiny.run_training(cut)
    assert cli.last(tiny.folder(cut))["iteration"] == 6
    assert cli.records(tiny.folder(cut), "val") == []
    tiny.run_training(cut)
    assert cli.records(tiny.folder(cut)) == cli.records(tiny.folder(whole))


def test_handler_of_a_scheduler_is_called_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As submitit's, which queues the job again and leaves with a code of its own."""
    from atrc_exp.training import step

    config, seen = tiny.config(tmp_path, checkpoint_every=100), []

    def queue_again(number: int, frame: object) -> None:
        seen.append(cli.last(tiny.folder(config))["iteration"])
        raise SystemExit(144)

    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
            hook(patch, step, "_update", 5, send(signal.SIGUSR2))
            tiny.run_training(config)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [5] and stop.value.code == 144
    status = json.loads((tiny.folder(config) / "status.json").read_text())
    assert status["status"] == "interrupted" and "SIGUSR2" in status["error"]


def test_without_a_scheduler_its_signal_is_left_alone() -> None:
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
    with Interruption(Ranks()):
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_later_signal_replaces_an_earlier_one() -> None:
    with Interruption(Ranks()) as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interruption.agreed() == signal.SIGUSR1


def test_second_ctrl_c_leaves_at_once() -> None:
    program = (
        "import os, signal; from atrc_exp.processes.ranks import Ranks;"
        "from atrc_exp.processes.interrupt import Interruption\n"
        "with Interruption(Ranks()):\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT and "still here" not in done.stdout
    assert "Ctrl-C again leaves at once" in done.stderr


def test_process_that_needs_its_parent_stops_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 77)
    with Interruption(Ranks()) as alone:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert alone.agreed() == 0  # nohup: a run of its own goes on when the shell ends
    monkeypatch.setattr(orphans, "_needed", 77)
    with Interruption(Ranks()) as rank:
        monkeypatch.setattr(os, "getppid", lambda: 77)
        assert rank.agreed() == 0
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert rank.agreed() == signal.SIGTERM


def test_hang_up_is_ignored_where_it_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup starts commands so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption(Ranks()) as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.agreed() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_terminal_that_hangs_up_takes_no_output_and_does_not_end_the_run() -> None:
    """The last write to it would fail, after the checkpoint, and hide the exit code of the signal."""
    program = (
        "import signal, sys; from atrc_exp.processes.ranks import Ranks;"
        "from atrc_exp.processes.interrupt import Interrupted, Interruption\n"
        "with Interruption(Ranks()) as interruption:\n"
        "    print('ready', flush=True)\n"
        "    while not interruption.agreed(): pass\n"
        "    print('this has no terminal to go to', flush=True)\n"
        "    raise Interrupted(interruption.agreed())"
    )
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    while b"ready" not in os.read(terminal, 1000):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129


@pytest.mark.parametrize(
    ("told", "queued"),
    [
        ("PreemptTime=None", False),
        ("PreemptTime=2026-11-28T22:31:46", True),
        ("PreemptTime=(null)", False),
        ("", False),
    ],
)
def test_preempted_job_is_queued_again_and_a_cancelled_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, queued: bool
) -> None:
    """Slurm sends SIGTERM to both; only what it says of the job tells them apart."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho '   PreemptEligibleTime=2026-11-28T22:31:00 {told}'\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    asked = []
    before = signal.signal(signal.SIGUSR2, lambda *_: asked.append(True))
    terminate = signal.signal(signal.SIGTERM, lambda *_: None)  # submitit's, which only writes a line
    try:
        with pytest.raises(Interrupted), Interruption(Ranks()) as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
            raise Interrupted(interruption.agreed())
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.signal(signal.SIGTERM, terminate)
    assert bool(asked) == queued
