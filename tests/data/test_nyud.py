"""The NYUD reader: conventions of both packagings, and a short message for everything a copy can lack."""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_rooms
from nyud_files import FOLDERS, write_image, write_nyud
from PIL import Image

from atrc_exp.config import Config
from atrc_exp.data.loader import build_datasets
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.sample import Source
from atrc_exp.errors import UserError

TASKS = ("semseg", "depth", "normals", "edge")


def reader(root: Path, split: str = "train", **config) -> Source:
    return getattr(open_dataset(small_rooms.dataset(root=str(root), **config)), split)


def error_of(root: Path, **config) -> str:
    with pytest.raises(UserError) as raised:
        reader(root, **config)
    return str(raised.value)


def load_error(root: Path, index: int = 0, tasks=TASKS) -> str:
    source = reader(root)
    with pytest.raises(UserError) as raised:
        source.load(index, tasks)
    return str(raised.value)


@pytest.fixture(params=["A", "B"])
def packaging(request) -> str:
    return request.param


def test_delivers_what_was_written(tmp_path, packaging):
    truth = write_nyud(tmp_path, packaging, train=3, val=2)
    for split, ids in (("train", ["0001", "0002", "0003"]), ("val", ["0004", "0005"])):
        source = reader(tmp_path, split)
        assert source.ids == ids and len(source) == len(ids)
        assert source.info.packaging == packaging
        assert source.info.counts == {"train": 3, "val": 2}
        for index, id in enumerate(ids):
            sample, expected = source.load(index, TASKS), truth[id]
            assert sample.id == id
            assert (sample.image.dtype, sample.labels["depth"].dtype) == (np.uint8, np.float32)
            np.testing.assert_allclose(
                sample.image.astype(float).mean((0, 1)), expected["image"].astype(float).mean((0, 1)), atol=2
            )
            np.testing.assert_array_equal(sample.labels["semseg"], expected["semseg"])
            np.testing.assert_array_equal(sample.labels["edge"], expected["edge"])
            np.testing.assert_array_equal(sample.labels["depth"], expected["depth"])
            np.testing.assert_allclose(sample.labels["normals"], expected["normals"], atol=1e-6)
            assert not sample.labels["normals"][2, :2].any()


