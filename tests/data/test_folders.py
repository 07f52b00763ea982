"""One's own dataset in folders: every encoding against the arrays that were written, and mistakes in one line."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrc_exp.config import Config, DatasetConfig, EngineConfig
from atrc_exp.config.folders import FoldersConfig, LabelFilesConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.data.loader import build_datasets, train_loader, val_loader
from atrc_exp.errors import UserError
from atrc_exp.tasks import IGNORE

SIZE, CLASSES = (40, 52), 5
IDS = ("a/one", "a/two", "b/three", "four")
CPU = torch.device("cpu")
LABELS = {
    "semseg": LabelFilesConfig(folder="labels", suffix="_ids.png", first=3, invalid=[0]),
    "depth": LabelFilesConfig(folder="range", scale=0.001),
    "normals": LabelFilesConfig(folder="normals"),
    "sal": LabelFilesConfig(folder="salient", encoding="mask", threshold=99, invalid=[7]),
}


def save(root: Path, folder: str, name: str, array: np.ndarray) -> None:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)


@pytest.fixture
def truth(tmp_path):
    """By id, what the reader must deliver of the dataset that this writes to `tmp_path`; one has no depth."""
    rng, expected = np.random.default_rng(0), {}
    for id in IDS:
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        semseg = rng.integers(0, CLASSES, SIZE, dtype=np.uint8)
        millimetres = rng.integers(0, 9000, SIZE).astype(np.uint16)
        normals = rng.normal(size=(*SIZE, 3)).astype(np.float32)
        salient = rng.integers(0, 256, SIZE, dtype=np.uint8)
        salient[0, :3] = (99, 100, 7)
        stored = semseg + np.uint8(3)
        stored[:4] = 0
        save(tmp_path, "images", f"{id}.png", image)
        save(tmp_path, "labels", f"{id}_ids.png", stored)
        save(tmp_path, "normals", f"{id}.npy", normals)
        save(tmp_path, "salient", f"{id}.png", salient)
        if id != "b/three":
            save(tmp_path, "range", f"{id}.png", millimetres)
        semseg[:4] = IGNORE
        sal = (salient > 99).astype(np.uint8)
        sal[salient == 7] = IGNORE
        depth = millimetres.astype(np.float32) * np.float32(0.001) * (id != "b/three")
        expected[id] = {"image": image, "semseg": semseg, "depth": depth, "normals": normals, "sal": sal}
    (tmp_path / "train.txt").write_text("a/one\r\nb/three\r\na/two\r\n")
    (tmp_path / "val.txt").write_text("four\n")
    return expected


def config(
    root, labels=LABELS, *, tasks=None, crop_labels=None, packed=False, classes=CLASSES, task_table=None, **folders
) -> Config:
    return Config(
        name="test",
        dataset=DatasetConfig(
            name="mine", reader="folders", root=str(root), tasks=list(labels) if tasks is None else tasks,
            num_classes={"semseg": classes}, crop=[32, 32], crop_labels=crop_labels, packed=packed,
            edge_positive_weight=0.9, edge_max_distance=0.01,
            cache_dir=str(root / "cache"), task_table=task_table or {},
            folders=FoldersConfig(labels=dict(labels), **folders),
        ),
        engine=EngineConfig(batch_size=3, workers=0, progress=False),
    )  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_every_encoding_gives_what_was_stored(tmp_path, truth, packed):
    data = build_datasets(config(tmp_path, packed=packed))
    assert data.train.ids == ["a/one", "b/three", "a/two"] and data.val.ids == ["four"]
    for split in (data.train, data.val):
        for index, id in enumerate(split.ids):
            sample = split.load(index, list(LABELS))
            for name, array in {"image": sample.image, **sample.labels}.items():
                np.testing.assert_array_equal(array, truth[id][name], err_msg=f"{id} {name}")
                assert array.dtype == truth[id][name].dtype
    assert data.info.notes == ["2 of 3 train images have labels of depth"]


def test_an_image_without_a_label_counts_in_no_loss(tmp_path, truth):
    from atrc_exp.config.derived import build_tasks_of
    from atrc_exp.losses import build_losses

    settings = config(tmp_path, {"depth": LABELS["depth"]})
    (batch,) = train_loader(build_datasets(settings), settings, start_iteration=0, iterations=1, rank=0, world=1,
                            device=CPU)  # fmt: skip
    missing = batch.ids.index("b/three")
    assert not batch.labels["depth"][missing].any() and batch.labels["depth"].any()
    prediction = torch.zeros_like(batch.labels["depth"], requires_grad=True)
    build_losses(build_tasks_of(settings))({"depth": prediction}, {}, batch.labels)["depth"].backward()
    assert not prediction.grad[missing].any() and prediction.grad.any()


def test_a_validation_image_without_a_label_changes_no_score(tmp_path, truth):
    from atrc_exp.config.derived import build_tasks_of
    from atrc_exp.evaluation.scores import Scores
    from atrc_exp.processes.ranks import Ranks

    labels = {**LABELS, "edge": LabelFilesConfig(folder="salient", encoding="mask")}
    settings = config(tmp_path, labels)
    tasks = build_tasks_of(settings)
    (batch,) = val_loader(build_datasets(settings), settings, rank=0, world=1, device=CPU)
    draw = torch.Generator().manual_seed(0)
    label = {name: values[0] for name, values in batch.labels.items()}
    guess = {task.name: torch.randn(task.channels, *SIZE, generator=draw) for task in tasks}
    absent = {name: torch.full_like(values, IGNORE) if values.ndim == 2 else torch.zeros_like(values)
              for name, values in label.items()}  # fmt: skip

    def scores(*images) -> dict[str, float]:
        scored = Scores(tasks, Ranks())
        for number, image in enumerate(images):
            scored.add(str(number), guess, image)
        return {name: value for name, value in scored.compute().items() if not name.endswith("/invalid_pixels")}

    assert scores(label, absent) == pytest.approx(scores(label), nan_ok=True)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int8", "int64", "float32", "float64"])
def test_class_maps_of_every_type(tmp_path, truth, kind):
    labels = {"semseg": LabelFilesConfig(folder="arrays", first=3, invalid=[0])}
    for id in IDS:
        with Image.open(tmp_path / "labels" / f"{id}_ids.png") as image:
            save(tmp_path, "arrays", f"{id}.npy", np.asarray(image).astype(kind))
    data = build_datasets(config(tmp_path, labels))
    np.testing.assert_array_equal(data.train.load(0, ["semseg"]).labels["semseg"], truth["a/one"]["semseg"])
    save(tmp_path, "arrays", "a/one.npy", np.full(SIZE, 100).astype(kind))
    with pytest.raises(UserError, match=r"one\.npy: .*\b100\b.* 3 to 7"):
        data.train.load(0, ["semseg"])


def test_numbers_that_are_none_are_unlabelled_and_fractions_no_classes(tmp_path, truth):
    (tmp_path / "labels" / "a" / "one_ids.png").unlink()
    (tmp_path / "salient" / "a" / "one.png").unlink()
    stored = np.full(SIZE, 4.0, np.float32)
    stored[0] = np.nan
    save(tmp_path, "labels", "a/one_ids.npy", stored)
    save(tmp_path, "salient", "a/one.npy", np.where(np.isnan(stored), stored, 120))
    labels = {"semseg": replace(LABELS["semseg"], suffix="_ids.npy"), "sal": LABELS["sal"]}
    for id in IDS[1:]:
        with Image.open(tmp_path / "labels" / f"{id}_ids.png") as image:
            save(tmp_path, "labels", f"{id}_ids.npy", np.asarray(image))
    found = build_datasets(config(tmp_path, labels)).train.load(0, ["semseg", "sal"]).labels
    for label in found.values():
        assert (label[0] == IGNORE).all() and (label[1:] == 1).all()
    stored[3, 3] = 4.5
    save(tmp_path, "labels", "a/one_ids.npy", stored)
    with pytest.raises(UserError, match=r"a/one_ids\.npy: .*4\.5.* 3 to 7"):
        build_datasets(config(tmp_path, labels)).train.load(0, ["semseg"])


def test_patterns_name_splits(tmp_path, truth):
    data = build_datasets(config(tmp_path, train="a/*.png", val="b/*.png", tasks=["semseg"]))
    assert data.train.ids == ["a/one", "a/two"] and data.val.ids == ["b/three"]


@pytest.mark.parametrize(
    ("tasks", "given", "guide"),
    [(["sal", "depth"], "sal", "sal"), (["depth"], None, None), (["depth", "semseg"], None, "semseg")],
)
def test_which_classes_guide_the_crop(tmp_path, truth, caplog, tasks, given, guide):
    settings = config(tmp_path, tasks=tasks, crop_labels=given)
    data = build_datasets(settings)
    with caplog.at_level("INFO"):
        loader = train_loader(data, settings, start_iteration=0, iterations=1, rank=0, world=1, device=CPU)
        (batch,) = loader
    said = [record.message for record in caplog.records if "drawn uniformly" in record.message]
    assert len(said) == (guide is None) and set(batch.labels) == set(tasks)
    assert loader.loader.dataset.transform.pipeline.transforms[0].labels == guide


OWN = {
    "albedo": TaskConfig(kind="regression", channels=3, range=[0, 1]),
    "flow": TaskConfig(kind="regression", channels=2, range=[-9, 9]),
    "heat": TaskConfig(kind="regression", channels=1, range=[0, 2]),
    "stereo": TaskConfig(kind="disparity", range=[1, 128]),
}
OWN_LABELS = {
    "albedo": LabelFilesConfig(folder="albedo", scale=1 / 255, invalid=[0]),
    "flow": LabelFilesConfig(folder="flow", scale=2.0),
    "heat": LabelFilesConfig(folder="heat", scale=0.001, offset=-1.0, invalid=[7]),
    "stereo": LabelFilesConfig(folder="stereo", scale=1 / 256, offset=-1 / 256),
}


def own_files(root: Path) -> dict[str, np.ndarray]:
    """What the reader must deliver of image a/one, which has no flow; the others have the same files, and flow."""
    rng = np.random.default_rng(3)
    albedo = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    albedo[0, :2] = (0, 0, 0), (0, 9, 0)  # black has no label, a channel without light has
    flow = rng.normal(size=(*SIZE, 2)).astype(np.float32)
    flow[1, 1, 0], flow[1, 2, 1] = np.nan, np.inf
    heat = rng.integers(8, 3000, SIZE).astype(np.uint16)
    heat[2] = 7
    stereo = rng.integers(0, 65536, SIZE).astype(np.uint16)
    stereo[3] = 0
    for id in IDS:
        save(root, "albedo", f"{id}.png", albedo)
        save(root, "heat", f"{id}.png", heat)
        save(root, "stereo", f"{id}.png", stereo)
        if id != "a/one":
            save(root, "flow", f"{id}.npy", flow)
    expected = {"albedo": albedo / 255.0, "heat": heat / 1000.0 - 1, "stereo": (stereo - 1.0) / 256}
    expected["albedo"][0, 0] = expected["heat"][2] = np.nan
    return {**expected, "flow": 2.0 * flow}


@pytest.mark.parametrize("packed", [False, True])
def test_values_of_own_tasks(tmp_path, truth, packed):
    expected = own_files(tmp_path)
    data = build_datasets(config(tmp_path, OWN_LABELS, packed=packed, task_table=OWN))
    one, two = (data.train.load(index, list(OWN)).labels for index in (0, 2))
    expected["flow"][1, 1:3] = np.nan
    for name, label in two.items():
        valid = label > 0 if name == "stereo" else np.isfinite(label)
        wanted = expected[name] > 0 if name == "stereo" else np.isfinite(expected[name])
        np.testing.assert_array_equal(valid, wanted, err_msg=name)
        np.testing.assert_allclose(label[valid], expected[name][valid], rtol=1e-5, atol=1e-6, err_msg=name)
        assert label.dtype == np.float32
    assert one["flow"].shape == (*SIZE, 2) and np.isnan(one["flow"]).all()
    np.testing.assert_array_equal(one["heat"], two["heat"])


def test_values_in_files_that_cannot_hold_them(tmp_path, truth):
    own_files(tmp_path)
    save(tmp_path, "flow", "a/two.npy", np.zeros((*SIZE, 3), np.float32))
    data = build_datasets(config(tmp_path, OWN_LABELS, task_table=OWN))
    with pytest.raises(UserError, match=r"two\.npy: .*\(40, 52, 3\).*\(H, W, 2\)"):
        data.train.load(2, ["flow"])
    (tmp_path / "flow" / "a" / "two.npy").unlink()
    save(tmp_path, "flow", "a/two.png", np.zeros((*SIZE, 3), np.uint8))
    data = build_datasets(config(tmp_path, OWN_LABELS, task_table=OWN))
    with pytest.raises(UserError, match=r"two\.png: .*flow .*2 "):
        data.train.load(2, ["flow"])


PALETTE = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [70, 130, 180]]
VOID = [[224, 224, 192], [0, 0, 1]]


def colour_maps(root: Path, *, extra: tuple[int, int, int] | None = None) -> None:
    """Colour-coded copies of the class maps; as RGB, RGBA and palette images, some pixels of another colour."""
    for number, id in enumerate(IDS):
        stored = np.asarray(Image.open(root / "labels" / f"{id}_ids.png"))
        colours = np.array([VOID[0], VOID[1], VOID[0], *PALETTE], np.uint8)[stored]
        if extra is not None:
            colours[5, :7] = extra
            colours[6, :2] = 9
        path = root / "colours" / f"{id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(colours)
        (image, image.convert("RGBA"), image.quantize(16, dither=Image.Dither.NONE))[number % 3].save(path)


COLOURS = LabelFilesConfig(folder="colours", encoding="colours", colours=PALETTE, invalid_colours=VOID)


@pytest.mark.parametrize("packed", [False, True])
def test_colours_are_the_classes_of_the_table(tmp_path, truth, packed):
    colour_maps(tmp_path)
    data = build_datasets(config(tmp_path, {"semseg": COLOURS}, packed=packed))
    for split in (data.train, data.val):
        for index, id in enumerate(split.ids):
            found = split.load(index, ["semseg"]).labels["semseg"]
            with Image.open(tmp_path / "colours" / f"{id}.png") as image:  # pixel by pixel, without NumPy
                rgb = image.convert("RGB")
            pixels = [list(rgb.getpixel((column, row))) for row in range(SIZE[0]) for column in range(SIZE[1])]
            names = [PALETTE.index(pixel) if pixel in PALETTE else IGNORE for pixel in pixels]
            assert found.ravel().tolist() == names and found.dtype == np.uint8
            np.testing.assert_array_equal(found, truth[id]["semseg"])


def test_colours_outside_the_table_are_an_error_or_unlabelled(tmp_path, truth):
    colour_maps(tmp_path, extra=(1, 2, 3))
    words = r"a/one\.png: the colour \[1, 2, 3\] of 7 pixels and 1 more are unknown; complete .*semseg\.colours"
    with pytest.raises(UserError, match=words):
        build_datasets(config(tmp_path, {"semseg": COLOURS})).train.load(0, ["semseg"])
    lenient = build_datasets(config(tmp_path, {"semseg": replace(COLOURS, invalid_colours=None)}))
    found, expected = lenient.train.load(0, ["semseg"]).labels["semseg"], truth["a/one"]["semseg"].copy()
    expected[5, :7] = expected[6, :2] = IGNORE
    np.testing.assert_array_equal(found, expected)


def broken(labels=None, **changes):
    return lambda root: build_datasets(config(root, {**LABELS, **(labels or {})}, **changes)).train.load(
        0, list(LABELS)
    )


def wide_label(root):
    save(root, "labels", "a/one_ids.png", np.full((40, 60), 3, np.uint8))
    broken()(root)


def two_images(root):
    save(root, "images", "four.jpg", np.zeros((*SIZE, 3), np.uint8))
    broken()(root)


def colour_label(root):
    save(root, "labels", "a/one_ids.png", np.zeros((*SIZE, 3), np.uint8))
    broken()(root)


def lossy_label(root):
    stored = np.full(SIZE, 4, np.uint8)
    Image.fromarray(stored).save(root / "labels" / "a" / "one_ids.png", "JPEG")
    broken()(root)


def image_in_metres(root):
    (root / "images" / "four.png").unlink()
    save(root, "images", "four.npy", np.full((*SIZE, 3), 1.5, np.float32))
    build_datasets(config(root, tasks=["semseg"])).val.load(0, ["semseg"])


def unknown_id(root):
    (root / "val.txt").write_text("four\nfive\n")
    broken()(root)


def in_both(root):
    (root / "val.txt").write_text("four\na/one\n")
    broken()(root)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (broken({"depth": LabelFilesConfig(folder="rang")}), "depth.folder=rang: there is no folder"),
        (broken({"depth": LabelFilesConfig(folder="range", encoding="indices")}), "must be metres for a task of kind"),
        (broken({"sal": LabelFilesConfig(folder="salient", suffix="_sal.png")}), "no train image has a label"),
        (broken(images="pictures"), "images=pictures: there is no folder"),
        (broken(train="c/*.png"), "no image in .* matches this pattern"),
        (broken(train="none.txt"), "none.txt: this file is missing"),
        (broken(classes=4), r"one_ids.png: holds the value 7; allowed are 3 to 6 for the classes of semseg and 0"),
        (broken(tasks=["semseg", "edge"]), "labels: lacks edge"),
        (
            broken({"semseg": LabelFilesConfig(folder="labels", encoding="colours", colours=[[0, 0, 0]])}),
            "has 1 colours, one a class; semseg has 5 classes",
        ),
        (broken(class_names={"semseg": ["wall"]}), "has 1 names, one a class; semseg has 5 classes"),
        (wide_label, "one_ids.png: has 40 x 60 pixels, its image one.png has 40 x 52"),
        (two_images, "four is there twice, as four.jpg and four.png"),
        (colour_label, "one_ids.png: is an image of kind '8-bit RGB'; must be"),
        (lossy_label, "one_ids.png: is stored as JPEG"),
        (
            broken({"semseg": replace(LABELS["semseg"], first=0, mapping={3: 0, 4: 1, 5: 2, 6: 4})}),
            r"semseg\.mapping=.*must map values to each of the classes 0 to 4",
        ),
        (image_in_metres, r"four\.npy: holds float32 from 1\.5 to 1\.5; an image must be"),
        (unknown_id, "val.txt: 1 of 2 ids have no image in .*: five"),
        (in_both, "a/one is in both splits"),
    ],
)
def test_mistakes_are_one_line(tmp_path, truth, mistake, words):
    with pytest.raises(UserError, match=words) as raised:
        mistake(tmp_path)
    assert "\n" not in str(raised.value)


def test_mistakes_in_the_description():
    with pytest.raises(UserError, match=r"encoding=palette: .*indices, mask, colours, metres, values, vectors"):
        LabelFilesConfig(folder="labels", encoding="palette")
    for colours, words in (([[0, 0]], "each 0 to 255"), ([[0, 0, 256]], "each 0 to 255"), ([[1, 2, 3]] * 2, "once")):
        with pytest.raises(UserError, match=rf"colours=.*: must be .*{words}"):
            LabelFilesConfig(folder="labels", encoding="colours", colours=colours)
    with pytest.raises(UserError, match="given with encoding=colours only"):
        LabelFilesConfig(folder="labels", colours=[[0, 0, 0]])
    with pytest.raises(UserError, match=r"mapping=.*without first"):
        LabelFilesConfig(folder="labels", mapping={1: 0}, first=1)
    with pytest.raises(UserError, match=r"dataset\.crop_labels=depth: .*null"):
        config(Path("x"), crop_labels="depth")
    with pytest.raises(UserError, match=r"does not exist; it must hold the folders"):
        build_datasets(config(Path("nowhere")))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("orientation", [3, 6])
def test_photos_are_upright_and_labels_must_be(tmp_path, truth, packed, orientation):
    """A camera stores what it sees and how to turn it; labels are drawn on the upright photo."""
    turns = {3: 2, 6: 1}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(np.rot90(truth["a/one"]["image"], turns))
    Image.fromarray(stored).save(tmp_path / "images" / "a" / "one.png", exif=exif)
    data = build_datasets(config(tmp_path, packed=packed))
    sample = data.train.load(0, list(LABELS))
    for name, array in {"image": sample.image, **sample.labels}.items():
        np.testing.assert_array_equal(array, truth["a/one"][name], err_msg=name)


def test_a_label_that_fits_the_stored_pixels_only_says_why(tmp_path, truth):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(truth["a/one"]["image"]).save(tmp_path / "images" / "a" / "one.png", exif=exif)
    with pytest.raises(UserError, match=r"one_ids\.png: has 40 x 52 .*one\.png has 52 x 40.* EXIF orientation 6"):
        build_datasets(config(tmp_path)).train.load(0, ["semseg"])


def test_labels_that_no_task_needs_may_be_missing(tmp_path, truth):
    shutil.rmtree(tmp_path / "range")
    settings = config(tmp_path)
    with pytest.raises(UserError, match=r"depth\.folder=range: there is no folder"):
        build_datasets(settings)
    data = build_datasets(replace(settings, tasks=["semseg", "sal"]))
    np.testing.assert_array_equal(data.train.load(0, ["sal"]).labels["sal"], truth["a/one"]["sal"])
    assert "0 of 3 train images have labels of depth" in data.info.notes


@pytest.mark.parametrize("classes", [0, 1, 256, 300])
def test_more_classes_than_maps_can_hold_are_refused(tmp_path, classes):
    with pytest.raises(UserError, match=rf"num_classes\.semseg={classes}: must be 2 to 255"):
        config(tmp_path, classes=classes)


@pytest.mark.parametrize("packed", [False, True])
def test_255_classes_of_16_bits_stay_apart(tmp_path, truth, packed):
    stored = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) % 256 + 1000
    for id in IDS:
        save(tmp_path, "wide", f"{id}.png", stored)
    label = LabelFilesConfig(folder="wide", first=1000, invalid=[1255])
    data = build_datasets(config(tmp_path, {"semseg": label}, classes=255, packed=packed))
    found = data.val.load(0, ["semseg"]).labels["semseg"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, stored - 1000)  # value 1255 is unlabelled, which is 255


@pytest.mark.parametrize("packed", [False, True])
def test_a_mapping_merges_values(tmp_path, truth, packed):
    label = replace(LABELS["semseg"], first=0, mapping={3: 1, 4: 0, 5: 1, 7: 2}, invalid=[0, 6])
    data = build_datasets(config(tmp_path, {"semseg": label}, classes=3, packed=packed))
    merged = {IGNORE: IGNORE, 0: 1, 1: 0, 2: 1, 3: IGNORE, 4: 2}  # of the classes that are stored from 3 on
    for index, id in enumerate(data.train.ids):
        found = data.train.load(index, ["semseg"]).labels["semseg"]
        assert found.ravel().tolist() == [merged[value] for value in truth[id]["semseg"].ravel().tolist()]


def test_ids_of_several_folders_begin_with_what_tells_them_apart(tmp_path, truth):
    for id in IDS:
        name = id.replace("/", "_")
        for folder, source in (("day/images/left", f"images/{id}"), ("day/maps/left", f"labels/{id}_ids")):
            (tmp_path / "many" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / f"{source}.png", tmp_path / "many" / folder / f"{name}.png")
    shutil.copytree(tmp_path / "many" / "day", tmp_path / "many" / "night")
    label = replace(LABELS["semseg"], folder="*/maps/*", suffix=None)
    splits = {"images": "*/images/*", "train": "day/*/*", "val": "night/*/*"}
    data = build_datasets(config(tmp_path / "many", {"semseg": label}, **splits))
    assert data.train.ids == [f"day/left/{id.replace('/', '_')}" for id in sorted(IDS)] and len(data.val) == len(IDS)
    found = data.val.load(0, ["semseg"])
    np.testing.assert_array_equal(found.image, truth["a/one"]["image"])
    np.testing.assert_array_equal(found.labels["semseg"], truth["a/one"]["semseg"])
