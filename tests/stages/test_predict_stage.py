"""`stage=predict`: any image, all tasks, panels and arrays."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_rooms import QUICK, as_typed, command

from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.decode import read_photo
from atrc_exp.errors import UserError
from atrc_exp.normalisation import IMAGENET
from atrc_exp.stages import run_stage
from atrc_exp.stages.predict import _Network, find_images


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_evaluation_and_prediction_agree_on_images_larger_than_the_crop(tmp_path, rooms):
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_multi_task", *QUICK, "dataset.crop=[32,32]"))
    run = tmp_path / "runs" / "rooms_hrnet18_multi_task" / "seed0"
    run_stage(as_typed("stage=evaluate", f"run={run}", f"output={tmp_path / 'evaluated'}",
                       "engine.save_predictions=true", "engine.val_batch_size=1"))  # fmt: skip
    predict(run, rooms / "images", tmp_path / "predicted", "predict.arrays=true")
    files = sorted((tmp_path / "evaluated" / "predictions").rglob("*.*"))
    assert len(files) == 8
    for file in files:
        own = stored(tmp_path / "predicted" / file.relative_to(tmp_path / "evaluated" / "predictions"))
        # Normals are normalised once more; a last bit may then be rounded to another of the 256 values.
        assert own.shape == stored(file).shape
        difference = np.abs(own.astype(np.float64) - stored(file))
        assert difference.max() <= (1e-5 if file.suffix == ".npy" else "normals" in file.parts)


def test_a_folder_of_arrays_is_predicted_as_its_images(tmp_path, finished_run):
    source = tmp_path / "in"
    source.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(source / "image.png")
    np.save(source / "array.npy", (pixels / 255).astype(np.float32))
    (source / "cut.npy").write_bytes((source / "array.npy").read_bytes()[:300])
    np.save(source / "depth.npy", np.ones((33, 50), np.float32))
    with pytest.raises(UserError) as caught:
        predict(finished_run, source, tmp_path / "out", "predict.arrays=true")
    message = str(caught.value)
    assert "2 of 4" in message and "cut.npy" in message and "depth.npy" in message and "array.npy" not in message
    for file in ("semseg/{}.png", "depth/{}.npy", "panels/{}.png"):
        found, expected = (stored(tmp_path / "out" / file.format(name)) for name in ("array", "image"))
        np.testing.assert_array_equal(found, expected)


PIXELS = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
KINDS = {"one.png": "1", "grey.png": "L", "alpha.png": "LA", "palette.png": "P", "clear.png": "RGBA",
         "press.jpg": "CMYK", "press.tif": "CMYK", "lab.tif": "LAB"}  # fmt: skip


def test_photos_of_every_kind_are_read(tmp_path):
    colours = Image.fromarray(PIXELS)
    for name, mode in KINDS.items():
        image = colours.convert(mode) if mode != "LAB" else Image.new("LAB", (50, 33))
        image.save(tmp_path / name)
        assert read_photo(tmp_path / name).shape == (33, 50, 3), name
    one = read_photo(tmp_path / "one.png")
    assert set(np.unique(one)) == {0, 255}
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_photo(tmp_path / "deep.png").tolist() == [[[0] * 3, [0] * 3, [1] * 3, [255] * 3]]
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif.*range of values"):
        read_photo(tmp_path / "float.tif")


@pytest.mark.slow
def test_a_bad_image_leaves_the_others_and_is_listed_at_the_end(tmp_path, finished_run):
    source = tmp_path / "in"
    for folder in ("kitchen", "hall/first"):
        (source / folder).mkdir(parents=True)
        Image.fromarray(PIXELS).convert("CMYK").save(source / folder / "a.jpg")
    Image.fromarray(PIXELS).save(source / "kitchen" / "a.png")
    (source / "kitchen" / "empty.png").write_bytes(b"")
    (source / "cut.jpg").write_bytes((source / "kitchen" / "a.jpg").read_bytes()[:300])
    (source / ".hidden").mkdir()
    (source / ".hidden" / "b.png").write_bytes(b"")
    out = source / "predicted"
    for _ in range(2):  # the second time what the first one wrote lies below the input
        with pytest.raises(UserError) as caught:
            predict(finished_run, source, out, "predict.arrays=true")
        message = str(caught.value)
        assert "2 of 5" in message and "empty.png" in message and "cut.jpg" in message and "a.jpg" not in message
        panels = {str(path.relative_to(out / "panels")) for path in (out / "panels").rglob("*.png")}
        assert panels == {"kitchen/a.jpg.png", "kitchen/a.png.png", "hall/first/a.png"}
    assert stored(out / "depth" / "hall" / "first" / "a.npy").shape == (33, 50)


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("a.png", "a.jpg", "a.png.jpg"), ("x/a.png", "y/a.png")])
def test_no_two_images_have_one_id(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path, tmp_path / "out")
    assert sorted(str(path.relative_to(tmp_path)) for path in found.values()) == sorted(names)


def test_nothing_to_predict_is_named(tmp_path, finished_run):
    for path, part in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no image")):
        with pytest.raises(UserError, match=part):
            predict(finished_run, path, tmp_path / "out")
    with pytest.raises(UserError, match="input=IMAGE"):
        as_typed("stage=predict", f"run={finished_run}")


class Stub:
    """Stands for a network: depth is the image's first channel; it remembers the sizes that it was called with."""

    def __init__(self, only=None):
        self.only, self.sizes = only, []

    def __call__(self, image):
        size = tuple(image.shape[2:])
        assert self.only in (None, size), "a Vision Transformer of another size"
        self.sizes.append(size)
        return SimpleNamespace(final={"depth": image[:, :1] + 0})


def applied(stub, image, monkeypatch, free):
    config = as_typed("dataset.crop=[32,48]", "tasks=[depth]")
    monkeypatch.setattr("atrc_exp.stages.predict.free_bytes", lambda device: free)
    trained = SimpleNamespace(predict=stub, codebook=None, normalisation=IMAGENET)
    network = _Network(config, trained, build_tasks_of(config), torch.device("cpu"))
    done = []
    arrays = network.predict(image, lambda *, share: done.append(share))
    assert sum(done) == pytest.approx(1)
    return arrays["depth"]


def test_tiles_are_as_large_as_the_free_memory_allows(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    whole = applied(roomy := Stub(), image, monkeypatch, 2**40)
    assert roomy.sizes[-1] == (300, 400)
    areas = []
    for free in (2**20, 2**19, 2**10):
        tiled = applied(tight := Stub(), image, monkeypatch, free)
        np.testing.assert_allclose(tiled, whole, atol=1e-4)
        areas.append(tight.sizes[-1][0] * tight.sizes[-1][1])
    assert 300 * 400 > areas[0] > areas[1] > areas[2] == 32 * 48
    assert applied(unknown := Stub(), image, monkeypatch, None).shape == (300, 400)
    assert unknown.sizes[-1] == (300, 400)


def test_a_network_of_one_size_gets_tiles_of_it(monkeypatch):
    image = np.zeros((70, 100, 3), np.uint8)
    assert applied(fixed := Stub((32, 48)), image, monkeypatch, 2**40).shape == (70, 100)
    assert set(fixed.sizes) == {(32, 48)}


@pytest.mark.slow
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
