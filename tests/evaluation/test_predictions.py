"""Prediction files read back: what was stored scores as the output it was stored from."""

import numpy as np
import pytest
import torch
from PIL import Image

from atrc_exp.errors import UserError
from atrc_exp.evaluation.predictions import (
    as_array,
    load_prediction,
    predicted_tasks,
    prediction_path,
    save_prediction,
)
from atrc_exp.tasks import build_tasks

TASKS = {
    task.name: task
    for task in build_tasks(
        ("semseg", "sal", "edge", "depth", "normals"),
        num_classes={"semseg": 40},
        edge_positive_weight=0.8,
        edge_max_distance=0.011,
    )
}


def as_output(name: str, array: np.ndarray) -> torch.Tensor:
    return TASKS[name].kind.restore(TASKS[name], array)


BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("name", ["sal", "edge"])
def test_every_stored_probability_survives(name):
    assert np.array_equal(as_array(TASKS[name], as_output(name, BYTES)), BYTES)


def test_probabilities_on_a_threshold_stay_on_its_upper_side():
    stored = np.array([[51, 102, 153, 204]], dtype=np.uint8)  # exactly 0.2, 0.4, 0.6, 0.8
    scores = as_output("sal", stored).double().softmax(0)[1]
    assert bool((scores >= torch.tensor([0.2, 0.4, 0.6, 0.8])).all())


def test_every_class_and_depth_survives():
    classes = np.arange(40, dtype=np.uint8).reshape(5, 8)
    assert np.array_equal(as_array(TASKS["semseg"], as_output("semseg", classes)), classes)
    depth = np.random.default_rng(0).uniform(0, 10, (5, 8)).astype(np.float32)
    assert np.array_equal(as_array(TASKS["depth"], as_output("depth", depth)), depth)


def test_normals_survive_to_eight_bits_and_the_zero_vector_stays_zero():
    normals = torch.nn.functional.normalize(torch.randn(3, 20, 20), dim=0)
    normals[:, 0, 0] = 0
    back = as_output("normals", as_array(TASKS["normals"], normals))
    assert float((back - normals).abs().max()) <= 0.5 / 127.5 + 1e-6
    assert back[:, 0, 0].tolist() == [0, 0, 0]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


GREY, COLOUR = np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "array", "part"),
    [
        ("semseg", GREY[:3], "3 x 6 pixels, its image 4 x 6"),
        ("semseg", GREY + 40, "holds class 40; allowed are 0 to 39"),
        ("semseg", COLOUR, "8-bit RGB"),
        ("edge", COLOUR, "must be 8-bit grey"),
        ("edge", GREY.astype(np.uint16), "16-bit grey"),
        ("edge", GREY.T.copy(), "6 x 4 pixels"),
        ("normals", GREY, "must be 8-bit RGB"),
        ("normals", COLOUR[:, :5].copy(), "4 x 5 pixels"),
        ("depth", np.full((4, 6), np.nan, np.float32), "NaN or infinite"),
        ("depth", np.full((4, 6), np.inf), "NaN or infinite"),
        ("depth", np.zeros((4, 6, 2), np.float32), "(4, 6, 2)"),
        ("depth", np.zeros((2, 6), np.float32), "2 x 6 pixels"),
    ],
)
def test_unfit_file_is_named_with_what_is_wrong(tmp_path, name, array, part):
    path = prediction_path(tmp_path, TASKS[name], "a")
    write(path, array)
    with pytest.raises(UserError) as caught:
        load_prediction(tmp_path, TASKS[name], "a", (4, 6))
    message = str(caught.value)
    assert str(path) in message and part in message and "\n" not in message


def test_damaged_file_is_named(tmp_path):
    path = save_prediction(tmp_path, TASKS["edge"], "a", torch.zeros(1, 40, 60))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        load_prediction(tmp_path, TASKS["edge"], "a", (40, 60))


def test_missing_files_are_one_message_and_a_folder_of_one_task_is_enough(tmp_path):
    for image_id in ("a", "c"):
        save_prediction(tmp_path, TASKS["edge"], image_id, torch.zeros(1, 4, 6))
    tasks = list(TASKS.values())
    assert predicted_tasks(tmp_path, tasks, ["a", "c"]) == (TASKS["edge"],)
    with pytest.raises(UserError, match=r"2 of 4 .*edge/b\.png, edge/d\.png"):
        predicted_tasks(tmp_path, tasks, ["a", "b", "c", "d"])
    np.save(tmp_path / "edge" / "b.npy", GREY)
    write(tmp_path / "depth" / "a.png", GREY)
    with pytest.raises(UserError) as caught:
        predicted_tasks(tmp_path, tasks, ["a", "b"])
    message = str(caught.value)
    assert "there is edge/b.npy, but edge is read from .png" in message and "8-bit grey" in message
    assert "there is depth/a.png, but depth is read from .npy" in message and "metres" in message
    with pytest.raises(UserError, match="no folder for any task: semseg, sal, edge"):
        predicted_tasks(tmp_path / "edge", tasks, ["a"])
    with pytest.raises(UserError, match="does not exist"):
        predicted_tasks(tmp_path / "nowhere", tasks, ["a"])
