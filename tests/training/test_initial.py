"""Weights of another network by name: what is taken, what may have another shape, and what is refused."""

import hashlib
import logging
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor

from atrc_exp.errors import UserError
from atrc_exp.models.network import Network
from atrc_exp.runs import checkpoint
from atrc_exp.training.initial import initialise, report

PREDICTOR = ("predictors.semseg.weight", "predictors.semseg.bias")


def network(tmp_path: Path, seed: int, kind: str = "atrc") -> Network:
    return tiny.network(tiny.config(tmp_path, kind=kind, seed_of_run=seed))


def weights(tmp_path: Path, seed: int = 1, kind: str = "atrc") -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network(tmp_path, seed, kind).state_dict().items()}


def saved(path: Path, content: dict[str, Tensor] | bytes) -> Path:
    path.write_bytes(content) if isinstance(content, bytes) else save_file(content, path)
    return path


def test_all_weights_are_taken_from_a_file_and_from_a_checkpoint(tmp_path: Path) -> None:
    given = weights(tmp_path)
    checkpoint.save(tmp_path / "checkpoints" / "last.pt", {"version": 1, "network": given})
    for source in (saved(tmp_path / "a.safetensors", given), tmp_path / "checkpoints" / "last.pt", tmp_path):
        built = network(tmp_path, 2)
        record = initialise(built, str(source))
        assert all(torch.equal(value, given[name]) for name, value in built.state_dict().items())
        assert record["loaded"] == record["tensors"] == len(given)
        assert record["sha256"] == hashlib.sha256(Path(record["file"]).read_bytes()).hexdigest()


def test_another_number_of_classes_leaves_the_last_layers_as_they_were(tmp_path: Path, caplog) -> None:
    given, before = weights(tmp_path), weights(tmp_path, 2)
    last = [name for name in given if name.startswith("aux_heads.semseg.") and given[name].shape[:1] == (tiny.CLASSES,)]
    for name in (*PREDICTOR, *last):
        given[name] = torch.ones(tiny.CLASSES + 4, *given[name].shape[1:])
    built = network(tmp_path, 2)
    record = initialise(built, str(saved(tmp_path / "a.safetensors", given)))
    assert len(last) == 2 and set(record["resized"]) == {*PREDICTOR, *last}
    for name, value in built.state_dict().items():
        assert torch.equal(value, before[name] if name in record["resized"] else given[name]), name
    with caplog.at_level(logging.INFO, logger="atrc_exp"):
        report(record)
    assert all(name in caplog.text for name in (*record["resized"], record["sha256"]))


def test_what_one_of_the_two_does_not_have_is_counted_by_part(tmp_path: Path, caplog) -> None:
    given = weights(tmp_path)
    for name in [name for name in given if name.startswith(("distillation.", "heads.depth."))]:
        del given[name]
    given["heads.sal.0.weight"] = torch.zeros(1)
    record = initialise(network(tmp_path, 2), str(saved(tmp_path / "a.safetensors", given)))
    assert {part.split(".")[0] for part in record["missing"]} == {"distillation", "heads"}
    assert record["unused"] == {"heads.sal": 1} and record["loaded"] == len(given) - 1
    with caplog.at_level(logging.INFO, logger="atrc_exp"):
        report(record)
    assert "heads.sal (1)" in caplog.text and "heads.depth" in caplog.text


def test_the_state_of_a_search_is_no_weight(tmp_path: Path) -> None:
    given = weights(tmp_path, kind="search")
    given["distillation.frozen"][:] = 0
    given["distillation.arch"][:] = 7
    built = network(tmp_path, 2, "search")
    initialise(built, str(saved(tmp_path / "a.safetensors", given)))
    assert built.search is not None and int(built.search.frozen.max()) == -1 and not (built.search.arch == 7).any()


def test_what_is_not_weights_of_this_network_is_one_message_and_changes_nothing(tmp_path: Path) -> None:
    given = weights(tmp_path)
    convolution = next(name for name in given if name.startswith("heads.depth.") and given[name].dim() == 4)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    whole = saved(tmp_path / "whole.safetensors", given).read_bytes()
    (tmp_path / "empty").mkdir()
    cases = {
        tmp_path / "nowhere": "does not exist",
        tmp_path / "empty": "holds neither",
        saved(tmp_path / "cut.safetensors", whole[:1000]): "damaged",
        saved(tmp_path / "text.pt", b"no checkpoint"): "damaged",
        tmp_path / "list.pt": "no weights by name",
        tmp_path / "number.pt": "no weights by name",
        saved(tmp_path / "nan.safetensors", {**given, PREDICTOR[1]: given[PREDICTOR[1]] * float("nan")}): "NaN",
        saved(tmp_path / "other.safetensors", {n: v for n, v in given.items() if not n.startswith("backbone.")}):
            "another network: backbone.",
        saved(tmp_path / "wider.safetensors", {**given, convolution: torch.zeros(3, 3)}):
            f"{convolution} has shape (3, 3) instead of",
    }  # fmt: skip
    built, before = network(tmp_path, 2), weights(tmp_path, 2)
    for source, part in cases.items():
        with pytest.raises(UserError) as caught:
            initialise(built, str(source))
        assert part in str(caught.value) and f"init={source}" in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
