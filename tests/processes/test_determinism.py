import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch

from atrc_exp.processes.determinism import NondeterministicOperations
from atrc_exp.training import step


@pytest.fixture(autouse=True)
def reset() -> None:
    yield
    torch.use_deterministic_algorithms(False)


def nondeterministic() -> None:
    torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_operations_are_listed_and_other_warnings_shown() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning) as shown, NondeterministicOperations() as operations:
        for _ in range(2):
            nondeterministic()
        warnings.warn("something else")
    assert operations.names == ["put_"]
    assert [str(warning.message) for warning in shown] == ["something else"]


def test_they_stand_in_the_record_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = step._update

    def with_put(*arguments: object) -> None:
        nondeterministic()
        update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "_update", with_put)
    config = tiny.config(tmp_path, kind="atrc", iterations=2, deterministic=True)
    tiny.run_training(config)
    [start] = json.loads((tiny.folder(config) / "environment.json").read_text())["starts"]
    assert start["nondeterministic"] == ["put_"]
    plain = replace(config, name="plain", engine=replace(config.engine, deterministic=False))
    tiny.run_training(plain)
    [start] = json.loads((tiny.folder(plain) / "environment.json").read_text())["starts"]
    assert "nondeterministic" not in start
