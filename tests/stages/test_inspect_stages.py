"""`stage=importance` and `stage=attention` on a run of ATRC, as commands."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.stages import attention, run_stage
from atrc_exp.tasks import TASKS, build_tasks

QUIET = ("engine.workers=0", "engine.progress=false")
TYPES = ("+genotype_blocks.semseg.depth=slabel", "+genotype_blocks.semseg.semseg=global",
         "+genotype_blocks.depth.depth=local", "+genotype_blocks.depth.semseg=tlabel")  # fmt: skip


@pytest.fixture(scope="module")
def atrc_run(tmp_path_factory, rooms):
    folder = tmp_path_factory.mktemp("atrc")
    run_stage(command(folder, rooms, "+experiment=rooms_hrnet18_atrc", "tasks=[semseg,depth,edge]", *TYPES, *QUICK))
    return folder / "runs" / "rooms_hrnet18_atrc" / "seed0"


@pytest.fixture
def run(tmp_path, atrc_run):
    """A copy with a single-task run of depth beside it."""
    copied = shutil.copytree(atrc_run, tmp_path / "runs" / "rooms_hrnet18_atrc" / "seed0")
    summary = json.loads((copied / "summary.json").read_text())
    baseline = tmp_path / "runs" / "single" / "seed0"
    baseline.mkdir(parents=True)
    single = summary | {"distillation": "none", "tasks": ["depth"], "headline": {"depth": 2.0}}
    (baseline / "summary.json").write_text(json.dumps(single))
    return copied


@pytest.fixture(scope="module")
def picture(rooms):
    return sorted((rooms / "images").iterdir())[0]


def importance(run, *overrides):
    run_stage(as_typed("stage=importance", f"run={run}", "importance.permutations=1", *QUIET, *overrides))
    return json.loads((run / "importance.json").read_text())


def look(run, picture, *overrides):
    run_stage(as_typed("stage=attention", f"run={run}", f"image={picture}", *QUIET, *overrides))


def refused(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importance_of_a_run(run, capsys):
    record = importance(run)
    summary = json.loads((run / "summary.json").read_text())
    assert record["headline"] == pytest.approx(summary["headline"], rel=1e-5)
    assert {t: {s: e["context"] for s, e in row.items()} for t, row in record["blocks"].items()} == {
        "semseg": {"semseg": "global", "depth": "slabel", "edge": "none"},
        "depth": {"semseg": "tlabel", "depth": "local", "edge": "none"},
        "edge": {"semseg": "none", "depth": "none", "edge": "none"},
    }
    block = record["blocks"]["depth"]["semseg"]
    (score,) = block["permuted"]
    assert block["drop"]["mean"] == pytest.approx(score - record["headline"]["depth"])
    # One of three tasks, against the single-task score 2.0 and in per cent.
    assert block["delta_m_drop"]["mean"] == pytest.approx(100 / 3 * (score - record["headline"]["depth"]) / 2.0)
    assert record["baselines"]["depth"] == {"mean": 2.0, "n": 1, "runs": "single"}
    assert record["blocks"]["semseg"]["depth"]["drop"] is not None
    assert record["blocks"]["semseg"]["depth"]["delta_m_drop"] is None
    assert "no single-task runs of semseg" in record["baselines"]["semseg"]["missing"]
    assert record["correlation"]["pearson"] is None and "no votes" in record["correlation"]["reason"]
    assert "no Δm for semseg" in capsys.readouterr().out
    assert (run / "importance.png").is_file() and (run / "importance.pdf").is_file()


def test_importance_without_boundaries_and_by_other_rules(run):
    record = importance(run, "importance.boundaries=false", "evaluation.absent=skip", "output=" + str(run))
    assert "edge" not in record["headline"] and "edge is not scored" in record["notes"]
    assert record["blocks"]["depth"]["semseg"]["delta_m_drop"] is not None


def test_delta_m_of_other_images_than_the_summarys_is_missing(run):
    summary = json.loads((run / "summary.json").read_text())
    summary["headline"]["depth"] *= 1.05  # as after another choice of images or rules
    (run / "summary.json").write_text(json.dumps(summary))
    record = importance(run)
    assert record["blocks"]["depth"]["semseg"]["delta_m_drop"] is None
    assert "scores otherwise here than in summary.json" in record["baselines"]["depth"]["missing"]


def test_what_has_no_importance_is_named(run, finished_run):
    assert "no context blocks" in refused(importance, finished_run)
    assert "importance.permutations=2:" in refused(importance, run, "importance.permutations=2")
    assert "must be >= 1" in refused(importance, run, "importance.permutations=0")
    assert "does not exist" in refused(importance, run.parent / "seed9")
    (run / "summary.json").unlink()
    assert "has not finished" in refused(importance, run)
    assert "given run=RUN_DIR" in refused(as_typed, "stage=importance")


@pytest.mark.slow
def test_attention_of_a_pixel(run, picture, capsys):
    look(run, picture, "pixel=[20,31]")
    folder = run / "attention" / f"{picture.stem}_20_31"
    assert str(folder) in capsys.readouterr().out
    names = {f"{task}{suffix}" for task in ("semseg", "depth", "edge") for suffix in (".png", ".pdf", ".npz")}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "semseg.png").read_bytes().startswith(b"\x89PNG")
    arrays = np.load(folder / "semseg.npz")
    assert arrays["pixel"].tolist() == [20, 31] and arrays["edge.context"] == "none" and "edge.weights" not in arrays
    assert arrays["semseg.context"] == "global" and arrays["semseg.weights"].sum() == pytest.approx(1, abs=1e-5)
    # Maps are at stride 4 of 32 x 48 pixels.
    assert arrays["depth.weights"].shape == (8, 12) and arrays["cell"].tolist() == [5, 7]
    assert arrays["extent"].tolist() == [-0.5, 47.5, 31.5, -0.5]
    maps, weights = arrays["regions.depth"], arrays["depth.region_weights"]
    assert arrays["depth.region_task"] == "depth" and maps.shape == (40, 8, 12) and weights.sum() == pytest.approx(1)
    assert np.allclose(np.einsum("r,rhw->hw", weights, maps), arrays["depth.weights"], atol=1e-7)


def test_one_target_of_a_checkpoint_file(tmp_path, run, picture):
    checkpoint = run / "checkpoints" / "last.pt"
    run_stage(as_typed("stage=attention", f"checkpoint={checkpoint}", f"image={picture}", "pixel=[0,0]", "target=depth",
                       f"output={tmp_path / 'out'}", *QUIET))  # fmt: skip
    assert {path.name for path in (tmp_path / "out" / "attention" / f"{picture.stem}_0_0").iterdir()} == {
        "depth.png", "depth.pdf", "depth.npz"
    }  # fmt: skip


def test_mistakes_in_image_pixel_and_target_are_named(tmp_path, run, picture, finished_run):
    assert "rows 0 to 31 and columns 0 to 47" in refused(look, run, picture, "pixel=[32,0]")
    assert "row and column" in refused(look, run, picture, "pixel=[-1,0]")
    assert "row and column" in refused(look, run, picture, "pixel=[1,2,3]")
    assert "given pixel=Y,X" in refused(look, run, picture)
    assert "image=" in refused(look, run, tmp_path / "nowhere.png", "pixel=[0,0]")
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert "broken.png: cannot be read" in refused(look, run, tmp_path / "broken.png", "pixel=[0,0]")
    message = refused(look, run, picture, "pixel=[0,0]", "target=normals")
    assert "target=normals:" in message and "semseg, depth, edge" in message
    assert "no context blocks" in refused(look, finished_run, picture, "pixel=[0,0]")
    assert not (run / "attention").exists()


@pytest.mark.slow
def test_pixel_is_written_with_a_comma_on_the_command_line(run, picture):
    done = subprocess.run(
        [sys.executable, "-m", "atrc_exp", "stage=attention", f"run={run}", f"image={picture}", "pixel=20,31",
         "target=depth", *QUIET], capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (run / "attention" / f"{picture.stem}_20_31" / "depth.npz").is_file()


@pytest.mark.parametrize("size", [(20, 30), (32, 48), (80, 60)])
def test_place_of_a_pixel_on_padded_and_scaled_images(size):
    """A bright pixel, brought to the canvas by PyTorch alone, is brightest in the cell that the stage names."""
    crop, grid = (32, 48), (8, 12)
    scale = min(1, crop[0] / size[0], crop[1] / size[1])
    fitted = tuple(round(n * scale) for n in size)
    for pixel in ((0, 0), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)):
        canvas, offset = torch.zeros(1, *crop), [(c - n) // 2 for c, n in zip(crop, fitted, strict=True)]
        place = attention._place(np.zeros((*size, 3), np.uint8), pixel, fitted, canvas, tuple(offset), grid)
        image = torch.zeros(1, 1, *size)
        image[0, 0, pixel[0], pixel[1]] = 1
        small = F.interpolate(image, fitted, mode="area")[0]
        canvas[:, offset[0] : offset[0] + fitted[0], offset[1] : offset[1] + fitted[1]] = small
        brightest = F.adaptive_avg_pool2d(canvas, grid)[0]
        assert brightest[place.cell] == brightest.max() > 0
        left, right, bottom, top = place.extent
        y = top + (place.cell[0] + np.array([0, 1])) * (bottom - top) / grid[0]
        x = left + (place.cell[1] + np.array([0, 1])) * (right - left) / grid[1]
        assert y[0] - 1e-6 <= pixel[0] <= y[1] + 1e-6 and x[0] - 1e-6 <= pixel[1] <= x[1] + 1e-6


def test_regions_have_the_names_of_classes_and_metres():
    tasks = {task.name: task for task in build_tasks(TASKS, num_classes={"semseg": 3}, edge_positive_weight=0.8,
                                                     edge_max_distance=0.01)}  # fmt: skip
    assert tasks["semseg"].kind.region_names(tasks["semseg"], ["wall", "floor", "bed"]) == ["wall", "floor", "bed"]
    assert tasks["edge"].kind.region_names(tasks["edge"], None) == ["class 0", "class 1"]
    depth = tasks["depth"].kind.region_names(tasks["depth"], None)
    assert len(depth) == 40 and depth[0] == "0.70–0.75 m" and depth[-1] == "9.36–10.00 m"
    assert tasks["normals"].kind.region_names(tasks["normals"], None)[39] == "codeword 39"


@pytest.mark.slow
def test_an_image_of_another_size_is_padded_or_scaled(tmp_path, run):
    for name, size in (("small", (20, 30)), ("large", (64, 40))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        look(run, tmp_path / f"{name}.png", "pixel=[19,29]", "target=semseg")
        arrays = np.load(run / "attention" / f"{name}_19_29" / "semseg.npz")
        left, right, bottom, top = arrays["extent"]
        assert left <= -0.5 and top <= -0.5 and right >= size[1] - 0.5 and bottom >= size[0] - 0.5
