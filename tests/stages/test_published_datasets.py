"""Presets on published datasets, from the check of their files to scores, on small files in their layouts."""

import json
from pathlib import Path

import numpy as np
import published_layouts as layouts
import pytest
from PIL import Image
from small_rooms import QUICK, SMALL, as_typed

from atrc_exp.stages import run_stage


def run(root: Path, preset: str, *overrides: str) -> Path:
    """Run a preset on tiny crops; returns the folder of its run."""
    config = as_typed(*SMALL, *QUICK, f"+experiment={preset}", f"dataset.root={root}", f"runs_dir={root / 'runs'}",
                      f"dataset.cache_dir={root / 'cache'}", "dataset.crop=[32,48]", "engine.iterations=2",
                      "engine.save_predictions=true", *overrides)  # fmt: skip
    run_stage(config)
    return root / "runs" / config.name / "seed0"


@pytest.mark.slow
def test_search_training_and_check_of_cityscapes(tmp_path):
    layouts.cityscapes(tmp_path)
    run_stage(as_typed("stage=prepare", "dataset=cityscapes", f"dataset.root={tmp_path}", "name=check",
                       f"runs_dir={tmp_path / 'runs'}", "engine.workers=0", "engine.progress=false"))  # fmt: skip
    report = json.loads((tmp_path / "runs" / "datasets" / "cityscapes" / "dataset_report.json").read_text())
    assert not report["problems"]
    searched = run(tmp_path, "cityscapes_hrnet18_search")
    trained = run(tmp_path, "cityscapes_hrnet18_atrc", f"genotype={searched}")
    summary = json.loads((trained / "summary.json").read_text())
    assert list(summary["headline"]) == ["semseg", "disparity"]
    assert np.isfinite(list(summary["headline"].values())).all()


@pytest.mark.slow
def test_nyuv2_has_the_scores_of_mtan(tmp_path):
    layouts.mtan(tmp_path, "label", 13, inverse=False)
    folder = run(tmp_path, "nyuv2_mtan_resnet50_aspp_multi_task", "neck=shared")
    run_stage(as_typed("stage=evaluate", f"run={folder}", "engine.progress=false"))
    found = json.loads((folder / "evaluation.json").read_text())["metrics"]
    label, depth, normal = (np.load(tmp_path / "val" / name / "0.npy") for name in ("label", "depth", "normal"))
    predictions = folder / "predictions"
    classes = np.asarray(Image.open(predictions / "semseg" / "val" / "0.png"))
    metres = np.load(predictions / "metric_depth" / "val" / "0.npy")
    vectors = np.asarray(Image.open(predictions / "normals" / "val" / "0.png")) / 127.5 - 1
    both = [((classes == k) & (label == k)).sum() for k in range(13)]
    either = [(((classes == k) & (label >= 0)) | (label == k)).sum() for k in range(13)]
    assert found["semseg"]["miou"] == pytest.approx(np.mean(np.divide(both, either)))
    assert found["semseg"]["pixel_accuracy"] == pytest.approx((classes == label)[label >= 0].mean())
    depth, valid = depth[..., 0], depth[..., 0] > 0
    error = abs(metres.clip(1e-3) - depth)[valid]
    assert found["metric_depth"]["mae"] == pytest.approx(error.mean(), rel=1e-5)
    assert found["metric_depth"]["abs_rel"] == pytest.approx((error / depth[valid]).mean(), rel=1e-5)
    valid = normal.sum(axis=2) != 0
    cosine = (vectors * normal).sum(axis=2) / np.linalg.norm(vectors, axis=2)
    angle = np.degrees(np.arccos(cosine[valid].clip(-1, 1)))
    assert found["normals"]["mean_error"] == pytest.approx(angle.mean(), abs=0.3)  # predictions are stored in 8 bits
    assert found["normals"]["median"] == pytest.approx(np.median(angle), abs=0.5)
    for limit in (11.25, 22.5, 30):
        assert found["normals"][f"within_{limit:g}"] == pytest.approx(100 * (angle < limit).mean(), abs=1.5)
