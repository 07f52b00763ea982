"""The PASCAL-Context reader: every label against a second reading of the same files, and the cache of derived maps."""

import logging
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pascal_files import BARE, HIDDEN, NOBODY, PARTED, PARTS, objects_of, write_annotation, write_pascal
from pascal_oracle import read_labels
from PIL import Image
from scipy.io import savemat

from atrc_exp.config import Config, DatasetConfig, EngineConfig
from atrc_exp.data.loader import train_loader, val_loader
from atrc_exp.data.readers import pascal
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.pascal import label_boundaries
from atrc_exp.data.readers.pascal_classes import CLASS_NAMES, CLASSES_WITH_NORMALS, PART_IDS
from atrc_exp.data.readers.sample import Data
from atrc_exp.errors import UserError

TASKS = ["semseg", "human_parts", "sal", "normals", "edge"]


def dataset(root: Path, **keys) -> DatasetConfig:
    values = {"name": "pascal", "reader": "pascal", "num_classes": {"semseg": 21}, "tasks": TASKS, "crop": [64, 64],
              "edge_positive_weight": 0.95, "edge_max_distance": 0.0075,
              "root": str(root), "cache_dir": str(root.parent / "cache")}  # fmt: skip
    return DatasetConfig(**{**values, **keys})


def opened(root: Path, **keys) -> Data:
    return open_dataset(dataset(root, **keys))


def error_of(root: Path, index: int = 0, **keys) -> str:
    with pytest.raises(UserError) as raised:
        opened(root, **keys).train.load(index, TASKS)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def root(tmp_path):
    write_pascal(tmp_path / "PASCAL_MT")
    return tmp_path / "PASCAL_MT"


def test_ten_images_agree_with_another_reading_of_their_files(tmp_path):
    kinds = write_pascal(tmp_path / "data", train=6, val=4)
    data = opened(tmp_path / "data")
    for attempt in ("derived", "from the cache"):
        for split in (data.train, data.val):
            for index, id in enumerate(split.ids):
                sample, expected = split.load(index, TASKS), read_labels(tmp_path / "data", id, CLASSES_WITH_NORMALS)
                for task, label in sample.labels.items():
                    np.testing.assert_allclose(label, expected[task], atol=1e-6, err_msg=f"{task} of {id}, {attempt}")
                    assert label.dtype == (np.float32 if task == "normals" else np.uint8)
                with Image.open(tmp_path / "data" / "JPEGImages" / f"{id}.jpg") as image:
                    np.testing.assert_array_equal(sample.image, np.array(image))
                assert sample.labels["human_parts"].any() == (kinds[id] == PARTED)
                assert sample.labels["edge"].any() and sample.labels["normals"].any()


def test_info_names_both_splits_and_their_classes(root):
    info = opened(root, counts=[4998, 5105]).info
    assert info.counts == {"train": 3, "val": 2} and info.packaging == "voc"
    assert "4998 training and 5105 validation" in info.notes[0]
    assert {task: len(names) for task, names in info.class_names.items()} == {"semseg": 21, "human_parts": 7, "sal": 2}


def test_published_lists():
    assert len(set(CLASSES_WITH_NORMALS)) == 170 and 427 in CLASSES_WITH_NORMALS
    # bottle, car, cat, dog, person, sofa and chair, but neither 0, unknown, aeroplane, bird, boat, bus, cow nor train
    assert {34, 59, 65, 113, 284, 368, 72} < set(CLASSES_WITH_NORMALS)
    assert not {0, 431, 2, 25, 31, 45, 98, 416} & set(CLASSES_WITH_NORMALS)
    assert set(PART_IDS) == set(PARTS) and len(PARTS) == 24 and len(CLASS_NAMES) == 21


def test_boundaries_of_worked_label_maps():
    step = np.zeros((5, 6), np.uint16)
    step[:, 3:] = 400  # larger than eight bits
    assert label_boundaries(step)[1:, 2:4].sum(axis=1).tolist() == [1] * 4  # thinning takes the end of a line
    assert label_boundaries(step).sum() == 4
    ramp = np.repeat(np.arange(6)[None] * 10, 5, axis=0)  # every inner label lies midway between its neighbours
    assert not label_boundaries(ramp)[:, 1:-1].any()


