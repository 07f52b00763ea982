"""`init`: what a new run takes over from the weights of another one, what it says of the rest, and what it refuses."""

import hashlib
import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_rooms import QUICK, command

from atrc_exp.errors import UserError
from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage, training
from atrc_exp.training import initial


def start(tmp_path, rooms, source, *overrides, preset="multi_task"):
    """Train one step without a change of the weights, so that the run's weights are those that it started from."""
    still = ("optim.lr=1e-30", "optim.weight_decay=0", f"init={source}")
    config = command(tmp_path, rooms, f"+experiment=rooms_hrnet18_{preset}", *QUICK, *still, *overrides)
    run_stage(config)
    return tmp_path / "runs" / config.name / "seed0"


def trained(folder):
    """Weights without the statistics of batch norms, which one step moves."""
    weights = load_file(folder / "weights.safetensors")
    return {name: value for name, value in weights.items() if "running_" not in name and "num_batches" not in name}


def same(before, after, names):
    """Whether weights are equal but for the step that was taken, which changes zeros to 1e-30 or so."""
    return all(torch.allclose(before[name].float(), after[name].float(), rtol=0, atol=1e-20) for name in names)


def recorded(folder):
    return json.loads((folder / "environment.json").read_text())["init"]


def refused(*arguments, **options):
    with pytest.raises(UserError) as caught:
        start(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_starts_from_another_ones_weights_and_says_where_they_come_from(tmp_path, rooms, finished_run):
    folder = start(tmp_path, rooms, finished_run)
    before, after = trained(finished_run), trained(folder)
    assert before.keys() == after.keys() and same(before, after, before)
    file, record = finished_run / "checkpoints" / "last.pt", recorded(folder)
    assert record["file"] == str(file) and record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["loaded"] == record["tensors"] and not any(record[key] for key in ("resized", "missing", "unused"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["init"] == {"file": str(file), "sha256": record["sha256"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "overrides", "missing"),
    [
        ("single_task", ("tasks=[depth]",), set()),
        ("search", (), {"distillation", "aux_heads"}),
        ("atrc", ("+genotype_blocks.depth.semseg=tlabel",), {"distillation", "aux_heads"}),
    ],
)
def test_other_networks_take_what_they_share_and_name_the_rest(
    tmp_path, rooms, finished_run, caplog, preset, overrides, missing
):
    with caplog.at_level(logging.INFO, logger="atrc_exp"):
        folder = start(tmp_path, rooms, finished_run / "weights.safetensors", *overrides, preset=preset)
    before, after, record = trained(finished_run), trained(folder), recorded(folder)
    shared = before.keys() & after.keys()
    assert {name.split(".")[0] for name in shared} == {"backbone", "heads", "predictors"}
    assert same(before, after, shared)
    assert {part.split(".")[0] for part in record["missing"]} == missing
    assert all(part in caplog.text for part in (*record["missing"], *record["unused"]))
    assert ("heads.semseg" in record["unused"]) == (preset == "single_task")


@pytest.mark.slow
def test_a_search_starts_with_open_blocks(tmp_path, rooms):
    first = start(tmp_path, rooms, "null", preset="search")
    state = checkpoint.load(first / "checkpoints" / "last.pt")
    state["network"]["distillation.frozen"][:] = 0
    state["network"]["distillation.arch"][:, 1] = 5
    checkpoint.save(tmp_path / "frozen.pt", state)
    second = start(tmp_path, rooms, tmp_path / "frozen.pt", "name=second", preset="search")
    weights = load_file(second / "weights.safetensors")
    assert int(weights["distillation.frozen"].max()) == -1 and float(weights["distillation.arch"].abs().max()) < 1
    before, after = state["network"], trained(second)
    assert same(before, after, [name for name in after if name not in initial.ARCHITECTURE])


@pytest.mark.slow
def test_a_resumed_run_does_not_look_at_it_again_and_it_counts_on_resume(tmp_path, rooms, finished_run, monkeypatch):
    source = shutil.copytree(finished_run, tmp_path / "source")
    folder = start(tmp_path, rooms, source)
    record = recorded(folder)
    (folder / "summary.json").unlink()
    shutil.rmtree(source)
    monkeypatch.setattr(training, "initialise", None)
    start(tmp_path, rooms, source)
    assert recorded(folder) == record
    assert json.loads((folder / "summary.json").read_text())["init"]["sha256"] == record["sha256"]
    assert "init: " in refused(tmp_path, rooms, "null")
