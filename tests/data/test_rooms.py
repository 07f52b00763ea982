"""Procedural rooms: exact labels, the NYUD layout, reproducible generation that may be interrupted."""

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock

from atrc_exp.data.rooms import generate, render_room, write
from atrc_exp.data.rooms.classes import CLASSES
from atrc_exp.data.rooms.render import boundaries
from atrc_exp.data.rooms.sheet import contact_sheet, read_samples
from atrc_exp.errors import UserError

SIZE = (36, 48)
COUNT = 200


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def png(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def small(root: Path, **changes) -> None:
    generate(root, **({"train": 2, "val": 1, "image_size": (24, 32), "workers": 1, "progress": False} | changes))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """200 rooms in packaging A, made by two processes."""
    root = tmp_path_factory.mktemp("rooms") / "many"
    generate(root, train=COUNT - 20, val=20, image_size=SIZE, seed=3, workers=2, progress=False)
    return root


@pytest.fixture(scope="module")
def samples():
    return [render_room(5, index, (60, 80)) for index in range(5)]


def test_bytes_do_not_depend_on_processes_or_on_the_other_rooms(many, tmp_path):
    generate(tmp_path / "few", train=3, val=2, image_size=SIZE, seed=3, workers=1, progress=False)
    few, all_files = files(tmp_path / "few"), files(many)
    compared = [name for name in few if name.split("/")[0] in write._MODALITIES]
    assert len(compared) == 5 * 5
    assert all(few[name] == all_files[name] for name in compared)


def test_seed_and_index_change_the_room():
    images = [render_room(*key, (24, 32)).image for key in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert np.array_equal(images[0], images[3])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_a_room_has_one_view_at_every_size():
    coarse, fine = render_room(0, 4, (24, 32)), render_room(0, 4, (72, 96))
    # the centre of a coarse pixel is the centre of the middle one of its 3 x 3 fine pixels
    assert np.array_equal(coarse.semseg, fine.semseg[1::3, 1::3])
    np.testing.assert_allclose(coarse.depth, fine.depth[1::3, 1::3], rtol=1e-4)


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
    coded = write._encode_normals(normals)
    assert coded[0].tolist() == [[127, 127, 127], [128, 128, 255], [0, 128, 128]]


def backproject(depth: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) in the camera's frame (x right, y up, z towards the camera), 57 degrees across."""
    h, w = depth.shape
    focal = w / 2 / np.tan(np.deg2rad(28.5))
    x = (np.arange(w) + 0.5 - w / 2) / focal
    y = -(np.arange(h) + 0.5 - h / 2)[:, None] / focal
    return np.stack(np.broadcast_arrays(x * depth, y * depth, -depth), -1).astype(float)


def test_normals_are_unit_vectors_that_face_the_camera(samples):
    for sample in samples:
        np.testing.assert_allclose(np.linalg.norm(sample.normals, axis=-1), 1, atol=1e-5)
        assert ((sample.normals * backproject(sample.depth)).sum(-1) < 0).all()


def test_depth_and_normals_agree_on_flat_surfaces(samples):
    checked = 0
    for sample in samples:
        points = backproject(sample.depth)
        found = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[:-2, 1:-1] - points[2:, 1:-1])
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
        inner = sample.normals[1:-1, 1:-1]
        flat = np.ones(inner.shape[:2], bool)
        for rows, columns in (
            (np.s_[1:-1], np.s_[2:]),
            (np.s_[1:-1], np.s_[:-2]),
            (np.s_[2:], np.s_[1:-1]),
            (np.s_[:-2], np.s_[1:-1]),
        ):
            flat &= np.abs(sample.normals[rows, columns] - inner).max(-1) < 1e-6
            flat &= sample.semseg[rows, columns] == sample.semseg[1:-1, 1:-1]
        flat &= np.isin(sample.semseg[1:-1, 1:-1], [CLASSES.index(c) + 1 for c in ("floor", "ceiling", "table", "bed")])
        checked += flat.sum()
        # skirting boards and the like share a normal with what is behind them: steps are the rare exception
        assert ((found * inner).sum(-1)[flat] > 0.999).mean() > 0.97
    assert checked > 1500


def test_floor_and_ceiling_point_up_and_down(samples):
    up = np.concatenate([s.normals[s.semseg == CLASSES.index("floor") + 1] for s in samples])
    assert len(up) > 500 and (up[:, 1] > 0.7).all()


def test_boundaries_lie_where_ids_change(samples):
    for sample in samples:
        for change, edge in (
            (sample.semseg[:, 1:] != sample.semseg[:, :-1], sample.edge[:, :-1]),
            (sample.semseg[1:] != sample.semseg[:-1], sample.edge[:-1]),
        ):
            assert edge[change].all()
        assert 0.01 < sample.edge.mean() < 0.35


def test_boundary_rules():
    size = (4, 7)
    instance, surface = np.ones(size, int), np.zeros(size, int)
    narrow = np.zeros(size, bool)
    normals = np.zeros((3, *size))
    normals[2] = 1
    points = np.stack(np.broadcast_arrays(np.arange(7.0) * 0.01, np.zeros((4, 1)), np.full(size, -2.0)))
    assert not boundaries(instance, surface, narrow, normals, points).any()

    columns = boundaries(np.where(np.arange(7) < 3, 1, 2) * instance, surface, narrow, normals, points)
    assert np.array_equal(columns, np.broadcast_to(np.arange(7) == 2, size))  # one pixel wide, on the left side

    step = points.copy()
    step[2, 2:] -= 0.3
    rows = boundaries(instance, surface, narrow, normals, step)
    assert np.array_equal(rows, np.broadcast_to((np.arange(4) == 1)[:, None], size))
    step[2, 2:] += 0.25  # 5 cm at 2 m is no step
    assert not boundaries(instance, surface, narrow, normals, step).any()

    turned = normals.copy()
    turned[:, :, 4:] = np.array([1.0, 0.0, 0.0])[:, None, None]
    corner = surface + (np.arange(7) >= 4)
    flat = np.broadcast_to(points[:, :1, :1], points.shape)
    assert np.array_equal(boundaries(instance, corner, narrow, turned, flat)[0], np.arange(7) == 3)
    assert not boundaries(instance, corner, ~narrow, turned, flat).any()
    assert not boundaries(instance, surface, narrow, turned, flat).any()  # one smooth surface has no creases


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
    with pytest.raises(UserError, match="no generated rooms"):
        small(tmp_path / "precious")
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
    with FileLock(tmp_path / ".rooms.lock"):
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


def test_missing_ray_tracer_is_named():
    code = "import sys; sys.modules['embreex'] = None\nimport atrc_exp.data.rooms"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    assert "UserError: The procedural rooms need trimesh and embreex" in result.stderr


def test_contact_sheet_of_both_packagings(tmp_path):
    for packaging in "AB":
        small(tmp_path / packaging, packaging=packaging)
        first = read_samples(tmp_path / packaging, 1)[0]
        sample = render_room(0, 0, (24, 32))
        assert np.array_equal(first.semseg, sample.semseg) and np.array_equal(first.edge, sample.edge)
        np.testing.assert_allclose(first.normals, sample.normals, atol=0.005)
        contact_sheet(tmp_path / packaging, tmp_path / f"{packaging}.png", rows=2)
        assert min(png(tmp_path / f"{packaging}.png").shape[:2]) > 200
    (tmp_path / "A" / "depth" / "0002.npy").unlink()
    with pytest.raises(UserError, match="0002"):
        read_samples(tmp_path / "A", 2)
    with pytest.raises(UserError, match="no images"):
        read_samples(tmp_path / "missing", 2)
