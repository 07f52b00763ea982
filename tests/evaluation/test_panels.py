import numpy as np
import pytest
import torch

from atrc_exp.evaluation.panels import genotype_map, panel, prediction_panel, rendered
from atrc_exp.evaluation.predictions import as_array
from atrc_exp.genotype import uniform
from atrc_exp.tasks import build_tasks

TASKS = build_tasks(
    ("semseg", "depth", "normals", "sal", "edge"), num_classes={"semseg": 4}, edge_positive_weight=0.8,
    edge_max_distance=0.011,
)  # fmt: skip
BY_NAME = {task.name: task for task in TASKS}
GREY = [0.5, 0.5, 0.5]


def task_pictures(task, label, prediction):
    return task.kind.pictures(task, label, prediction)


def test_panel_has_a_column_for_every_task() -> None:
    labels = {"semseg": torch.zeros(6, 8, dtype=torch.long), "depth": torch.zeros(1, 6, 8),
              "normals": torch.zeros(3, 6, 8), "sal": torch.ones(6, 8), "edge": torch.ones(6, 8)}  # fmt: skip
    predictions = {task.name: torch.randn(task.channels, 6, 8) for task in TASKS}
    figure = panel(torch.randn(3, 6, 8), labels, predictions, TASKS)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:6] == ["image", *(task.title for task in TASKS)]
    picture = rendered(figure)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 0


def test_a_picture_without_any_label_says_so() -> None:
    labels = {"semseg": torch.full((6, 8), 255), "depth": torch.zeros(1, 6, 8), "normals": torch.zeros(3, 6, 8),
              "sal": torch.full((6, 8), 255), "edge": torch.ones(6, 8)}  # fmt: skip
    predictions = {task.name: torch.randn(task.channels, 6, 8) for task in TASKS}
    above = panel(torch.randn(3, 6, 8), labels, predictions, TASKS).axes[1 : len(TASKS) + 1]
    assert [len(axis.texts) for axis in above] == [1, 1, 1, 1, 0]


def test_label_and_equal_prediction_look_alike_and_unlabelled_is_grey() -> None:
    label = torch.tensor([[0, 1, 255], [2, 3, 0]])
    logits = torch.nn.functional.one_hot(label.clamp(max=3), 4).permute(2, 0, 1).float()
    above, below = task_pictures(BY_NAME["semseg"], label, logits)
    assert above[0, 2].tolist() == GREY
    assert np.array_equal(above[label.numpy() != 255], below[label.numpy() != 255])
    assert len(np.unique(below.reshape(-1, 3), axis=0)) == 4

    depth = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    above, below = task_pictures(BY_NAME["depth"], depth, depth)
    assert above[0, 0].tolist() == GREY and np.array_equal(above[1], below[1])

    normals = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).repeat(1, 1, 2)
    normals[:, 0, 1] = 0
    above, below = task_pictures(BY_NAME["normals"], normals, 5 * normals)
    assert above[0, 0].tolist() == pytest.approx([0.5, 0.5, 1.0]) and above[0, 1].tolist() == GREY
    assert below[0, 0].tolist() == pytest.approx([0.5, 0.5, 1.0])

    edge = torch.tensor([[0, 1, 255]])
    above, below = task_pictures(BY_NAME["edge"], edge, torch.tensor([[[-30.0, 30.0, 0.0]]]))
    assert above[0].tolist() == [[0, 0, 0], [1, 1, 1], GREY] and np.allclose(below[0, :2], above[0, :2])


def test_genotype_map_names_every_block() -> None:
    figure = genotype_map(uniform(("semseg", "depth"), "local"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["local"] * 4
    assert rendered(figure).shape[2] == 3


def test_prediction_panel_names_the_classes_that_are_there_and_measures_depth_in_metres() -> None:
    predictions = {task.name: as_array(task, torch.randn(task.channels, 6, 8)) for task in TASKS}
    predictions["semseg"] = np.zeros((6, 8), np.uint8)
    predictions["semseg"][:, :6] = 2  # three quarters; class 0 has the rest
    image = np.zeros((6, 8, 3), np.uint8)
    figure = prediction_panel(image, predictions, TASKS, {"semseg": ["wall", "floor", "bed", "sofa"]})
    legend = next(axis.get_legend() for axis in figure.axes if axis.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["bed (75 %)", "wall (25 %)"]
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["Image", *(task.title for task in TASKS)]
    bars = [child.get_title("left") for axis in figure.axes for child in axis.child_axes]
    assert bars == ["m", "probability", "probability"]
    assert rendered(figure).std() > 0


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_maps_of_one_value_stand_on_a_scale_from_zero(value: float) -> None:
    """Matplotlib would put a constant into the middle of a scale that has negative metres and probabilities."""
    predictions = {task.name: as_array(task, torch.full((task.channels, 6, 8), -50.0)) for task in TASKS}
    predictions["depth"] = np.full((6, 8), value, np.float32)
    figure = prediction_panel(np.zeros((6, 8, 3), np.uint8), predictions, TASKS, {})
    limits = {axis.get_title(): axis.images[0].get_clim() for axis in figure.axes if axis.images}
    assert limits["Depth"] == (0, value or 1) and limits["Bound"] == (0, 1)


def test_a_large_image_is_drawn_at_the_size_of_its_panel() -> None:
    predictions = {task.name: as_array(task, torch.randn(task.channels, 30, 4000)) for task in TASKS}
    figure = prediction_panel(np.zeros((30, 4000, 3), np.uint8), predictions, TASKS, {})
    widths = {axis.images[0].get_array().shape[1] for axis in figure.axes if axis.images}
    assert widths == {1000}
