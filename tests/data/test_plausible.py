"""Values that nobody can mean: each is told once with its likely cure, by the check and by the first training crops."""

import logging

import numpy as np
import pytest
import small_rooms
import torch
from nyud_files import write_nyud
from PIL import Image

from atrc_exp.config import Config, EngineConfig
from atrc_exp.data.loader import build_datasets, train_loader
from atrc_exp.data.prepare.check import check_files
from atrc_exp.data.prepare.plausible import Doubts
from atrc_exp.data.readers.datasets import open_reader
from atrc_exp.tasks import TASKS

SIZE = (20, 30)


def doubts(task: str, label: np.ndarray):
    return TASKS[task].kind.doubts(TASKS[task], label)


def unit_normals(seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(*SIZE, 3))
    vectors[..., 2] = np.abs(vectors[..., 2])
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def metres(low: float = 1.0, high: float = 6.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, SIZE).astype(np.float32)


def classes(*values: int) -> np.ndarray:
    return np.random.default_rng(0).choice(np.array(values, np.uint8), SIZE)


WRONG = {
    "normals in [0, 1]": ("normals", (unit_normals() + 1) / 2, "[0, 1]"),
    "normals in [0, 1], mirrored": ("normals", (unit_normals() + 1) / 2 * np.float32([-1, 1, 1]), "[0, 1]"),
    "8-bit codes as numbers": ("normals", np.rint((unit_normals() + 1) * 127.5), "2 u / 255 - 1"),
    "vectors of length 3": ("normals", 3 * unit_normals(), "length 1"),
    "normals that point away": ("normals", unit_normals() * np.float32([1, 1, -1]), "towards the camera"),
    "no normals": ("normals", np.zeros((*SIZE, 3), np.float32), "no labelled pixel"),
    "millimetres": ("depth", 1000 * metres(), "scale=0.001"),
    "centimetres": ("depth", 100 * metres(), "scale=0.01 "),
    "a scale twice": ("depth", metres() / 1000, "too small"),
    "an infinite sky as a number": ("depth", np.where(metres() > 5, 6e4, metres()).astype(np.float32), "invalid"),
    "depth scaled to [0, 1]": ("depth", metres(0, 1), "[0, 1]"),
    "depth of a street": ("depth", metres(5, 80), "bins between 0.7 and 10 m"),
    "a mask of 0 and 255 read as classes": ("sal", classes(0, 255), "encoding: mask"),
    "inverted boundaries": ("edge", np.where(metres() > 1.2, 1, 0).astype(np.uint8), "inverted"),
    "one class": ("semseg", classes(3), "the value 3"),
    "no class": ("semseg", classes(255), "no labelled pixel"),
}
RIGHT = {
    "normals": ("normals", unit_normals()),
    "normals with holes": ("normals", unit_normals() * (metres() > 3)[..., None]),
    "normals of eight bits": ("normals", np.rint((unit_normals() + 1) * 127.5) / np.float32(127.5) - 1),
    "depth": ("depth", metres() * (metres() > 2)),
    "a near wall": ("depth", metres(0.8, 1.3)),
    "classes": ("semseg", classes(0, 1, 2, 255)),
    "boundaries": ("edge", (metres() > 5.5).astype(np.uint8)),
    "an image without people": ("human_parts", classes(0)),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_looks_wrong_is_told_with_its_cure(case):
    task, label, cure = WRONG[case]
    found = Doubts()
    for number in range(3):
        found.add(task, f"file{number}", doubts(task, label.astype(np.float32) if label.ndim == 3 else label))
    lines = found.lines()
    assert any(cure in line and "3 of 3" in line and "file0" in line and line.startswith(task) for line in lines), lines


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_raises_no_doubt(case):
    task, label = RIGHT[case]
    assert list(doubts(task, label)) == []


def test_what_single_maps_may_look_like_is_told_only_of_all():
    found = Doubts()
    wall = np.zeros((*SIZE, 3), np.float32)
    wall[..., 2] = 1  # one that faces the camera
    found.add("normals", "wall", doubts("normals", wall))
    assert len(found.lines()) == 1
    found.add("normals", "room", doubts("normals", unit_normals()))
    assert found.lines() == []


@pytest.fixture
def root(tmp_path):
    write_nyud(tmp_path / "data", "B", train=8, val=1)
    return tmp_path / "data"


def first_warnings(root, caplog, rank: int = 0) -> list[str]:
    settings = Config(name="x", dataset=small_rooms.dataset(root=str(root), crop=[32, 32]),
                      engine=EngineConfig(batch_size=4, workers=0))  # fmt: skip
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        world = 1 if rank == 0 else 2
        batches = train_loader(build_datasets(settings), settings, start_iteration=0, iterations=8, rank=rank,
                               world=world, device=torch.device("cpu"))  # fmt: skip
        for _ in batches:
            pass
    return [record.getMessage() for record in caplog.records]


def test_the_check_and_the_first_crops_of_a_training_warn_once(root, caplog):
    assert not any("depth" in line for line in first_warnings(root, caplog))
    for path in (root / "depth").iterdir():
        np.save(path, 1000 * np.load(path))
    found = first_warnings(root, caplog)
    assert sum("depth" in line for line in found) == 1 and any("scale=0.001" in line for line in found)
    assert first_warnings(root, caplog, rank=1) == []
    settings = small_rooms.dataset(root=str(root))
    findings = check_files(open_reader(settings), settings.tasks)
    (line,) = (line for line in findings.doubts.lines() if line.startswith("depth"))
    assert "9 of 9" in line and "depth/0001.npy" in line and findings.problems == []
    strict = check_files(open_reader(settings), settings.tasks, values=True)
    assert sum("cannot be metres" in problem for _, problem in strict.problems) == 9


def test_photos_that_are_turned_are_named(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = root / "images" / "0002.jpg"
    Image.open(path).save(path, exif=exif)
    settings = small_rooms.dataset(root=str(root))
    (line,) = (line for line in check_files(open_reader(settings), ["edge"]).doubts.lines() if "EXIF" in line)
    assert "1 of 9" in line and "images/0002.jpg: orientation 3" in line and "upright" in line
