"""Validation against values worked out on the images themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_engine as tiny
import torch
from PIL import Image
from torch import Tensor, nn

from atrc_exp.data.batch import Batch
from atrc_exp.evaluation.evaluate import FirstImages, ImageResult, evaluate
from atrc_exp.evaluation.predictions import save_prediction
from atrc_exp.losses import build_losses
from atrc_exp.models.network import Output
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import build_tasks
from atrc_exp.tasks.classification import Decoder

TASKS = build_tasks(
    ("semseg", "depth", "sal", "edge"), num_classes={"semseg": 3}, edge_positive_weight=0.8, edge_max_distance=0.011
)

CODED = build_tasks(
    ("depth", "normals"),
    num_classes={},
    edge_positive_weight=0.8,
    edge_max_distance=0.011,
    forms={"depth": "classification", "normals": "classification"},
)


class Oracle(nn.Module):
    """Predicts from the image alone: depth is its first channel, class maps compare channels."""

    def forward(self, image: Tensor, labels: Any = None) -> Output:
        first = image[:, :1]
        return Output({"depth": first, "semseg": image, "sal": image[:, :2], "edge": first}, {}, {})


def batch(index: int, sizes: list[tuple[int, int]]) -> Batch:
    """Images centred on one canvas, whose padding holds values that would spoil every score."""
    canvas = (max(h for h, _ in sizes), max(w for _, w in sizes))
    draw = torch.Generator().manual_seed(index)
    image = torch.full((len(sizes), 3, *canvas), 1e6)
    depth, semseg = torch.full((len(sizes), 1, *canvas), 1e6), torch.full((len(sizes), *canvas), 2)
    sal, edge = semseg.clamp(max=1), semseg.clamp(max=1)
    for k, (h, w) in enumerate(sizes):
        top, left = (canvas[0] - h) // 2, (canvas[1] - w) // 2
        window = slice(top, top + h), slice(left, left + w)
        image[k][:, *window] = torch.rand(3, h, w, generator=draw) + 1
        depth[k][:, *window] = image[k][:1, *window] + 0.5 + k
        semseg[k][window] = torch.randint(0, 3, (h, w), generator=draw)
        sal[k][window] = torch.randint(0, 2, (h, w), generator=draw)
        edge[k][window] = torch.randint(0, 2, (h, w), generator=draw)
        depth[k][0][window][0] = 0  # unlabelled row
    labels = {"depth": depth, "semseg": semseg, "sal": sal, "edge": edge}
    return Batch(image, labels, [f"{index}_{k}" for k in range(len(sizes))], torch.tensor(sizes))


def one_by_one(whole: Batch) -> list[Batch]:
    return [tiny.part(whole, k, len(whole.ids)) for k in range(len(whole.ids))]


def test_padding_takes_no_part() -> None:
    results = evaluate(Oracle(), [batch(0, [(6, 9), (5, 10)])], TASKS, Ranks())  # type: ignore[arg-type]
    errors = torch.cat([torch.full((5 * 9,), 0.5), torch.full((4 * 10,), 1.5)])
    assert results["depth/loss"] == pytest.approx(float(errors.mean()))
    assert results["depth/rmse"] == pytest.approx(float(errors.square().mean().sqrt()))


def test_result_depends_on_the_images_alone() -> None:
    whole = batch(1, [(6, 9), (5, 10), (6, 10)])
    together = evaluate(Oracle(), [whole], TASKS, Ranks())  # type: ignore[arg-type]
    apart = evaluate(Oracle(), one_by_one(whole), TASKS, Ranks())  # type: ignore[arg-type]
    assert together == pytest.approx(apart, rel=1e-6)
    assert set(together) >= {"loss", "semseg/miou", "semseg/loss", "sal/loss", "edge/loss", "edge/ods_f"}
    weighted = sum(task.weight * together[f"{task.name}/loss"] for task in TASKS)
    assert together["loss"] == pytest.approx(weighted)


def test_observers_see_every_image_once_without_padding() -> None:
    seen: list[ImageResult] = []
    first = FirstImages(1)
    evaluate(Oracle(), [batch(2, [(6, 9), (5, 10)])], TASKS, Ranks(), [seen.append, first])  # type: ignore[arg-type]
    assert [(result.id, tuple(result.image.shape)) for result in seen] == [("2_0", (3, 6, 9)), ("2_1", (3, 5, 10))]
    assert all(float(result.image.abs().max()) < 100 for result in seen)
    assert [result.id for result in first.kept] == ["2_0"]


def test_training_mode_is_restored() -> None:
    predict = Oracle().train()
    evaluate(predict, [batch(0, [(6, 9)])], TASKS, Ranks())  # type: ignore[arg-type]
    assert predict.training


def read_back(folder: Path, task: str, prediction: Tensor) -> np.ndarray:
    found = build_tasks([task], num_classes={"semseg": 3}, edge_positive_weight=0.8, edge_max_distance=0.011)[0]
    path = save_prediction(folder, found, "a", prediction)
    return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))


def test_prediction_files(tmp_path: Path) -> None:
    logits = torch.tensor([-30.0, 0.0, 1.0, 30.0]).view(1, 2, 2)
    assert read_back(tmp_path, "edge", logits).tolist() == [[0, 127], [186, 255]]  # floor(255 * 0.7310586) = 186
    assert read_back(tmp_path, "semseg", torch.eye(3).view(3, 1, 3)).tolist() == [[0, 1, 2]]
    assert read_back(tmp_path, "depth", torch.tensor([[[2.5, 9.0]]])).tolist() == [[2.5, 9.0]]
    two = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).view(2, 1, 2)
    assert read_back(tmp_path, "sal", two).tolist() == [[127, 186]]
    upright = torch.tensor([0.0, 0.0, 7.0]).view(3, 1, 1)
    assert read_back(tmp_path, "normals", upright).tolist() == [[[128, 128, 255]]]


class Coded(nn.Module):
    """Logits of 40 bins and of 40 codewords, from the image alone."""

    def forward(self, image: Tensor, labels: Any = None) -> Output:
        ramp = torch.arange(40.0).view(1, 40, 1, 1)
        return Output({"depth": (ramp * image[:, :1]).sin() * 4, "normals": (ramp * image[:, 1:2]).cos() * 4}, {}, {})


def test_classification_forms_are_scored_and_shown_in_metres_and_unit_vectors() -> None:
    codebook = nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    whole = batch(3, [(6, 9), (6, 9)])
    whole = replace(whole, labels={"depth": whole.labels["depth"], "normals": torch.randn(2, 3, 6, 9)})
    whole.labels["normals"][:, :, 2] = 0
    seen: list[ImageResult] = []
    results = evaluate(Coded(), [whole], CODED, Ranks(), [seen.append], codebook=codebook)  # type: ignore[arg-type]

    logits = Coded()(whole.image).final
    expected = build_losses(CODED, codebook=codebook)(logits, {}, whole.labels)
    values = Decoder(CODED, codebook)(logits)
    valid = whole.labels["depth"] > 0
    error = (values["depth"] - whole.labels["depth"])[valid]
    assert results["depth/rmse"] == pytest.approx(float(error.square().mean().sqrt()))
    cosine = nn.functional.cosine_similarity(values["normals"], whole.labels["normals"])
    angle = cosine.clamp(-1, 1).acos().rad2deg()[(whole.labels["normals"] != 0).any(1)]
    assert results["normals/mean_error"] == pytest.approx(float(angle.mean()), rel=1e-4)
    for task in ("depth", "normals"):
        assert results[f"{task}/loss"] == pytest.approx(float(expected[task]), rel=1e-5)
        for index, result in enumerate(seen):
            torch.testing.assert_close(result.predictions[task], values[task][index])


def test_predictions_of_classification_forms_are_stored_as_those_of_regressions(tmp_path: Path) -> None:
    depth, normals = CODED
    assert np.load(save_prediction(tmp_path, depth, "a", torch.tensor([[[2.5, 9.0]]]))).tolist() == [[2.5, 9.0]]
    path = save_prediction(tmp_path, normals, "a", torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1))
    assert np.asarray(Image.open(path)).tolist() == [[[128, 128, 255]]]
