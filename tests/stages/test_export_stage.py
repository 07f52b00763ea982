"""`stage=export` on finished runs of every kind, and what it refuses."""

import json
import shutil

import pytest
import torch
from small_rooms import QUICK, SIZE, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.stages import export as stage
from atrc_exp.stages import run_stage

FILES = {"network.pt2", "network.onnx", "export.json"}
SMALL = ("backbone=timm", "backbone.name=mobilenetv3_small_050", "backbone.weights=random")
KINDS = ("atrc", "mti_net", "pap", "psd")  # what is made of other operations than convolutions


@pytest.fixture(autouse=True)
def _packages():
    for name in stage.PACKAGES:
        pytest.importorskip(name)


def export(run, *overrides):
    run_stage(as_typed("stage=export", f"run={run}", *overrides))


@pytest.mark.slow
def test_a_finished_run_is_exported_beside_its_weights(tmp_path, finished_run, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    export(run, "export.size=[40,64]")
    assert {path.name for path in run.iterdir()} - {path.name for path in finished_run.iterdir()} == FILES
    record = json.loads((run / "export.json").read_text())
    assert record["input"]["shape"] == ["batch", 3, 40, 64] and record["iteration"] == 3
    assert {task: row["channels"] for task, row in record["outputs"].items()} == {
        "semseg": 40, "depth": 1, "normals": 3, "edge": 1}  # fmt: skip
    assert all(value < 1e-4 for row in record["differences"].values() for value in row.values())
    printed = capsys.readouterr().out
    assert f"{run / 'network.pt2'}: largest difference" in printed and "network.onnx: largest difference" in printed
    outputs = torch.export.load(run / "network.pt2").module()(torch.randn(4, 3, 40, 64))
    assert outputs["normals"].shape == (4, 3, 40, 64)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_modules_of_other_operations_are_exported(tmp_path, rooms, kind):
    extra = ["genotype=published/nyud_hrnet18", "+genotype_blocks.depth.depth=local"] if kind == "atrc" else []
    config = command(tmp_path, rooms, f"+experiment=rooms_hrnet18_{kind}", *SMALL, *QUICK, *extra)
    run_stage(config)
    export(tmp_path / "runs" / config.name / "seed0", f"output={tmp_path / 'out'}")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["input"]["shape"] == ["batch", 3, *SIZE] and set(record["outputs"]) == set(config.task_names)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "overrides",
    [("+experiment=rooms_hrnet18_multi_task", "backbone=resnet50_scratch", "neck=aspp"),
     ("+experiment=rooms_swin_multi_task",)],
    ids=["dilated ResNet with ASPP", "swin"],
)  # fmt: skip
def test_other_backbones_are_exported(tmp_path, rooms, overrides):
    run_stage(command(tmp_path, rooms, *overrides, "name=other"))
    export(tmp_path / "runs" / "other" / "seed0", f"output={tmp_path / 'out'}")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def changed(run, **values):
    """Change the stored configuration of a run."""
    import yaml

    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored["distillation"] |= values
    (run / "config.yaml").write_text(yaml.safe_dump(stored))


def test_runs_that_cannot_be_exported_are_one_message_and_leave_nothing(tmp_path, finished_run):
    def copy(name):
        return shutil.copytree(finished_run, tmp_path / name)

    unfinished, search, labels = copy("unfinished"), copy("search"), copy("labels")
    (unfinished / "summary.json").unlink()
    changed(search, name="search")
    stored = (search / "config.yaml").read_text().replace("name: retrain", "name: search")
    (search / "config.yaml").write_text(stored)
    changed(labels, name="tlabel", regions="labels")
    expected = {unfinished: "is not finished", search: "vote and retrain first", labels: "labelled images only",
                tmp_path / "nowhere": "does not exist"}  # fmt: skip
    for run, part in expected.items():
        with pytest.raises(UserError, match=part):
            export(run)
    with pytest.raises(UserError, match="run=RUN_DIR"):
        as_typed("stage=export")
    with pytest.raises(UserError, match=r"export.size=\[8, 64\]"):
        export(finished_run, "export.size=[8,64]")
    assert not list(tmp_path.rglob("network.*"))


def test_missing_packages_are_named(tmp_path, finished_run, monkeypatch):
    monkeypatch.setattr(stage, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match=r"needs onnxscript: .*\[export\]"):
        export(finished_run, f"output={tmp_path}")
    assert list(tmp_path.iterdir()) == []
