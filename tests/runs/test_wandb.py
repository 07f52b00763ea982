"""W&B behind a stand-in, and once for real in offline mode."""

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_rooms

from atrc_exp.config import Config, LoggerConfig, StageConfig
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.runs.logging import Logger
from atrc_exp.runs.logging import wandb as logger


class FakeWandb(ModuleType):
    """Records what is asked of it; `server` says how an online start goes."""

    Settings = SimpleNamespace

    class Error(Exception): ...

    def __init__(self, key: bool = True, server: bool = True) -> None:
        super().__init__("wandb")
        self.key, self.server = key, server
        self.errors = SimpleNamespace(Error=self.Error)
        self.starts: list[dict[str, Any]] = []
        self.finished: list[int | str] = []
        self.facts: dict[str, Any] = {}

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt, "a prompt would hang a job"
        return self.key

    def init(self, **settings: Any) -> Any:
        self.starts.append(settings)
        if settings["mode"] == "online" and not self.server:
            raise self.Error("no server")
        return SimpleNamespace(
            finish=lambda exit_code: self.finished.append(exit_code),
            mark_preempting=lambda: self.finished.append("preempting"),
            config=SimpleNamespace(update=lambda facts, allow_val_change: self.facts.update(facts)),
        )


def config(mode: str) -> Config:
    return Config(name="preset", seed=3, dataset=small_rooms.dataset(), stage=StageConfig(name="search"),
                  logger=LoggerConfig(mode=mode, tags=["x"]))  # fmt: skip


def start(monkeypatch: pytest.MonkeyPatch, wandb: ModuleType | None, mode: str) -> Any:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return logger.start(config(mode), Path("folder"), "abcd1234")


def test_identity_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    run = start(monkeypatch, wandb, "online")
    [given] = wandb.starts
    expected = {"group": "preset", "job_type": "search", "name": "seed3", "tags": ["x"], "dir": "folder",
                "id": "abcd1234", "mode": "online", "resume": "allow"}  # fmt: skip
    assert given.items() >= expected.items()
    assert given["config"]["engine"]["iterations"] == 40_000 and given["settings"].init_timeout <= 60
    run.close(1)
    assert wandb.finished == [1]


def test_facts_join_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    start(monkeypatch, wandb, "offline").note({"local_attention": ["cuda"]})
    assert wandb.facts == {"local_attention": ["cuda"]}


def stopped_by(error: BaseException, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[int | str]:
    """What W&B is told at the end of a run that an exception ends."""
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with (
        pytest.raises(type(error)),
        Logger(config("offline"), folder, "abcd1234", (), iteration=0, is_main=True),
    ):
        raise error
    return wandb.finished


def test_end_by_a_signal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scheduler will start the run again, a person may not."""
    assert stopped_by(Interrupted(signal.SIGTERM), monkeypatch, tmp_path) == ["preempting", 143]
    assert stopped_by(Interrupted(signal.SIGUSR1), monkeypatch, tmp_path) == ["preempting", 138]
    assert stopped_by(Interrupted(signal.SIGINT), monkeypatch, tmp_path) == [130]
    assert stopped_by(ValueError(), monkeypatch, tmp_path) == [1]
    assert "stopped: SIGTERM; the same command goes on" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize("wandb", [FakeWandb(key=False), FakeWandb(server=False)])
def test_online_without_key_or_server_goes_on_offline(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wandb: FakeWandb
) -> None:
    assert start(monkeypatch, wandb, "online") is not None
    assert wandb.starts[-1]["mode"] == "offline"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_missing_package_is_one_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert start(monkeypatch, None, "offline") is None
    assert "not installed" in caplog.text and len(caplog.records) == 1


def test_disabled_does_not_import(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert start(monkeypatch, None, "disabled") is None
    assert not caplog.records


@pytest.mark.slow
def test_offline_run_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = logger.start(config("offline"), tmp_path, "abcd1234")
    assert run is not None
    (tmp_path / "genotype.json").write_text("{}")
    run.record({"step": 5, "kind": "search", "entropy": 0.25, "probabilities": {"depth": {"edge": {"local": 0.75}}}})
    run.note({"local_attention": ["torch"]})
    run.note({"local_attention": ["cpu-compiled", "torch"]})  # another form has run since
    run.image(5, "genotype", np.zeros((4, 4, 3), dtype=np.uint8))
    run.artifact(tmp_path / "genotype.json", "genotype", "a/preset-seed3-genotype")  # a name with a sub-folder
    run.close(0)
    [folder] = (tmp_path / "wandb").glob("offline-run-*-abcd1234")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(folder)]
    found = json.dumps(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert "search/probabilities/depth/edge/local" in found and "0.75" in found and "preset" in found
