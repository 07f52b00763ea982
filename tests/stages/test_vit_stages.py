"""The presets on large transformers, shrunk and with random weights: they train, validate and export.

Without drop path: in two steps of two images it would leave out a branch of a block now and then.
"""

import json
import math

import pytest
from small_rooms import as_typed, command

from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage

SHRUNK = {
    "dinov2b": ("embed_dim=32", "num_heads=2", "depth=2"),
    "vitl": ("embed_dim=32", "num_heads=2", "depth=2"),
    "swinl": ("embed_dim=16", "num_heads=[1,1,2,2]", "depths=[1,1,2,1]"),
}


def start(tmp_path, rooms, preset, *overrides):
    options = [f"+backbone.options.{option}" for option in SHRUNK[preset.split("_")[1]]]
    return command(tmp_path, rooms, f"+experiment={preset}", "dataset=rooms", "backbone.weights=random",
                   "backbone.tag=null", "backbone.drop_path=0", "engine.iterations=2", *options,
                   *overrides)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SHRUNK)
def test_presets_train_validate_and_move_every_parameter(tmp_path, rooms, backbone):
    preset = f"nyud_{backbone}_search"
    run_stage(start(tmp_path, rooms, preset, "distillation.channels=8", "tasks=[semseg,depth]"))
    folder = tmp_path / "runs" / preset / "seed0"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "done" and all(math.isfinite(loss) for loss in summary["losses"].values())
    state = checkpoint.load(folder / "checkpoints" / "last.pt")["optimizer"]
    moved = sum(float(entry["exp_avg"].abs().max()) > 0 for entry in state["state"].values())
    assert moved == sum(len(group["params"]) for group in state["param_groups"])


@pytest.mark.slow
def test_a_trained_transformer_is_evaluated_and_exported_as_it_was_validated(tmp_path, rooms):
    pytest.importorskip("onnxruntime")
    run_stage(start(tmp_path, rooms, "nyud_dinov2b_multi_task", "tasks=[depth]", "distillation.channels=8"))
    run = tmp_path / "runs" / "nyud_dinov2b_multi_task" / "seed0"
    run_stage(as_typed("stage=evaluate", f"run={run}", f"output={tmp_path / 'scores'}", "engine.progress=false"))
    trained = json.loads((run / "summary.json").read_text())["losses"]["depth"]
    evaluated = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["losses"]["depth"]
    assert evaluated == pytest.approx(trained, rel=1e-5)
    run_stage(as_typed("stage=export", f"run={run}", f"output={tmp_path / 'onnx'}"))  # compares the outputs itself
    assert (tmp_path / "onnx" / "network.onnx").is_file()