def test_agrees_with_opencv(tmp_path):
    write_nyud(tmp_path, "A", size=(33, 47))
    sample = reader(tmp_path).load(1, TASKS)
    files = {folder: str(tmp_path / folder / "0002.png") for folder in FOLDERS}
    np.testing.assert_array_equal(sample.image, cv2.imread(files["images"])[..., ::-1])
    stored = cv2.imread(files["segmentation"], cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(sample.labels["semseg"][stored > 0], stored[stored > 0] - 1)
    assert set(sample.labels["semseg"][stored == 0]) == {255}
    np.testing.assert_array_equal(sample.labels["edge"] * 255, cv2.imread(files["edge"], cv2.IMREAD_UNCHANGED))
    raw = cv2.imread(files["normals"])[..., ::-1]
    vectors = 2.0 * raw / 255 - 1
    valid = (np.linalg.norm(vectors, axis=2) >= 0.5) & raw.any(axis=2)
    np.testing.assert_allclose(sample.labels["normals"], vectors * valid[..., None], atol=1e-6)
    assert valid.mean() > 0.99 and not valid[2, :2].any()


def test_decodes_only_the_tasks_asked_for(tmp_path, packaging):
    write_nyud(tmp_path, packaging)
    (tmp_path / "depth" / "0001.npy").write_bytes(b"damaged")
    assert list(reader(tmp_path).load(0, ["semseg", "edge"]).labels) == ["semseg", "edge"]
    assert "0001.npy" in load_error(tmp_path, tasks=["depth"])


def test_grey_images_become_rgb_and_palettes_stay_indices(tmp_path):
    truth = write_nyud(tmp_path, "A")
    Image.fromarray(truth["0001"]["image"][..., 0]).save(tmp_path / "images" / "0001.png")
    path = tmp_path / "segmentation" / "0001.png"
    label = Image.open(path).convert("L")
    label.putpalette([200 - value for value in range(768 // 4)] * 4)
    label.save(path)
    assert Image.open(path).mode == "P"
    sample = reader(tmp_path).load(0, ["semseg"])
    np.testing.assert_array_equal(sample.image, np.repeat(truth["0001"]["image"][..., :1], 3, axis=2))
    np.testing.assert_array_equal(sample.labels["semseg"], truth["0001"]["semseg"])


@pytest.mark.parametrize("text", ["0001\r\n0003\r\n", "\n0001\n\n  0003  \n\n", "\ufeff0001\n0003"])
def test_split_files_of_any_editor(tmp_path, text):
    write_nyud(tmp_path)
    (tmp_path / "gt_sets" / "train.txt").write_bytes(text.encode())
    assert reader(tmp_path).ids == ["0001", "0003"]


def test_info_of_counts(tmp_path):
    write_nyud(tmp_path, train=3, val=2)
    assert reader(tmp_path, counts=[3, 2], strict=True).info.notes == []
    (note,) = reader(tmp_path, counts=[795, 654]).info.notes
    assert "3 training and 2 validation" in note and "795 training and 654 validation" in note
    write_nyud(tmp_path / "B", "B", train=3, val=2)
    (note,) = reader(tmp_path / "B", counts=[3, 2]).info.notes
    assert "packaging B" in note and "packaging A" in note
    assert reader(tmp_path / "B").info.notes == []
    assert "dataset.strict=false" in error_of(tmp_path, counts=[795, 654], strict=True)


def test_fingerprint_names_the_files_not_their_place(tmp_path):
    write_nyud(tmp_path / "a")
    before = reader(tmp_path / "a").info
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "images" / "Thumbs.db").write_bytes(b"not of the dataset")
    (tmp_path / "b" / "gt_sets" / "train.txt").write_text("0003\n0001\n0002\n")
    assert reader(tmp_path / "b", "val").info.fingerprint == before.fingerprint
    with open(tmp_path / "b" / "edge" / "0005.png", "ab") as file:
        file.write(b"\0")
    assert reader(tmp_path / "b").info.fingerprint != before.fingerprint


def test_missing_files_are_listed_once(tmp_path, packaging):
    write_nyud(tmp_path, packaging, train=8, val=6)
    for number in range(1, 14):
        os.remove(next((tmp_path / "edge").glob(f"{number:04d}.*")))
    os.remove(tmp_path / "depth" / "0014.npy")  # of the other split
    message = error_of(tmp_path)
    assert "14 of 70 files are missing" in message
    assert message.count("edge/") + message.count("depth/") == 10
    assert "\n" not in message


def test_missing_root_says_what_is_expected(tmp_path):
    message = error_of(tmp_path / "nowhere")
    for part in (
        "dataset.root=",
        "nowhere",
        "gt_sets",
        "segmentation",
        "python -m atrc_exp stage=generate dataset=rooms",
    ):
        assert part in message
    (tmp_path / "images").mkdir()
    assert "has no folder gt_sets" in error_of(tmp_path)


def test_missing_or_empty_split_file(tmp_path):
    write_nyud(tmp_path)
    (tmp_path / "gt_sets" / "val.txt").write_text("\n \n")
    assert "val.txt: lists no image" in error_of(tmp_path)
    (tmp_path / "gt_sets" / "val.txt").unlink()
    assert "val.txt: this file is missing" in error_of(tmp_path)


def test_unknown_and_mixed_packagings(tmp_path):
    write_nyud(tmp_path, "A")
    np.save(tmp_path / "normals" / "0001.npy", np.zeros((40, 52, 3)))
    assert "normals/ has .npy, .png" in error_of(tmp_path)
    for path in (tmp_path / "normals").iterdir():
        path.unlink()
    (tmp_path / "normals" / "0001.jpg").touch()
    assert "ASTMT packaging" in error_of(tmp_path)
    shutil.rmtree(tmp_path / "normals")
    assert "normals: this folder is missing" in error_of(tmp_path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_truncated_files_are_named(tmp_path, packaging, folder):
    write_nyud(tmp_path, packaging)
    path = next((tmp_path / folder).glob("0002.*"))
    whole = path.read_bytes()
    for share in (0.8, 0.5, 0.1, 0.0):
        path.write_bytes(whole[: int(share * len(whole))])
        message = load_error(tmp_path, index=1)
        assert str(path) in message and "\n" not in message


def test_values_out_of_range(tmp_path):
    write_nyud(tmp_path, "B")
    path = tmp_path / "segmentation" / "0001.png"
    stored = np.full((40, 52), 255, dtype=np.uint8)
    Image.fromarray(stored).save(path)
    assert set(reader(tmp_path).load(0, ["semseg"]).labels["semseg"].flat) == {255}
    stored[3, 4] = 41
    Image.fromarray(stored).save(path)
    message = load_error(tmp_path)
    assert str(path) in message and "41" in message and "1 to 40" in message
    np.save(tmp_path / "edge" / "0002.npy", np.full((40, 52), 255))
    assert re.search(r"0002\.npy: .*\b255\b.* 0 and 1", load_error(tmp_path, 1))


def test_boundaries_between_0_and_255_are_in_the_upper_half(tmp_path):
    write_nyud(tmp_path, "A")
    path = tmp_path / "edge" / "0001.png"
    stored = np.zeros((40, 52), dtype=np.uint8)
    stored[0, :5] = (1, 127, 128, 254, 255)
    Image.fromarray(stored).save(path)
    assert reader(tmp_path).load(0, ["edge"]).labels["edge"][0, :6].tolist() == [0, 0, 1, 1, 1, 0]
    Image.fromarray(stored * np.uint8(0)).save(path)  # an image without boundaries
    assert not reader(tmp_path).load(0, ["edge"]).labels["edge"].any()
    Image.fromarray((stored > 0).astype(np.uint8)).save(path)
    assert f"{path}: its largest value is 1; " in load_error(tmp_path)


def test_labels_of_another_size_or_kind(tmp_path):
    truth = write_nyud(tmp_path, "A")
    write_image(tmp_path, "A", "0002", (40, 50), np.random.default_rng(0))
    Image.fromarray(truth["0002"]["image"]).save(tmp_path / "images" / "0002.png")
    message = load_error(tmp_path, 1, ["depth"])
    assert "0002.npy" in message and "40 x 50" in message and "40 x 52" in message
    label = tmp_path / "segmentation" / "0001.png"
    Image.fromarray(truth["0001"]["image"]).save(label)
    assert f"{label}: is an image of kind '8-bit RGB'" in load_error(tmp_path)
    Image.fromarray(truth["0001"]["semseg"].astype(np.uint16)).save(label)
    assert f"{label}: is an image of kind '16-bit grey'" in load_error(tmp_path)
    np.save(tmp_path / "depth" / "0003.npy", np.zeros((40, 52, 2)))
    assert "0003.npy: holds an array of shape (40, 52, 2)" in load_error(tmp_path, 2)
    np.save(tmp_path / "depth" / "0003.npy", np.array([{}]), allow_pickle=True)
    assert "0003.npy" in load_error(tmp_path, 2)


FOLDER = {"semseg": "segmentation", "depth": "depth", "normals": "normals", "edge": "edge"}


@pytest.mark.parametrize("absent", TASKS)
def test_labels_that_no_task_needs_may_be_missing(tmp_path, packaging, absent):
    truth = write_nyud(tmp_path, packaging)
    shutil.rmtree(tmp_path / FOLDER[absent])
    needed = [task for task in TASKS if task != absent]
    settings = small_rooms.dataset(root=str(tmp_path))
    data = open_dataset(settings, needed)
    assert data.info.packaging == packaging
    (note,) = data.info.notes
    assert "5 files of other tasks are missing" in note and f"{FOLDER[absent]}/" in note
    for index, id in enumerate(data.train.ids):
        for task, label in data.train.load(index, needed).labels.items():
            np.testing.assert_allclose(label, truth[id][task], atol=1e-6)
    assert open_dataset(settings, needed[:1]).info.fingerprint == data.info.fingerprint  # for tables over runs
    with pytest.raises(UserError, match="missing") as raised:
        open_dataset(settings)
    assert FOLDER[absent] in str(raised.value)


def test_the_classes_that_guide_crops_are_needed(tmp_path):
    write_nyud(tmp_path)
    shutil.rmtree(tmp_path / "segmentation")
    described = {"root": str(tmp_path), "crop": [32, 32]}
    with pytest.raises(UserError, match=r"segmentation: .*dataset\.tasks"):
        build_datasets(Config(name="x", tasks=["depth"], dataset=small_rooms.dataset(**described)))
    without = small_rooms.dataset(**described, tasks=["depth", "normals", "edge"])
    assert build_datasets(Config(name="x", tasks=["depth"], dataset=without)).train.load(0, ["depth"]).labels