def test_borders_of_regions_are_another_map_than_the_boundaries_to_train_on(root):
    ramp = np.repeat(np.arange(37)[None] // 9 * 10, 50, axis=0).astype(np.uint16)
    ramp[:, 20:] = 40  # 0, 10, 20, 40
    savemat(root / "pascal-context" / "trainval" / "2008_000001.mat", {"LabelMap": ramp})
    data = opened(root)
    for _ in ("derived", "from the cache"):
        borders = data.truth.borders("2008_000001")
        assert np.flatnonzero(borders.any(axis=0)).tolist() == [8, 17, 19]
        assert borders[:, [8, 17, 19]].all()
    # the ramp's one-pixel steps 0 10 and 20 40 respond on both sides before thinning
    assert not np.array_equal(borders, data.train.load(0, ["edge"]).labels["edge"])


@pytest.mark.parametrize("kind", [NOBODY, BARE, HIDDEN])
def test_images_without_parts_are_ignored_in_training_and_validation(tmp_path, kind):
    write_pascal(tmp_path / "data", train=2, val=2)
    for number, own in enumerate((kind, kind, PARTED, kind), 1):
        size = (37, 50) if number % 2 == 0 else (50, 37)
        objects = objects_of(own, size, np.random.default_rng(number))
        write_annotation(tmp_path / "data" / "human_parts" / f"2008_{number:06d}.mat", objects)
    config = Config(name="test", dataset=dataset(tmp_path / "data"), engine=EngineConfig(batch_size=2, workers=0))
    data, cpu = open_dataset(config.dataset), torch.device("cpu")
    for batch in train_loader(data, config, start_iteration=0, iterations=3, rank=0, world=1, device=cpu):
        assert (batch.labels["human_parts"] == 255).all()
    (batch,) = val_loader(data, config, rank=0, world=1, device=cpu)
    labelled, ignored = batch.labels["human_parts"]
    assert (ignored == 255).all() and set(labelled[7:57, 13:50].unique().tolist()) > {0}


def test_validation_pads_to_the_centre_of_the_canvas(root):
    config = Config(name="test", dataset=dataset(root), engine=EngineConfig(val_batch_size=2, workers=0))
    data = open_dataset(config.dataset)
    (batch,) = val_loader(data, config, rank=0, world=1, device=torch.device("cpu"))
    assert batch.image.shape == (2, 3, 64, 64) and batch.sizes.tolist() == [[37, 50], [50, 37]]
    assert (batch.image[0][:, :13] == 0).all() and (batch.image[0][:, 50:] == 0).all()
    for task, fill in {"semseg": 255, "sal": 255, "edge": 255, "normals": 0}.items():
        label = batch.labels[task][0]
        inside = label[..., 13:50, 7:57].clone()
        label[..., 13:50, 7:57] = fill
        assert (label == fill).all()
        expected = torch.from_numpy(data.val.load(0, [task]).labels[task])
        assert torch.equal(inside, expected.movedim(-1, 0) if task == "normals" else expected)


def test_semantics_fall_back_to_the_maps_from_context(root):
    (root / "semseg" / "VOC12" / "2008_000002.png").unlink()
    assert "semseg/VOC12/2008_000002.png" in error_of(root)
    (root / "semseg" / "pascal-context").mkdir()
    label = np.full((37, 50), 7, np.uint8)
    Image.fromarray(label).save(root / "semseg" / "pascal-context" / "2008_000002.png")
    Image.fromarray(label).save(root / "semseg" / "pascal-context" / "2008_000001.png")  # VOC12 has it: not read
    data = opened(root)
    assert data.info.packaging == "voc+context"
    assert data.info.notes == ["1 of 5 images take their semantics from semseg/pascal-context"]
    assert np.array_equal(data.train.load(1, ["semseg"]).labels["semseg"], label)
    assert 255 in data.train.load(0, ["semseg"]).labels["semseg"]
    shutil.rmtree(root / "semseg" / "VOC12")
    assert "semseg/VOC12/2008_000003.png" in error_of(root)


@pytest.mark.parametrize("name", ["PASCAL_MT", "PASCALContext"])
def test_both_folder_names_and_the_folder_above(tmp_path, name):
    write_pascal(tmp_path / name)
    assert opened(tmp_path).info.fingerprint == opened(tmp_path / name).info.fingerprint


def test_mat_files_are_read_when_their_task_is(root):
    (root / "human_parts" / "2008_000001.mat").write_bytes(b"damaged")
    (root / "pascal-context" / "trainval" / "2008_000001.mat").write_bytes(b"damaged")
    assert set(opened(root).train.load(0, ["semseg", "sal"]).labels) == {"semseg", "sal"}
    shutil.rmtree(root / "human_parts")
    data = opened(root, tasks=["semseg", "normals"])
    assert data.train.load(1, ["normals"]).labels["normals"].any()


def test_derived_maps_are_kept_outside_the_data_and_made_once(root, tmp_path, monkeypatch):
    before = sorted(root.rglob("*"))
    first = [opened(root).train.load(index, TASKS).labels for index in range(3)]
    assert sorted(root.rglob("*")) == before
    assert len(list((tmp_path / "cache").rglob("2008_00000?.png"))) == 9
    monkeypatch.setattr(pascal, "read_mat", lambda *_: pytest.fail("reads a file whose map is kept"))
    for index, labels in enumerate(first):
        for task, label in opened(root).train.load(index, TASKS).labels.items():
            np.testing.assert_array_equal(label, labels[task])
    kept = sorted((tmp_path / "cache" / "maps").glob("edge*/*.png"))[0]
    kept.write_bytes(kept.read_bytes()[:40])
    monkeypatch.undo()
    np.testing.assert_array_equal(opened(root).train.load(0, ["edge"]).labels["edge"], first[0]["edge"])


def test_other_files_get_other_maps(root):
    before = opened(root).train.load(0, ["edge"]).labels["edge"]
    path = root / "pascal-context" / "trainval" / "2008_000001.mat"
    savemat(path, {"LabelMap": np.full(before.shape, 3, np.uint16)})
    assert before.any() and not opened(root).train.load(0, ["edge"]).labels["edge"].any()


def test_a_cache_that_cannot_be_written_is_a_warning(root, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        data = opened(root)
        labels = [data.train.load(index, TASKS).labels for index in (0, 0, 1)]
    assert caplog.text.count("Maps are not kept") == 3  # once for each kind of map
    np.testing.assert_array_equal(labels[0]["edge"], labels[1]["edge"])


def _load_all(root: Path) -> list[bytes]:
    data = opened(root)
    return [data.train.load(i, TASKS).labels[task].tobytes() for i in range(3) for task in TASKS]


def test_several_processes_may_derive_at_the_same_time(root, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.map(_load_all, [root] * 8)
    assert all(result == results[0] for result in results)
    names = {name for _, _, files in os.walk(tmp_path / "cache") for name in files}
    assert names == {f"2008_{number:06d}.png" for number in range(1, 4)}  # no temporary file is left


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.full((50, 37), 460), "the value 460; allowed are 0 to 459"), (np.full((50, 37), 0.5), "the value 0.5"),
     ("text", "must be an array")],
)  # fmt: skip
def test_label_maps_that_break_the_rules_are_named(root, value, words):
    path = root / "pascal-context" / "trainval" / "2008_000001.mat"
    savemat(path, {"LabelMap": value})
    assert str(path) in (message := error_of(root)) and words in message


