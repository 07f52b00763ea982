import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from atrc_exp.engine import checkpoint
from atrc_exp.errors import UserError

CPU = torch.device("cpu")


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_states_survive_a_file(tmp_path: Path) -> None:
    checkpoint.seed_all(3)
    np.random.randn()  # leaves NumPy with a second Gaussian in store
    checkpoint.save(tmp_path / "a.pt", checkpoint.random_states(CPU))
    expected = draws(), np.random.randn()
    checkpoint.seed_all(4)
    checkpoint.set_random_states(checkpoint.load(tmp_path / "a.pt"), CPU)
    assert (draws(), np.random.randn()) == expected


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"iteration": 1})

    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"iteration": 2})
    assert checkpoint.load(path) == {"iteration": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_file_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"last\.pt cannot be read"):
        checkpoint.load(path)


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("unpickled",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"payload": Payload()}, "evil.pt")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(Path("evil.pt"))
    assert not Path("unpickled").exists()
