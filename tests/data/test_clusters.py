"""Label regions that are clusters of the training labels: fitted once, kept in the run, and read from there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_rooms import QUICK, SMALL, as_typed

from atrc_exp.config import DatasetConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.data import clusters
from atrc_exp.errors import UserError
from atrc_exp.stages import run_stage
from atrc_exp.tasks.regions import region_labels

COLOURS = np.array([[20, 40, 60], [200, 30, 30], [90, 220, 120]], np.uint8)


def test_finds_planted_clusters_in_one_order():
    rng = np.random.default_rng(0)
    centres = np.array([[5.0, -1.0], [-4.0, 2.0], [1.0, 9.0], [2.0, -9.0]])
    values = (centres[:, None] + rng.normal(scale=0.2, size=(4, 500, 2))).reshape(-1, 2).astype(np.float32)
    found = clusters.fit_centres(values, 4)
    np.testing.assert_allclose(found, sorted(centres.tolist()), atol=0.05)
    assert found == clusters.fit_centres(values, 4) == sorted(found)
    with pytest.raises(UserError, match="hold 2 distinct values, fewer than the 3 clusters"):
        clusters.fit_centres(np.repeat([[0.0], [1.0]], 9, axis=0), 3)


def test_a_pixel_belongs_to_the_nearest_centre():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(7, 3)).tolist()
    row = TaskConfig(kind="regression", channels=3, range=[-2, 2], clusters=7, centres=centres)
    task = DatasetConfig(name="own", task_table={"own": row}).rows["own"]
    label = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
    label[1, 2, 0, 0] = np.nan
    distance = np.linalg.norm(label[:, None] - np.array(centres)[None, :, :, None, None], axis=2)
    expected = np.where(np.isnan(label).any(axis=1), 255, np.nan_to_num(distance, nan=np.inf).argmin(axis=1))
    np.testing.assert_array_equal(region_labels(task, torch.from_numpy(label)), expected)
    assert task.regions == len(task.kind.region_names(task, None)) == 7


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"clusters": 1}, r"a\.clusters=1: must be 2 to 254"),
        ({"clusters": 4, "regions": 4}, r"a\.clusters=4: must be left out"),
        ({"clusters": 2, "centres": [[0.0, 1.0]]}, r"a\.centres=.*: must be .*2 lists of 2 values"),
        ({"centres": [[0.0, 1.0]]}, r"a\.centres="),
    ],
)
def test_bad_rows_are_one_line(row, words):
    row = TaskConfig(**{"kind": "regression", "channels": 2, "range": [0, 1], **row})
    with pytest.raises(UserError, match=words):
        DatasetConfig(name="own", task_table={"a": row})


def albedo(root: Path) -> list[str]:
    """A dataset of three colours, its description, and the overrides of a short training on it."""
    rng = np.random.default_rng(2)
    for folder in ("images", "albedo"):
        (root / folder).mkdir(parents=True)
    for name in ("train_0", "train_1", "val_0"):
        colours = COLOURS[rng.integers(0, 3, (40, 56))]
        Image.fromarray(colours).save(root / "albedo" / f"{name}.png")
        Image.fromarray(colours // 2).save(root / "images" / f"{name}.png")
    (root / "conf" / "dataset").mkdir(parents=True)
    description = {
        "name": "tints", "reader": "folders", "root": str(root), "tasks": ["albedo"], "crop": [32, 48],
        "task_table": {"albedo": {"kind": "regression", "channels": 3, "range": [0, 255], "clusters": 3}},
        "folders": {"train": "train_*", "val": "val_*", "labels": {"albedo": {"folder": "albedo"}}},
    }  # fmt: skip
    (root / "conf" / "dataset" / "tints.yaml").write_text(yaml.safe_dump(description))
    return [*SMALL, *QUICK, f"hydra.searchpath=[file://{root / 'conf'}]", "dataset=tints", "name=tints",
            f"runs_dir={root / 'runs'}", f"dataset.cache_dir={root / 'cache'}", "distillation=tlabel"]  # fmt: skip


@pytest.mark.slow
def test_a_run_keeps_its_centres_and_reads_no_labels_for_them_again(tmp_path, monkeypatch):
    command = [*albedo(tmp_path), "stage=retrain", "engine.checkpoint_every=1", "engine.iterations=2"]
    run_stage(as_typed(*command))
    folder = tmp_path / "runs" / "tints" / "seed0"
    kept = yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["task_table"]["albedo"]["centres"]
    assert kept == sorted(COLOURS.astype(float).tolist())
    first = json.loads((folder / "summary.json").read_text())["headline"]

    def refused(*_):
        raise AssertionError("the training labels were read")

    monkeypatch.setattr(clusters, "training_pixels", refused)
    (folder / "summary.json").unlink()
    run_stage(as_typed(*command))  # a restart after the last checkpoint
    assert json.loads((folder / "summary.json").read_text())["headline"] == first
    run_stage(as_typed("stage=evaluate", f"run={folder}", "engine.progress=false"))
    run_stage(as_typed("stage=attention", f"run={folder}", f"image={tmp_path / 'images' / 'val_0.png'}", "pixel=[3,4]"))
    assert (folder / "attention" / "val_0_3_4" / "albedo.npz").is_file()