@pytest.mark.slow
def test_rooms_with_people_agree_with_another_reading_of_their_files(tmp_path):
    from atrc_exp.rooms import generate

    root = tmp_path / "rooms"
    generate(root, train=6, val=4, image_size=(72, 96), seed=0, packaging="pascal", workers=1, progress=False)
    data = opened(root)
    for split in (data.train, data.val):
        for index, id in enumerate(split.ids):
            expected = read_labels(root, id, CLASSES_WITH_NORMALS)
            for task, label in split.load(index, TASKS).labels.items():
                np.testing.assert_allclose(label, expected[task], atol=1e-6, err_msg=f"{task} of {id}")


@pytest.mark.parametrize(
    ("folder", "tasks"),
    [("sal_distill", ["semseg", "normals", "edge", "human_parts"]), ("normals_distill", ["semseg", "sal", "edge"]),
     ("pascal-context", ["semseg", "sal", "human_parts"]), ("human_parts", ["semseg", "edge", "normals"]),
     ("semseg", ["sal", "edge"])],
)  # fmt: skip
def test_labels_that_no_task_needs_may_be_missing(root, folder, tasks):
    whole = opened(root)
    expected = [whole.train.load(index, tasks).labels for index in range(len(whole.train))]
    shutil.rmtree(root / folder)
    data = open_dataset(dataset(root), tasks)
    for index, labels in enumerate(expected):
        for task, label in data.train.load(index, tasks).labels.items():
            np.testing.assert_array_equal(label, labels[task])
    assert "files of other tasks are missing" in data.info.notes[0]
    with pytest.raises(UserError, match=f"files are missing: {folder}/"):
        opened(root)


def test_the_layout_has_21_classes(root):
    with pytest.raises(UserError, match=r"num_classes\.semseg=20: must be 21"):
        opened(root, num_classes={"semseg": 20})
