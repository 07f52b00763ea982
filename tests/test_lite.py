"""A run on weights that are not normalised as ImageNet's: training and every later stage agree on the images."""

import json
import shutil

import numpy as np
import pytest
from small_rooms import as_typed, command

from atrc_exp.stages import run_stage

HALF = [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def lite_run(tmp_path_factory, rooms):
    folder = tmp_path_factory.mktemp("lite")
    run_stage(command(folder, rooms, "+experiment=rooms_lite_multi_task", "tasks=[depth]", "engine.iterations=2",
                      "engine.save_predictions=true"))  # fmt: skip
    return folder / "runs" / "rooms_lite_multi_task" / "seed0"


def evaluated(run, folder):
    run_stage(as_typed("stage=evaluate", f"run={run}", f"output={folder}", "engine.progress=false"))
    return json.loads((folder / "evaluation.json").read_text())["losses"]["depth"]


def test_weights_are_recorded_and_the_evaluation_reads_the_record(tmp_path, lite_run):
    record = json.loads((lite_run / "environment.json").read_text())["backbone"]
    assert (record["mean"], record["std"]) == (HALF, HALF) and len(record["sha256"]) == 64
    trained = json.loads((lite_run / "summary.json").read_text())["losses"]["depth"]
    assert evaluated(lite_run, tmp_path / "same") == pytest.approx(trained, rel=1e-6)
    old = shutil.copytree(lite_run, tmp_path / "old")  # as if from before there was a record
    environment = json.loads((old / "environment.json").read_text())
    del environment["backbone"]
    (old / "environment.json").write_text(json.dumps(environment))
    assert evaluated(old, tmp_path / "other") != pytest.approx(trained, rel=1e-3)


def test_predictions_are_those_of_the_validation(tmp_path, rooms, lite_run):
    image_id = (rooms / "gt_sets" / "val.txt").read_text().split()[0]
    run_stage(as_typed("stage=predict", f"run={lite_run}", f"input={rooms / 'images' / f'{image_id}.png'}",
                       f"output={tmp_path}", "predict.arrays=true", "engine.progress=false"))  # fmt: skip
    file = f"depth/{image_id}.npy"
    np.testing.assert_allclose(np.load(tmp_path / file), np.load(lite_run / "predictions" / file), atol=1e-4)


@pytest.mark.slow
def test_export_says_how_its_images_are_normalised(tmp_path, lite_run):
    onnx = pytest.importorskip("onnx")
    run_stage(as_typed("stage=export", f"run={lite_run}", f"output={tmp_path}"))
    said = json.loads((tmp_path / "export.json").read_text())["input"]
    found = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "network.onnx").metadata_props}
    for record in (said, found):
        assert (record["mean"], record["std"]) == (HALF, HALF)
    assert found["tasks"] == ["depth"] and found["class_names"] == {}
