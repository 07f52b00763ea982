"""`stage=predict`: any image, all tasks, panels and arrays."""

import shutil

import numpy as np
import pytest
from PIL import Image
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.stages import run_stage


def predict(run, source, output, *overrides):
    run_stage(as_typed("stage=predict", f"run={run}", f"input={source}", f"output={output}", *overrides))


def stored(path):
    return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))


@pytest.mark.parametrize("sizing", ["tiled", "resize"])
def test_images_of_the_crop_size_are_predicted_as_in_validation(tmp_path, rooms, finished_run, sizing):
    image_id = (rooms / "gt_sets" / "val.txt").read_text().split()[0]
    source = rooms / "images" / f"{image_id}.png"
    predict(finished_run, source, tmp_path, "predict.arrays=true", f"predict.sizing={sizing}")
    files = sorted((finished_run / "predictions").rglob(f"{image_id}.*"))
    assert len(files) == 4
    for file in files:
        own = stored(tmp_path / file.relative_to(finished_run / "predictions")).astype(np.float64)
        # One image instead of a batch of two: sums may round differently.
        assert np.abs(own - stored(file)).max() <= (1e-4 if file.suffix == ".npy" else 1)
    assert [path.name for path in (tmp_path / "panels").iterdir()] == [f"{image_id}.png"]


def test_a_folder_of_any_sizes_and_formats(tmp_path, finished_run):
    source, sizes = tmp_path / "in", {"small.png": (20, 30), "long.jpg": (33, 100), "grey.bmp": (50, 48)}
    source.mkdir()
    for name, (height, width) in sizes.items():
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert("L" if name.startswith("grey") else "RGB").save(source / name)
    (source / "notes.txt").write_text("no image")
    for sizing in ("tiled", "resize"):
        out = tmp_path / sizing
        predict(finished_run, source, out, "predict.arrays=true", f"predict.sizing={sizing}")
        for name, size in sizes.items():
            stem = name.split(".")[0]
            assert stored(out / "edge" / f"{stem}.png").shape == stored(out / "depth" / f"{stem}.npy").shape == size
            assert stored(out / "normals" / f"{stem}.png").shape == (*size, 3)
            assert stored(out / "semseg" / f"{stem}.png").max() < 40
            assert (out / "panels" / f"{stem}.png").is_file()


def test_arrays_are_written_on_request_only_and_the_run_folder_is_the_default(tmp_path, rooms, finished_run):
    run = shutil.copytree(finished_run, tmp_path / "run")
    image = next((rooms / "images").iterdir())
    run_stage(as_typed("stage=predict", f"checkpoint={run / 'checkpoints' / 'last.pt'}", f"input={image}"))
    assert [path.name for path in (run / "predicted").iterdir()] == ["panels"]


def test_unreadable_images_are_one_message_and_nothing_is_written(tmp_path, rooms, finished_run):
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGB", (40, 40)).save(source / "good.png")
    (source / "empty.png").write_bytes(b"")
    (source / "cut.jpg").write_bytes((source / "good.png").read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        predict(finished_run, source, tmp_path / "out")
    message = str(caught.value)
    assert "empty.png: cannot be read" in message and "cut.jpg: cannot be read" in message and "good.png" not in message
    assert not (tmp_path / "out").exists()


def test_nothing_to_predict_is_named(tmp_path, finished_run):
    for path, part in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no image")):
        with pytest.raises(UserError, match=part):
            predict(finished_run, path, tmp_path / "out")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="several images are called a"):
        predict(finished_run, tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="input=IMAGE"):
        as_typed("stage=predict", f"run={finished_run}")


def test_a_network_with_initial_predictions_predicts_the_final_ones(tmp_path, rooms):
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_mti_net", *QUICK))
    image = next((rooms / "images").iterdir())
    out = tmp_path / "out"
    predict(tmp_path / "runs" / "rooms_hrnet18_mti_net" / "seed0", image, out, "predict.arrays=true")
    assert {path.parent.name for path in out.glob("*/*.*")} == {"semseg", "depth", "normals", "edge", "panels"}


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photo_is_predicted_as_viewers_show_it(tmp_path, finished_run, orientation):
    upright = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(upright).save(source / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = np.ascontiguousarray(np.rot90(upright, {3: 2, 6: 1}[orientation]))  # as the camera was held
    Image.fromarray(turned).save(source / "stored.png", exif=exif)
    predict(finished_run, source, tmp_path / "out", "predict.arrays=true")
    for file in ("semseg/{}.png", "depth/{}.npy", "normals/{}.png", "edge/{}.png", "panels/{}.png"):
        found, expected = (stored(tmp_path / "out" / file.format(name)) for name in ("stored", "upright"))
        np.testing.assert_array_equal(found, expected)
