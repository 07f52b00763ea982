"""What a new user's copy of a dataset can be like: one clear line that names the file, or simply right.

Every case is met twice, by a command that trains (`open_dataset` and the samples) and by the check of `stage=prepare`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nyud_files import write_nyud
from pascal_files import write_pascal
from PIL import Image
from scipy.io import savemat

from atrc_exp.config import DatasetConfig
from atrc_exp.data.prepare.check import check_files
from atrc_exp.data.readers.datasets import open_dataset, open_reader
from atrc_exp.errors import UserError

FIRST = {"A": "0001", "B": "0001", "pascal": "2008_000001"}
TASKS = {"nyud": ["semseg", "depth", "normals", "edge"], "pascal": ["semseg", "human_parts", "sal", "normals", "edge"]}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_nyud(folder / "A", "A")
    write_nyud(folder / "B", "B")
    write_pascal(folder / "pascal")
    return folder


@pytest.fixture
def copy(tmp_path, originals) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        return Path(shutil.copytree(originals / kind, tmp_path / "Bilder für alle" / kind))

    return make


def config(root: Path, kind: str) -> DatasetConfig:
    reader = "pascal" if kind == "pascal" else "nyud"
    classes = {"semseg": 21 if kind == "pascal" else 40}
    cache = root.parent.parent / "cache"
    return DatasetConfig(name=reader, reader=reader, root=str(root), tasks=TASKS[reader], num_classes=classes,
                         cache_dir=str(cache))  # fmt: skip


def train(root: Path, kind: str) -> None:
    """Every sample of both splits, as an epoch of training and a validation read them."""
    data = open_dataset(config(root, kind))
    for split in (data.train, data.val):
        for index in range(len(split)):
            split.load(index, TASKS["pascal" if kind == "pascal" else "nyud"])


def problems(root: Path, kind: str) -> list[str]:
    """What `stage=prepare` reports, or the error it ends with."""
    settings = config(root, kind)
    try:
        findings = check_files(open_reader(settings), settings.tasks, values=True)
    except UserError as error:
        return [str(error)]
    return [f"{file}: {problem}" for file, problem in findings.problems]


def text(path: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes(content)


def cut(path: str, share: float = 0.6) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        whole = (root / path).read_bytes()
        (root / path).write_bytes(whole[: int(share * len(whole))])

    return damage


def image(path: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(array).save(root / path)


def array(path: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(root / path, values)


def mat(path: str, **variables: object) -> Callable[[Path], None]:
    return lambda root: savemat(root / path, variables)


def gone(path: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


LABEL, WIDE = np.ones((40, 52), np.uint8), np.ones((40, 53), np.uint8)
VOC = np.ones((50, 37), np.uint8)
NYUD_LABEL, VOC_LABEL = "segmentation/0001.png", "semseg/VOC12/2008_000001.png"
CONTEXT, PARTS = "pascal-context/trainval/2008_000001.mat", "human_parts/2008_000001.mat"
REFUSED = {
    "missing split file": ("A", gone("gt_sets/val.txt"), "gt_sets/val.txt: this file is missing"),
    "missing split file of PASCAL": ("pascal", gone("ImageSets/Context/train.txt"), "train.txt: this file is missing"),
    "empty split": ("A", text("gt_sets/train.txt", b"\r\n \n"), "gt_sets/train.txt: lists no image"),
    "split in another encoding": ("A", text("gt_sets/train.txt", b"0001\n\xff\xfe"), "train.txt: cannot be read"),
    "id listed twice": ("A", text("gt_sets/val.txt", b"0004\n0005\n0004\n"), "val.txt: lists 0004 more than once"),
    "id that leads out": ("pascal", text("ImageSets/Context/val.txt", b"../../x\n"), "val.txt: lists ../../x"),
    "id without an image": ("A", gone("images/0001.png"), "images/0001.png"),
    "id without one modality": ("B", gone("edge/0001.npy"), "edge/0001.npy"),
    "id without parts": ("pascal", gone(PARTS), PARTS),
    "no saliency at all": ("pascal", gone("sal_distill"), "sal_distill/2008_000001.png"),
    "no normals at all": ("A", gone("normals"), "normals: this folder is missing"),
    "truncated PNG": ("A", cut(NYUD_LABEL), f"{NYUD_LABEL}: cannot be read"),
    "truncated JPEG": ("pascal", cut("JPEGImages/2008_000001.jpg"), "JPEGImages/2008_000001.jpg: cannot be read"),
    "truncated npy": ("A", cut("depth/0001.npy"), "depth/0001.npy: cannot be read"),
    "empty npy": ("B", cut("normals/0001.npy", 0.0), "normals/0001.npy: cannot be read"),
    "truncated mat": ("pascal", cut(CONTEXT), f"{CONTEXT}: cannot be read"),
    "truncated parts": ("pascal", cut(PARTS, 0.3), f"{PARTS}: cannot be read"),
    "mat without its variable": ("pascal", mat(CONTEXT, other=1), f"{CONTEXT}: holds no variable LabelMap"),
    "text in place of a PNG": ("A", text("edge/0001.png", b"<html>"), "edge/0001.png: cannot be read"),
    "pickled npy": ("A", array("depth/0001.npy", np.array([{}])), "depth/0001.npy: cannot be read"),
    "label above the class count": ("A", image(NYUD_LABEL, LABEL * 41), f"{NYUD_LABEL}: holds the value 41"),
    "VOC label above 20": ("pascal", image(VOC_LABEL, VOC * 21), f"{VOC_LABEL}: holds the value 21"),
    "context class above 459": ("pascal", mat(CONTEXT, LabelMap=np.full((50, 37), 460)), f"{CONTEXT}: LabelMap holds"),
    "label of another size": ("A", image(NYUD_LABEL, WIDE), f"{NYUD_LABEL}: has 40 x 53 pixels"),
    "depth of another size": ("B", array("depth/0001.npy", np.ones((480, 640))), "depth/0001.npy: has 480 x 640"),
    "LabelMap of another size": ("pascal", mat(CONTEXT, LabelMap=np.full((37, 50), 3)), f"{CONTEXT}: has 37 x 50"),
    "16-bit PNG label": ("A", image(NYUD_LABEL, LABEL.astype(np.uint16)), f"{NYUD_LABEL}: is an image of kind '16-bit"),
    "RGB PNG label": ("A", image(NYUD_LABEL, np.dstack([LABEL] * 3)), f"{NYUD_LABEL}: is an image of kind '8-bit RGB'"),
    "RGB VOC label": ("pascal", image(VOC_LABEL, np.dstack([VOC] * 3)), f"{VOC_LABEL}: is an image of kind"),
    "grey normals": ("A", image("normals/0001.png", LABEL), "normals/0001.png: is an image of kind '8-bit grey'"),
    "normals of two channels": ("B", array("normals/0001.npy", np.ones((40, 52, 2))), "0001.npy: holds an array"),
    "edges of 0 and 255": ("B", array("edge/0001.npy", LABEL * 255), "edge/0001.npy: holds the value 255"),
    "two packagings in one folder": ("A", array("normals/0001.npy", np.ones((40, 52, 3))), "normals/ has .npy, .png"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line_that_names_the_file(copy, case):
    kind, damage, words = REFUSED[case]
    root = copy(kind)
    damage(root)
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError) as raised:
        train(root, kind)
    message = str(raised.value)
    assert words in message and str(root) in message and "\n" not in message and len(message) < 600, message
    found = problems(root, kind)
    assert any(words.split(":")[0] in problem for problem in found), found
    assert sorted(root.rglob("*")) == before


def _nan(root: Path) -> None:
    depth = np.load(root / "depth" / "0001.npy")
    depth[5:9] = np.nan
    np.save(root / "depth" / "0001.npy", depth)


def _grey(root: Path) -> None:
    path = root / "JPEGImages" / "2008_000001.jpg"
    Image.open(path).convert("L").save(path)


def _read_only(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        path.chmod(0o555 if path.is_dir() else 0o444)


RIGHT = {
    "a path with spaces and umlauts": ("A", lambda root: None),
    "NaN in depth": ("A", _nan),
    "Windows line ends": ("A", text("gt_sets/train.txt", b"0001\r\n0002\r\n0003\r\n")),
    "a byte order mark and no last line end": ("pascal", text("ImageSets/Context/val.txt", b"\xef\xbb\xbf2008_000004")),
    "a grey JPEG": ("pascal", _grey),
    "depth in double precision": ("B", array("depth/0001.npy", np.full((40, 52), 2.0))),
    "other files beside": ("A", text("segmentation/.DS_Store", b"x")),
    "a read-only folder": ("pascal", _read_only),
    "an image without objects": ("pascal", mat(PARTS, anno={"imname": "x", "objects": np.zeros((0, 0))})),
}


@pytest.mark.parametrize("case", RIGHT)
def test_is_simply_right(copy, case):
    kind, change = RIGHT[case]
    root = copy(kind)
    change(root)
    before = sorted(root.rglob("*"))
    train(root, kind)
    assert problems(root, kind) == []
    assert sorted(root.rglob("*")) == before


def test_invalid_depth_stays_invalid(copy):
    root = copy("A")
    _nan(root)
    depth = open_dataset(config(root, "A")).train.load(0, ["depth"]).labels["depth"]
    assert not depth[5:9].any() and depth[9:].all()


@pytest.mark.parametrize(
    ("kind", "other", "words"),
    [
        ("A", "pascal", "has no folder gt_sets but the layout of dataset=pascal"),
        ("pascal", "A", "has no folder ImageSets/Context but the layout of dataset=nyud"),
        ("pascal", "nowhere", "does not exist; give the folder PASCAL_MT or PASCALContext itself"),
    ],
)
def test_the_wrong_folder_is_told_from_the_wrong_dataset(copy, kind, other, words):
    root = copy(other) if other != "nowhere" else Path("nowhere")
    with pytest.raises(UserError, match=r"dataset\.root=") as raised:
        train(root, kind)
    assert words in str(raised.value) and "\n" not in str(raised.value)


IMPLAUSIBLE = {
    "depth in millimetres": ("A", array("depth/0001.npy", np.full((40, 52), 2500.0)), "cannot be metres"),
    "no depth at all": ("A", array("depth/0001.npy", np.full((40, 52), np.nan)), "no labelled pixel"),
    "normals of length 2": ("B", array("normals/0001.npy", np.full((40, 52, 3), 2.0)), "far from length 1"),
    "no boundary": ("A", image("edge/0001.png", LABEL * 0), "the value 0 in every pixel"),
    "a black image": (
        "A",
        image("images/0001.png", np.dstack([LABEL * 0] * 3)),
        "the same colour in every pixel",
    ),
    "all void": ("pascal", image(VOC_LABEL, VOC * 255), "no labelled pixel"),
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_values_that_cannot_be_right_are_found_on_request(copy, case):
    kind, damage, words = IMPLAUSIBLE[case]
    root = copy(kind)
    damage(root)
    (problem,) = problems(root, kind)
    assert words in problem and FIRST[kind] in problem
    settings = config(root, kind)
    assert check_files(open_reader(settings), settings.tasks).problems == []
