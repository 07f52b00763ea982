"""Procedural rooms on disk: the NYUD layout, reproducible generation that may be interrupted, varied contents."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from atrc_exp.data.readers.sample import Sample
from atrc_exp.errors import UserError
from atrc_exp.files import alone
from atrc_exp.rooms import generate, render_room
from atrc_exp.rooms.dataset import layouts, sheet, write
from atrc_exp.rooms.plans.classes import CLASSES

SIZE = (36, 48)
COUNT = 80


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def png(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def small(root: Path, **changes) -> None:
    generate(root, **({"train": 2, "val": 1, "image_size": (24, 32), "workers": 1, "progress": False} | changes))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """`COUNT` rooms in packaging A, made by two processes."""
    root = tmp_path_factory.mktemp("rooms") / "many"
    generate(root, train=COUNT - 20, val=20, image_size=SIZE, seed=3, workers=2, progress=False)
    return root


def test_bytes_do_not_depend_on_processes_or_on_the_other_rooms(many, tmp_path):
    generate(tmp_path / "few", train=3, val=2, image_size=SIZE, seed=3, workers=1, progress=False)
    few, all_files = files(tmp_path / "few"), files(many)
    compared = [name for name in few if name.split("/")[0] in layouts.LAYOUTS["A"].folders]
    assert len(compared) == 5 * 5
    assert all(few[name] == all_files[name] for name in compared)


def test_packaging_a(many):
    ids = (many / "gt_sets" / "train.txt").read_text().split() + (many / "gt_sets" / "val.txt").read_text().split()
    assert ids == [f"{number:04d}" for number in range(1, COUNT + 1)]
    for part, suffix in (
        ("images", "png"),
        ("edge", "png"),
        ("segmentation", "png"),
        ("normals", "png"),
        ("depth", "npy"),
    ):
        assert sorted(p.name for p in (many / part).iterdir()) == [f"{name}.{suffix}" for name in ids]
    assert png(many / "images" / "0001.png").shape == (*SIZE, 3)
    edge = png(many / "edge" / "0001.png")
    assert edge.shape == SIZE and set(np.unique(edge)) == {0, 255}
    labels = png(many / "segmentation" / "0001.png")
    assert labels.shape == SIZE and labels.dtype == np.uint8 and labels.max() <= 40
    depth = np.load(many / "depth" / "0001.npy")
    assert depth.shape == SIZE and depth.dtype == np.float32
    sample = render_room(3, 0, SIZE)
    assert np.array_equal(png(many / "images" / "0001.png")[..., ::-1], sample.image)
    assert np.array_equal(labels, sample.semseg) and np.array_equal(depth, sample.depth)
    assert np.array_equal(edge == 255, sample.edge)
    decoded = 2 * png(many / "normals" / "0001.png")[..., ::-1].astype(float) / 255 - 1
    np.testing.assert_allclose(decoded, sample.normals, atol=1 / 255 + 1e-6)


def test_packaging_b(tmp_path):
    small(tmp_path / "b", packaging="B", seed=3)
    names = {str(p.relative_to(tmp_path / "b")) for p in (tmp_path / "b").rglob("0001.*")}
    assert names == {
        "images/0001.jpg",
        "edge/0001.npy",
        "segmentation/0001.png",
        "normals/0001.npy",
        "depth/0001.npy",
    }
    sample = render_room(3, 0, (24, 32))
    normals, edge = (np.load(tmp_path / "b" / part / "0001.npy") for part in ("normals", "edge"))
    assert normals.dtype == np.float32 and np.array_equal(normals, sample.normals)
    assert set(np.unique(edge)) == {0, 1} and np.array_equal(edge == 1, sample.edge)
    image = png(tmp_path / "b" / "images" / "0001.jpg")[..., ::-1]
    assert np.abs(image.astype(int) - sample.image).mean() < 8


def test_invalid_normals_are_written_as_127():
    normals = np.zeros((1, 3, 3), np.float32)
    normals[0, 1], normals[0, 2] = [0, 0, 1], [-1, 0, 0]
    coded = layouts._encode_normals(normals)
    assert coded[0].tolist() == [[127, 127, 127], [128, 128, 255], [0, 128, 128]]


def test_rooms_are_varied(many):
    labels = np.stack([png(path) for path in sorted((many / "segmentation").iterdir())])
    depth = np.stack([np.load(path) for path in sorted((many / "depth").iterdir())])
    images = np.stack([png(path) for path in sorted((many / "images").iterdir())])
    pixels = np.bincount(labels.ravel(), minlength=41)
    assert (pixels[1:] > 0).sum() >= 25
    assert pixels.max() < 0.5 * pixels.sum()
    classes = [len(np.unique(room)) for room in labels]
    assert np.median(classes) >= 7 and min(classes) >= 3
    assert depth.min() > 0.5 and depth.max() < 12
    assert np.percentile(depth, 5) < 2 and np.percentile(depth, 95) > 4
    assert (images.std(axis=(1, 2, 3)) > 15).all()
    assert ((images > 250).all(-1).mean(axis=(1, 2)) < 0.3).mean() > 0.97


def test_colour_alone_does_not_give_the_class(many):
    """The mean colours of chairs spread far more between rooms than the means of chairs and tables differ."""
    means: dict[str, list] = {"chair": [], "table": []}
    for path in sorted((many / "segmentation").iterdir()):
        labels, image = png(path), png(many / "images" / path.name)
        for name, found in means.items():
            mask = labels == CLASSES.index(name) + 1
            if mask.sum() > 20:
                found.append(image[mask].mean(0))
    chair, table = np.array(means["chair"]), np.array(means["table"])
    assert np.abs(chair.mean(0) - table.mean(0)).mean() < chair.std(0).mean()


def test_finished_rooms_are_kept_and_other_settings_refused(tmp_path, monkeypatch):
    root = tmp_path / "rooms"
    small(root)
    before = files(root)
    monkeypatch.setattr(write, "_write_room", None)  # nothing may be written again
    small(root)
    assert files(root) == before
    with pytest.raises(UserError, match=r"train=2.*train=3"):
        small(root, train=3)
    with pytest.raises(UserError, match="packaging=A"):
        small(root, packaging="B")


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("only copy")
    with pytest.raises(UserError, match="not generated rooms") as raised:
        small(tmp_path / "precious")
    assert "remove" not in str(raised.value) and "own_dataset" in str(raised.value)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "only copy"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, error):
    real = write._write_room

    def fail(index, **settings):
        if index == 2:
            raise error
        real(index, **settings)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(write, "_write_room", fail)
        small(tmp_path / "rooms")
    assert [p.name for p in tmp_path.iterdir()] == [".rooms.lock"]
    (tmp_path / ".rooms.unfinished" / "images").mkdir(parents=True)  # what a killed process leaves
    (tmp_path / ".rooms.unfinished" / "images" / "0007.png").write_bytes(b"half")
    small(tmp_path / "rooms")
    assert not (tmp_path / ".rooms.unfinished").exists()
    assert sorted(p.name for p in (tmp_path / "rooms" / "images").iterdir()) == [
        "0001.png",
        "0002.png",
        "0003.png",
    ]


def test_two_generators_of_one_root_do_the_work_once(tmp_path, monkeypatch):
    written = []
    real = write._write_room

    def count(index, **settings):
        written.append(index)
        real(index, **settings)

    monkeypatch.setattr(write, "_write_room", count)
    threads = [threading.Thread(target=small, args=(tmp_path / "rooms",)) for _ in range(2)]
    with alone(tmp_path / ".rooms.lock"):
        for thread in threads:
            thread.start()
        threads[0].join(0.3)
        assert not written  # they wait
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, 1, 2]
    assert (tmp_path / "rooms" / "rooms.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": 0, "val": 0}, "1 to 9999"),
        ({"train": 9999}, "1 to 9999"),
        ({"train": -1}, "1 to 9999"),
        ({"image_size": (8, 64)}, "at least 16"),
        ({"packaging": "C"}, "'A'.*'B'"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        small(tmp_path / "rooms", **changes)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        small(tmp_path / "file" / "rooms")


def test_contact_sheet_of_both_packagings(tmp_path):
    for packaging in "AB":
        small(tmp_path / packaging, packaging=packaging)
        sheet.main([str(tmp_path / "sheet.png"), "--root", str(tmp_path / packaging), "--packaging", packaging])
        assert min(png(tmp_path / "sheet.png").shape[:2]) > 200
    (tmp_path / "A" / "depth" / "0002.npy").unlink()
    with pytest.raises(UserError, match="0002"):
        sheet.main([str(tmp_path / "sheet.png"), "--root", str(tmp_path / "A")])


def test_contact_sheet_shows_image_and_every_label(tmp_path):
    image = np.broadcast_to(np.array([255, 0, 0], np.uint8), (30, 40, 3))
    labels = {"human_parts": np.zeros((30, 40), np.uint8), "normals": np.zeros((30, 40, 3), np.float32)}
    labels["normals"][...] = [0, 1, 0]
    sample = Sample("one", image, labels)
    sheet.contact_sheet([sample, sample], {"human_parts": ["background", "head"]}, tmp_path / "sheet.png")
    drawn = png(tmp_path / "sheet.png")[..., 2::-1]
    for colour in ([255, 0, 0], [0, 0, 0], [127, 255, 127]):  # the image, background, a normal that points up
        assert 0.2 < (drawn == colour).all(-1).mean() < 0.34
