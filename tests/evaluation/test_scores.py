"""Boundary scores among the others, and the rules of the evaluation section."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from atrc_exp.config import EvaluationConfig
from atrc_exp.data.readers.sample import Truth
from atrc_exp.errors import UserError
from atrc_exp.evaluation.scores import Scores
from atrc_exp.metrics import boundary
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import IGNORE, build_tasks

TASKS = build_tasks(
    ("semseg", "depth", "normals", "edge"), num_classes={"semseg": 4}, edge_positive_weight=0.8, edge_max_distance=0.03
)
SIZE = (30, 40)


def image(seed):
    """Random outputs and labels of all tasks; class 3 never occurs."""
    draw = torch.Generator().manual_seed(seed)
    outputs = {task.name: torch.randn(task.channels, *SIZE, generator=draw) for task in TASKS}
    outputs["semseg"][3] = -9
    lines = torch.zeros(SIZE, dtype=torch.long)
    lines[10 + seed], lines[:, 20] = 1, 1
    outputs["edge"] += 2 * lines.roll(1, 0)
    labels = {
        "semseg": torch.randint(0, 3, SIZE, generator=draw),
        "edge": lines,
        "depth": torch.rand(1, *SIZE, generator=draw) + 1,
        "normals": torch.randn(3, *SIZE, generator=draw),
    }
    return outputs, labels


def scored(rules=None, images=(0, 1, 2), **options):
    scores = Scores(TASKS, Ranks(), rules, **options)
    for seed in images:
        scores.add(f"i{seed}", *image(seed))
    return scores.compute(), scores


def alone(images, **options):
    """The boundary scores of the same images by the stand-alone evaluator, from probabilities."""
    pairs = [image(seed) for seed in images]
    predictions = [outputs["edge"][0].sigmoid().numpy() for outputs, _ in pairs]
    return boundary.evaluate(predictions, [labels["edge"].numpy() for _, labels in pairs], max_dist=0.03, **options)


def test_boundaries_are_scored_as_by_the_stand_alone_evaluator():
    flat, scores = scored()
    expected = alone((0, 1, 2))
    assert 0 < expected.odsF < 1 and scores.boundaries["edge"] == expected
    assert (flat["edge/ods_f"], flat["edge/ois_f"], flat["edge/ap"]) == (expected.odsF, expected.oisF, expected.AP)


def test_protocol_and_interpolation_are_chosen_by_the_rules():
    rules = EvaluationConfig(boundary_protocol="mtl_pytorch", boundary_interpolate=True)
    _, scores = scored(rules)
    assert scores.boundaries["edge"] == alone((0, 1, 2), protocol="mtl_pytorch", interpolate=True)


def test_boundaries_are_scored_against_the_borders_of_regions_unless_the_rules_say_labels():
    borders = {f"i{seed}": image(seed + 10)[1]["edge"].numpy().astype(np.uint8) for seed in range(3)}
    _, scores = scored(truth=Truth(borders.__getitem__))
    predictions = [image(seed)[0]["edge"][0].sigmoid().numpy() for seed in range(3)]
    assert scores.boundaries["edge"] == boundary.evaluate(predictions, list(borders.values()), max_dist=0.03)
    assert scores.boundaries["edge"] != alone((0, 1, 2))
    _, scores = scored(EvaluationConfig(boundary_truth="labels"), truth=Truth(borders.__getitem__))
    assert scores.boundaries["edge"] == alone((0, 1, 2))


def test_a_list_of_ids_restricts_the_boundaries_alone(tmp_path):
    (tmp_path / "ids.txt").write_text("i2\ni0\n")
    flat, scores = scored(EvaluationConfig(boundary_ids=str(tmp_path / "ids.txt")))
    assert scores.boundaries["edge"] == alone((0, 2))
    assert flat["depth/rmse"] == scored()[0]["depth/rmse"]
    with pytest.raises(UserError, match=r"nothing\.txt"):
        scored(EvaluationConfig(boundary_ids=str(tmp_path / "nothing.txt")))


def test_boundaries_can_be_left_out():
    flat, scores = scored(boundaries=False)
    assert not scores.boundaries and "edge/ods_f" not in flat and "semseg/miou" in flat


def test_absent_classes_count_as_zero_or_not_at_all():
    zero, scores = scored()
    ious = scores.per_class()["semseg"]
    assert ious[3] is None and all(iou > 0 for iou in ious[:3])
    assert zero["semseg/miou"] == pytest.approx(sum(ious[:3]) / 4)
    skip, _ = scored(EvaluationConfig(absent="skip"))
    assert skip["semseg/miou"] == pytest.approx(sum(ious[:3]) / 3)


def test_confusion_counts_every_pixel_once_by_label_and_prediction():
    _, scores = scored(images=(0,))
    outputs, labels = image(0)
    expected = np.zeros((4, 4), dtype=np.int64)
    np.add.at(expected, (labels["semseg"].numpy().ravel(), outputs["semseg"].argmax(0).numpy().ravel()), 1)
    assert np.array_equal(scores.confusion()["semseg"], expected)


def test_invalid_pixels_by_the_published_rule():
    outputs, labels = image(0)
    labels["depth"][0, 0, 0] = 0
    stored = {"depth": labels["depth"][0].numpy(), "normals": labels["normals"].movedim(0, 2).numpy()}
    truth = Truth(stored=lambda task, id: stored[task] if id == "i" else None)
    results = []
    for reference_invalid in (False, True):
        rules = EvaluationConfig(reference_invalid=reference_invalid)
        scores = Scores(TASKS, Ranks(), rules, boundaries=False, truth=truth)
        scores.add("i", outputs, labels)
        results.append(scores.compute())
    assert results[0]["depth/invalid_pixels"] == 1
    error = float(outputs["depth"][0, 0, 0].clamp(min=0)) - 255.0
    pixels = SIZE[0] * SIZE[1]
    squared = results[0]["depth/rmse"] ** 2 * (pixels - 1) + error**2
    assert results[1]["depth/rmse"] == pytest.approx((squared / pixels) ** 0.5)
    assert results[1]["normals/mean_error"] == results[0]["normals/mean_error"]
    with pytest.raises(UserError, match="reference_invalid=true"):
        Scores(TASKS, Ranks(), EvaluationConfig(reference_invalid=True))


def test_the_labels_are_scored_as_a_partition_as_published_and_both_side_by_side():
    pairs = [image(seed) for seed in (0, 1)]
    predictions = [outputs["edge"][0].sigmoid().numpy() for outputs, _ in pairs]
    bands = [boundary.partition_to_boundary(labels["edge"].numpy()) for _, labels in pairs]
    published = boundary.evaluate(predictions, bands, max_dist=0.03)
    default, _ = scored(images=(0, 1))
    partition, scores = scored(EvaluationConfig(boundary_truth="partition"), images=(0, 1))
    assert scores.boundaries["edge"] == published and published.odsF != default["edge/ods_f"]
    both, scores = scored(EvaluationConfig(boundary_truth="both"), images=(0, 1))
    assert {key: value for key, value in both.items() if not key.endswith("_partition")} == default
    for key in ("ods_f", "ois_f", "ap"):
        assert both[f"edge/{key}_partition"] == partition[f"edge/{key}"]
    assert scores.boundaries["edge"].odsF == default["edge/ods_f"]


def test_borders_are_a_partition_already():
    borders = {f"i{seed}": np.roll(image(seed)[1]["edge"].numpy(), 2, axis=1) for seed in range(3)}
    flats = [
        scored(EvaluationConfig(boundary_truth=truth), truth=Truth(borders.__getitem__))[0]["edge/ods_f"]
        for truth in ("regions", "partition")
    ]
    assert flats[0] == flats[1]


def test_borders_of_another_size_are_named():
    with pytest.raises(UserError, match=r"edge of image i0: .*\(3, 4\)"):
        scored(images=(0,), truth=Truth(lambda image_id: np.ones((3, 4), np.uint8)))


def test_labels_without_any_boundary_score_zero_and_unlabelled_pixels_are_no_boundary():
    outputs, labels = image(0)
    partly = torch.zeros(SIZE, dtype=torch.long)
    partly[: SIZE[0] // 2] = IGNORE
    flats = []
    for edge in (torch.zeros(SIZE, dtype=torch.long), partly):
        scores = Scores(TASKS, Ranks())
        scores.add("i", outputs, labels | {"edge": edge})
        flats.append(scores.compute())
    assert flats[0] == flats[1] and flats[0]["edge/ods_f"] == flats[0]["edge/ois_f"] == 0


def test_images_without_boundary_labels_do_not_count():
    outputs, labels = image(0)
    unlabelled = labels | {"edge": torch.full(SIZE, IGNORE)}
    alone, both, none = (Scores(TASKS, Ranks()) for _ in range(3))
    alone.add("i", outputs, labels)
    both.add("i", outputs, labels)
    both.add("j", outputs, unlabelled)
    none.add("j", outputs, unlabelled)
    assert both.compute()["edge/ods_f"] == alone.compute()["edge/ods_f"]
    assert np.isnan(none.compute()["edge/ods_f"]) and none.boundaries == {}


def test_nothing_labelled_has_no_value():
    outputs, labels = image(0)
    scores = Scores([replace(task) for task in TASKS if task.name == "depth"], Ranks())
    scores.add("i", outputs, labels | {"depth": torch.zeros(1, *SIZE)})
    assert np.isnan(scores.compute()["depth/rmse"])
