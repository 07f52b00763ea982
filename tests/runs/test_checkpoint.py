import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from atrc_exp.errors import UserError
from atrc_exp.runs import checkpoint

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


def test_flipped_bit_is_found(tmp_path: Path) -> None:
    """PyTorch itself reads such a file without a word."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"weights": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    position = content.index(bytes(4000)) + 2000
    content[position] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["weights"].any()
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


def test_damaged_file_is_replaced_by_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last = tmp_path / checkpoint.LAST
    assert checkpoint.restore(tmp_path) is None
    for iteration in (10, 20, 30):
        checkpoint.save(last, {"iteration": iteration})
    assert checkpoint.restore(tmp_path) == last and not caplog.records
    last.write_bytes(last.read_bytes()[:100])
    assert checkpoint.restore(tmp_path) == last
    assert "going on from the one before, after 20 iterations" in caplog.text
    assert checkpoint.load(last) == {"iteration": 20}
    checkpoint.save(last, {"iteration": 30})
    assert checkpoint.load(tmp_path / checkpoint.PREVIOUS) == {"iteration": 20}


def test_two_damaged_files_are_an_error(tmp_path: Path) -> None:
    for name in (checkpoint.LAST, checkpoint.PREVIOUS):
        (tmp_path / name).write_bytes(b"not a checkpoint")
    with pytest.raises(UserError) as error:
        checkpoint.restore(tmp_path)
    assert str(error.value).count("delete") == 1 and f"delete {tmp_path}" in str(error.value)
    assert all(name in str(error.value) for name in (checkpoint.LAST, checkpoint.PREVIOUS))


def test_lost_file_is_replaced_by_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for iteration in (10, 20):
        checkpoint.save(tmp_path / checkpoint.LAST, {"iteration": iteration})
    (tmp_path / checkpoint.LAST).unlink()
    assert checkpoint.restore(tmp_path) == tmp_path / checkpoint.LAST
    assert checkpoint.load(tmp_path / checkpoint.LAST) == {"iteration": 10}
    assert "is missing" in caplog.text and "10 iterations" in caplog.text


def test_file_system_without_hard_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    for iteration in (10, 20):
        checkpoint.save(tmp_path / checkpoint.LAST, {"iteration": iteration})
    assert checkpoint.load(tmp_path / checkpoint.PREVIOUS) == {"iteration": 10}
    assert len(list(tmp_path.iterdir())) == 2


def test_exported_weights_hold_tensors_and_facts(tmp_path: Path) -> None:
    weights = {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "b": torch.tensor(3)}
    checkpoint.export(tmp_path / "weights.safetensors", weights, {"name": "preset"})
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"name": "preset"}
        for name, value in weights.items():
            assert torch.equal(file.get_tensor(name), value)
