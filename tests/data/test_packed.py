"""Packed data: the same arrays and batches as the files give, written once, and never from other files."""

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import small_rooms
import torch
from nyud_files import write_nyud

from atrc_exp.config import Config, EngineConfig
from atrc_exp.data.batch import Batch
from atrc_exp.data.loader import build_datasets, train_loader, val_loader
from atrc_exp.data.readers.packed import PackedFile, PackedSplit
from atrc_exp.data.readers.reader import Split
from atrc_exp.errors import UserError

TASKS = ("semseg", "depth", "normals", "edge")
CPU = torch.device("cpu")


def config(root: Path, *, packed=True, tasks=None, workers=0) -> Config:
    return Config(
        name="test",
        tasks=tasks,
        dataset=small_rooms.dataset(root=str(root), crop=[32, 32], packed=packed, cache_dir=str(root.parent / "cache")),
        engine=EngineConfig(batch_size=2, workers=workers, progress=False),
    )


@pytest.fixture
def root(tmp_path):
    write_nyud(tmp_path / "nyud", train=3, val=2)
    return tmp_path / "nyud"


def packed_files(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in (root.parent / "cache").rglob("*.bin")}


def assert_same(one, two) -> None:
    assert one.id == two.id
    for name, label in {"image": one.image, **one.labels}.items():
        other = two.image if name == "image" else two.labels[name]
        assert other.dtype == label.dtype
        np.testing.assert_array_equal(other, label, err_msg=name)


@pytest.mark.parametrize("packaging", ["A", "B"])
def test_arrays_are_those_of_the_files(tmp_path, packaging):
    root = tmp_path / "nyud"
    write_nyud(root, packaging, train=3, val=2)
    before = sorted(root.rglob("*"))
    plain, packed = build_datasets(config(root, packed=False)), build_datasets(config(root))
    for one, two in ((plain.train, packed.train), (plain.val, packed.val)):
        assert isinstance(two, PackedSplit) and two.ids == one.ids and len(two) == len(one)
        for index in (*reversed(range(len(one))), 0):  # in any order, and again
            assert_same(one.load(index, TASKS), two.load(index, TASKS))
    assert packed.info == plain.info
    assert sorted(root.rglob("*")) == before  # nothing is written under the root
    pixels, normals = 3 * 40 * 52, packed_files(root)["train-normals"].stat().st_size
    assert (normals > 12 * pixels) == (packaging == "B")  # vectors that came from 8 bits take 8 bits
    assert normals > 3 * pixels


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_files(root, workers):
    def batches(packed: bool) -> list[Batch]:
        settings = config(root, packed=packed, workers=workers)
        data = build_datasets(settings)
        training = train_loader(data, settings, start_iteration=1, iterations=4, rank=0, world=1, device=CPU)
        return [*training, *val_loader(data, settings, rank=0, world=1, device=CPU)]

    for one, two in zip(batches(False), batches(True), strict=True):
        assert one.ids == two.ids and torch.equal(one.image, two.image)
        assert torch.equal(one.sizes, two.sizes)
        assert all(torch.equal(label, two.labels[name]) for name, label in one.labels.items())


def test_what_is_packed_is_not_decoded_again(root, monkeypatch):
    build_datasets(config(root, tasks=["depth"]))
    assert set(packed_files(root)) == {f"{split}-{kind}" for split in ("train", "val")
                                       for kind in ("image", "depth", "semseg")}  # fmt: skip
    depth = packed_files(root)["train-depth"].stat().st_mtime_ns
    asked, load = [], Split.load
    monkeypatch.setattr(
        Split, "load", lambda self, index, tasks: asked.append(tuple(tasks)) or load(self, index, tasks)
    )
    data = build_datasets(config(root))
    assert set(asked) == {("normals", "edge")} and len(asked) == 5
    assert packed_files(root)["train-depth"].stat().st_mtime_ns == depth
    asked.clear()
    build_datasets(config(root)).train.load(0, TASKS)
    data.train.load(0, TASKS)
    assert not asked


def test_a_changed_file_is_packed_anew(root):
    build_datasets(config(root))
    path = root / "depth" / "0002.npy"
    depth = np.load(path)
    depth[20, 20] = 7.5
    stat = path.stat()
    np.save(path, depth)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert path.stat().st_size == stat.st_size
    assert build_datasets(config(root)).train.load(1, ["depth"]).labels["depth"][20, 20] == 7.5


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_cut_off_file_is_written_again(root, length):
    build_datasets(config(root))
    path = packed_files(root)["train-semseg"]
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    plain, packed = build_datasets(config(root, packed=False)), build_datasets(config(root))
    assert packed_files(root)["train-semseg"].stat().st_size == len(whole)
    assert_same(plain.train.load(1, TASKS), packed.train.load(1, TASKS))


def test_a_damaged_file_is_one_line(root):
    data = build_datasets(config(root))
    path = packed_files(root)["train-depth"]
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="delete it") as raised:
        data.train.load(0, TASKS)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_cache_deleted_meanwhile_is_one_line(root):
    data = build_datasets(config(root))
    for path in packed_files(root).values():
        path.unlink()
    with pytest.raises(UserError, match="writes it anew"):
        data.train.load(0, TASKS)
    assert build_datasets(config(root)).train.load(0, TASKS).image.size


def test_an_interrupted_writer_leaves_nothing(root, monkeypatch):
    load = Split.load

    def interrupted(self, index, tasks):
        if index == 2:
            raise KeyboardInterrupt
        return load(self, index, tasks)

    monkeypatch.setattr(Split, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_datasets(config(root))
    assert [path.name for path in (root.parent / "cache").rglob("*") if path.is_file()] == [".lock"]


def test_processes_that_start_together_write_once(root):
    def start(queue) -> None:
        written, load = [], Split.load
        Split.load = lambda self, index, tasks: written.append(index) or load(self, index, tasks)  # type: ignore
        build_datasets(config(root))
        queue.put(len(written))

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=start, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sorted(queue.get(timeout=60) for _ in processes) == [0, 0, 5]
    for process in processes:
        process.join()


def test_packed_data_reaches_other_processes(root):
    data = build_datasets(config(root))
    first = data.train.load(1, TASKS)
    sent = pickle.dumps(data.train)
    assert len(sent) < 20_000  # not the arrays themselves
    assert_same(first, pickle.loads(sent).load(1, TASKS))


def test_a_write_to_an_array_stays_private(root):
    data = build_datasets(config(root))
    data.train.load(0, TASKS).labels["depth"][:] = 3
    fresh = PackedFile(packed_files(root)["train-depth"], data.train.files["depth"].stamp)
    assert not (fresh.read(0) == 3).any()


def test_a_cache_that_cannot_be_written(root):
    (root.parent / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"dataset\.packed=false"):
        build_datasets(config(root))


def test_a_damaged_image_is_named_while_packing(root):
    path = root / "images" / "0001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"0001\.png"):
        build_datasets(config(root))
    assert not packed_files(root)
