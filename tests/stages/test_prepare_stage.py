"""`stage=prepare` from folder, archive and address to a dataset that trains, and what is left when it fails."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_rooms import QUICK, SMALL, as_typed

from atrc_exp.config import Config
from atrc_exp.data.loader import build_datasets
from atrc_exp.data.prepare.crop import cropped_copy
from atrc_exp.data.readers.datasets import open_dataset, open_reader
from atrc_exp.errors import UserError
from atrc_exp.report.results import dataset as dataset_report
from atrc_exp.stages import run_stage

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from nyud_files import write_nyud
from pascal_files import write_pascal

FILES = ("dataset_report.json", "dataset_report.pdf", "dataset_report.png")


def prepare(tmp_path: Path, *overrides: str) -> Config:
    return as_typed("stage=prepare", "engine.workers=0", "engine.progress=false", f"runs_dir={tmp_path / 'runs'}",
                    f"dataset.cache_dir={tmp_path / 'cache'}", *overrides)  # fmt: skip


def report_of(tmp_path: Path, name: str) -> dict:
    folder = tmp_path / "runs" / "datasets" / name
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return json.loads((folder / FILES[0]).read_text())


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """NYUDv2.tgz and PASCAL_MT.zip as they are published, with their top folders."""
    folder = tmp_path_factory.mktemp("archives")
    write_nyud(folder / "NYUDv2")
    write_pascal(folder / "PASCAL_MT")
    shutil.make_archive(str(folder / "PASCAL_MT"), "zip", folder, "PASCAL_MT")
    with tarfile.open(folder / "NYUDv2.tgz", "w:gz") as tar:
        tar.add(folder / "NYUDv2", "NYUDv2")
    return folder


def test_an_archive_becomes_a_dataset_that_trains(tmp_path, archives, capsys):
    root = tmp_path / "new" / "data"
    start = ("dataset=pascal", f"dataset.root={root}")
    run_stage(prepare(tmp_path, *start, f"prepare.source={archives / 'PASCAL_MT.zip'}"))
    assert f"{root} is ready" in capsys.readouterr().out
    report = report_of(tmp_path, "pascal")
    assert report["dataset"]["packaging"] == "voc" and report["dataset"]["counts"] == {"train": 3, "val": 2}
    assert "4998 training" in report["dataset"]["notes"][0] and report["problems"] == [] and report["files"] == 30
    assert report["image_sizes"] == {"50x37": 3, "37x50": 2}
    train = as_typed(*SMALL, "+experiment=pascal_hrnet18_multi_task", "tasks=[semseg,human_parts]", *QUICK,
                     "dataset.crop=[64,64]", f"dataset.root={root}", f"dataset.cache_dir={tmp_path / 'cache'}",
                     f"runs_dir={tmp_path / 'runs'}")  # fmt: skip
    assert open_dataset(train.dataset).info.fingerprint == report["dataset"]["fingerprint"]
    run_stage(train)
    folder = tmp_path / "runs" / "pascal_hrnet18_multi_task" / "seed0"
    recorded = json.loads((folder / "summary.json").read_text())["dataset"]
    assert recorded["packaging"] == "voc" and recorded["fingerprint"] == report["dataset"]["fingerprint"]
    (folder / "summary.json").unlink()
    with (root / "sal_distill" / "2008_000001.png").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match="was started on other files"):
        run_stage(train)


@pytest.mark.slow
def test_the_report_holds_what_the_files_do(tmp_path, archives):
    run_stage(prepare(tmp_path, "dataset=nyud", f"prepare.source={archives / 'NYUDv2'}"))
    report, root = report_of(tmp_path, "nyud"), archives / "NYUDv2"
    ids = ("0001", "0002", "0003")
    stored = np.concatenate([np.asarray(Image.open(root / "segmentation" / f"{id}.png")).ravel() for id in ids])
    depth = np.concatenate([np.load(root / "depth" / f"{id}.npy").ravel() for id in ids])
    valid = depth[(depth > 0) & (depth < np.inf)].astype(float)
    train = report["labels"]["train"]
    assert train["semseg"]["invalid_share"] == pytest.approx((stored == 0).mean())
    assert train["semseg"]["classes"]["wall"] == pytest.approx((stored == 1).sum() / (stored > 0).sum())
    assert sum(train["semseg"]["classes"].values()) == pytest.approx(1)
    assert train["depth"]["min"] == pytest.approx(valid.min()) and train["depth"]["max"] == pytest.approx(valid.max())
    assert train["depth"]["mean"] == pytest.approx(valid.mean())
    assert train["depth"]["invalid_share"] == pytest.approx(1 - valid.size / depth.size)
    raw = np.concatenate([np.asarray(Image.open(root / "normals" / f"{id}.png")).reshape(-1, 3) for id in ids]) / 127.5
    unit = [vector / np.linalg.norm(vector) for vector in raw - 1 if 0.5 < np.linalg.norm(vector) < 1.7]
    assert train["normals"]["mean"] == pytest.approx(np.mean(unit, axis=0), abs=1e-6)


@pytest.mark.slow
def test_every_wrong_file_is_in_one_report(tmp_path, archives):
    root = tmp_path / "copy"
    shutil.copytree(archives / "NYUDv2", root)
    (root / "depth" / "0002.npy").unlink()
    (root / "edge" / "0005.png").write_bytes(b"damaged")
    Image.fromarray(np.full((40, 52), 77, np.uint8)).save(root / "segmentation" / "0001.png")
    with pytest.raises(UserError, match=r"3 problems, .*dataset_report\.json.*depth/0002\.npy"):
        run_stage(prepare(tmp_path, "dataset=nyud", f"dataset.root={root}"))
    report = report_of(tmp_path, "nyud")
    assert [problem["file"] for problem in report["problems"]] == [
        "depth/0002.npy",
        "segmentation/0001.png",
        "edge/0005.png",
    ]
    assert report["dataset"]["fingerprint"] is None


@pytest.mark.slow
def test_an_address_is_fetched_checked_and_unpacked_once(tmp_path, archives, capsys):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(archives))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        source = f"prepare.source=http://127.0.0.1:{server.server_port}/NYUDv2.tgz"
        start = ("dataset=nyud", f"dataset.root={tmp_path / 'data' / 'nyud'}", source)
        with pytest.raises(UserError, match=r"NYUDv2\.tgz: has the SHA-256"):
            run_stage(prepare(tmp_path, *start, f"prepare.sha256={'0' * 64}"))
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".nyud.lock", "NYUDv2.tgz"]
        run_stage(prepare(tmp_path, *start))
        server.shutdown()
    assert (tmp_path / "data" / "nyud" / "gt_sets").is_dir() and "is ready" in capsys.readouterr().out
    run_stage(prepare(tmp_path, *start))  # the server is gone, the data is there


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prepare.source=nowhere.tgz"], "prepare.source=nowhere.tgz: does not exist"),
        (["prepare.source={archives}/notes.txt"], "is neither a folder nor an archive"),
        (["prepare.source={archives}/PASCAL_MT.zip"], "PASCAL_MT.zip: holds no dataset for dataset=nyud"),
        (["prepare.source={archives}/half.tgz"], "half.tgz: cannot be read, it is damaged or incomplete"),
        (["prepare.source={archives}/evil.tar"], "evil.tar: refused, an entry leads out of its folder"),
        (["prepare.source={archives}/NYUDv2.tgz", "dataset.strict=true"], "795 training and 654 validation"),
        (
            ["prepare.source={archives}/NYUDv2.tgz", "dataset.root={archives}/notes.txt/data"],
            "notes.txt/data cannot be written",
        ),
        (["dataset.root={archives}/nothing"], "nothing: does not exist"),
    ],
)
def test_what_cannot_be_prepared_is_one_line_and_leaves_nothing_half_done(tmp_path, archives, overrides, words):
    (archives / "notes.txt").write_text("x")
    (archives / "half.tgz").write_bytes((archives / "NYUDv2.tgz").read_bytes()[:3000])
    with tarfile.open(archives / "evil.tar", "w") as tar:
        tar.add(archives / "notes.txt", "NYUDv2/../../../evil.txt")
    root = tmp_path / "data" / "nyud"
    given = [value.format(archives=archives) for value in overrides]
    with pytest.raises(UserError) as raised:
        run_stage(prepare(tmp_path, "dataset=nyud", f"dataset.root={root}", *given))
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("*.unfinished")) and not list(tmp_path.rglob("evil.txt"))
    if "dataset.strict=true" not in given:  # there the copy is whole, only not as large as the published one
        assert not root.exists()


@pytest.mark.slow
def test_a_killed_unpacking_leaves_no_dataset_and_the_next_start_repeats_it(tmp_path, archives):
    big = tmp_path / "big.tar"
    with tarfile.open(big, "w") as tar:
        tar.add(archives / "NYUDv2", "NYUDv2")
        for number in range(6_000):
            tar.addfile(tarfile.TarInfo(f"NYUDv2/other/{number}.txt"))
    root = tmp_path / "data" / "nyud"
    arguments = ["stage=prepare", "dataset=nyud", f"dataset.root={root}", f"prepare.source={big}",
                 f"runs_dir={tmp_path / 'runs'}", "engine.workers=0"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "atrc_exp", *arguments], stdout=subprocess.DEVNULL)
    scratch = root.parent / ".nyud.unfinished"
    try:
        deadline = time.monotonic() + 120
        while not (scratch / "NYUDv2" / "gt_sets").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert scratch.is_dir() and not root.exists()
    run_stage(prepare(tmp_path, *arguments[1:]))
    assert (root / "gt_sets").is_dir() and not scratch.exists()


@pytest.mark.slow
def test_the_crop_of_the_larger_packaging(tmp_path, capsys):
    root = tmp_path / "NYUD_MT"
    truth = write_nyud(root, "B", train=1, val=1, size=(480, 640))
    run_stage(prepare(tmp_path, "dataset=nyud", f"dataset.root={root}", "prepare.crop=true"))
    copy = tmp_path / "NYUD_MT-425x560"
    assert f"{copy} is ready" in capsys.readouterr().out
    report = report_of(tmp_path, "nyud")
    assert report["image_sizes"] == {"425x560": 2} and report["dataset"]["packaging"] == "B cropped"
    settings = prepare(tmp_path, "dataset=nyud", f"dataset.root={copy}").dataset
    sample = open_dataset(settings).val.load(0, settings.tasks)
    for task in settings.tasks:
        np.testing.assert_allclose(sample.labels[task], truth["0002"][task][45:470, 40:600], atol=1e-6)
    with Image.open(root / "images" / "0002.jpg") as image:
        np.testing.assert_array_equal(sample.image, np.asarray(image)[45:470, 40:600])
    with pytest.raises(UserError, match="is not packaging B"):
        cropped_copy(open_reader(settings))
    write_nyud(tmp_path / "small", "B")
    with pytest.raises(UserError, match=r"0001\.jpg: .*40 x 52 .*480 x 640"):
        cropped_copy(open_reader(prepare(tmp_path, "dataset=nyud", f"dataset.root={tmp_path / 'small'}").dataset))
    assert not (tmp_path / "small-425x560").exists()


@pytest.mark.slow
def test_what_looks_wrong_is_a_warning_and_on_request_an_error(tmp_path, archives, capsys):
    root = tmp_path / "copy"
    shutil.copytree(archives / "NYUDv2", root)
    for path in (root / "depth").iterdir():
        np.save(path, 1000 * np.load(path))
    start = ("dataset=nyud", f"dataset.root={root}")
    run_stage(prepare(tmp_path, *start))
    report = report_of(tmp_path, "nyud")
    (warning,) = (line for line in report["warnings"] if line.startswith("depth"))
    assert "5 of 5" in warning and "scale=0.001" in warning and report["problems"] == []
    assert warning in capsys.readouterr().out
    with pytest.raises(UserError, match=r"depth/0001\.npy: "):
        run_stage(prepare(tmp_path, *start, "prepare.values=true"))


def test_classes_that_never_occur_are_named(tmp_path, archives):
    root = tmp_path / "copy"
    shutil.copytree(archives / "NYUDv2", root)
    for path in (root / "segmentation").iterdir():
        stored = np.asarray(Image.open(path)).copy()
        stored[(stored == 4) | (stored == 22)] = 1
        Image.fromarray(stored).save(path)
    run_stage(prepare(tmp_path, "dataset=nyud", f"dataset.root={root}"))
    ids = {"train": ("0001", "0002", "0003"), "val": ("0004", "0005")}
    notes = report_of(tmp_path, "nyud")["dataset"]["notes"]
    for split, names in ids.items():
        stored = {int(value) for id in names for value in np.unique(Image.open(root / "segmentation" / f"{id}.png"))}
        absent = set(range(1, 41)) - stored
        (note,) = (note for note in notes if f"never occur in {split}" in note)
        assert note.startswith(f"{len(absent)} of 40 classes of semseg") and "bed" in note


@pytest.mark.slow
def test_the_figure_shows_samples_and_the_depths(tmp_path, archives, monkeypatch):
    drawn = []
    draw = dataset_report.draw
    monkeypatch.setattr(dataset_report, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    run_stage(prepare(tmp_path, "dataset=nyud", f"prepare.source={archives / 'NYUDv2'}"))
    axes = drawn[0].get_axes()
    pictures = [axis for axis in axes if axis.images]
    assert [axis.get_title() for axis in pictures[:5]] == ["Image", "SemSeg", "Depth", "Normal", "Bound"]
    assert len(pictures) == 3 * 5
    with Image.open(archives / "NYUDv2" / "images" / "0002.png") as image:
        np.testing.assert_array_equal(pictures[5].images[0].get_array(), np.asarray(image))
    root, train = archives / "NYUDv2", report_of(tmp_path, "nyud")["labels"]["train"]["depth"]
    depth = np.concatenate([np.load(root / "depth" / f"{id}.npy").ravel() for id in ("0001", "0002", "0003")])
    valid = depth[(depth > 0) & (depth < np.inf)]
    edges, shares = train["histogram"]["edges"], train["histogram"]["shares"]
    for low, high, share in zip(edges, edges[1:], shares, strict=False):
        assert share == pytest.approx(((valid >= low) & (valid < high)).mean(), abs=2 / valid.size)
    assert sum(shares) == pytest.approx(1)
    assert "Depth" in [axis.get_title() for axis in axes if not axis.images]


@pytest.mark.slow
def test_only_what_the_tasks_need_is_checked(tmp_path, archives):
    root = tmp_path / "copy"
    shutil.copytree(archives / "NYUDv2", root)
    shutil.rmtree(root / "normals")
    (root / "edge" / "0001.png").write_bytes(b"damaged")
    start = ("dataset=nyud", f"dataset.root={root}", "tasks=[depth]")
    run_stage(prepare(tmp_path, *start))
    report = report_of(tmp_path, "nyud")
    assert any("files of other tasks are missing" in note for note in report["dataset"]["notes"])
    assert set(report["labels"]["train"]) == {"depth", "semseg"}  # whose classes guide training crops
    assert build_datasets(as_typed(*start, "stage=profile")).info.fingerprint == report["dataset"]["fingerprint"]
