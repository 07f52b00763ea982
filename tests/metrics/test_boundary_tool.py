"""`atrc-boundary`: folders of edge maps and ground truths of many forms, what it writes, and what it warns of."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import gaussian_filter
from small_boundaries import synthetic_pair

from atrc_exp.metrics.boundary import evaluate, match, partition_to_boundary
from atrc_exp.metrics.boundary.files import read_prediction, read_truth
from atrc_exp.metrics.boundary.kernels.thinning import thin
from atrc_exp.metrics.boundary.tool.command import main

PACKAGE = Path(__file__).resolve().parents[2] / "atrc_exp" / "metrics" / "boundary"
REPOSITORY = PACKAGE.parents[2]
SHAPE = (60, 80)


@pytest.fixture(scope="module")
def maps():
    """Soft ridges of uneven strength about a pixel off thin boundaries."""
    made = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = thin(synthetic_pair(seed, SHAPE, regions=6)[1])
        strength = 0.3 + 0.7 * np.kron(rng.random((3, 4)), np.ones((20, 20)))
        response = gaussian_filter(np.roll(truth, 1, axis=seed % 2).astype(float), 1.2) * strength
        response += 0.1 * gaussian_filter(rng.random(SHAPE), 1)
        made.append(((255 * response / response.max()).astype(np.uint8), truth))
    return made


@pytest.fixture
def folders(tmp_path, maps):
    """`pred` and `gt` as PNG of values 0 to 255 and 0 and 255, one image in a sub-folder."""
    for i, (prediction, truth) in enumerate(maps):
        for side, values in (("pred", prediction), ("gt", truth.astype(np.uint8) * 255)):
            path = tmp_path / side / ("sub/" if i == 4 else "") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return tmp_path


def run(folder, *arguments):
    return main([str(folder / "pred"), str(folder / "gt"), "--workers", "1", "--quiet", "--max-dist", "0.02",
                 *map(str, arguments)])  # fmt: skip


def scores(folder, *arguments):
    assert run(folder, "--out", folder / "out", "--overlays", 0, *arguments) == 0
    return json.loads((folder / "out" / "scores.json").read_text())


def fails(capsys, folder, *arguments):
    assert run(folder, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


# ---------------------------------------------------------------- scores and files


def test_the_command_scores_as_the_function(folders, maps, capsys):
    found = scores(folders)
    expected = evaluate(*zip(*maps, strict=True), max_dist=0.02)
    assert {key: found[key] for key in expected.as_dict()} == expected.as_dict()
    assert f"{100 * expected.odsF:.2f}" in capsys.readouterr().out

    images = list(csv.DictReader((folders / "out" / "images.csv").open()))
    assert [row["image"] for row in images] == ["0", "1", "2", "3", "sub/4"]
    alone = evaluate(*zip(maps[2], strict=True), max_dist=0.02)
    assert float(images[2]["f"]) == alone.odsF and float(images[2]["best_threshold"]) == alone.threshold
    curve = list(csv.DictReader((folders / "out" / "thresholds.csv").open()))
    assert max(float(row["f"]) for row in curve) == expected.odsF and len(curve) == 101


def test_pictures_show_what_is_matched(folders, maps):
    assert run(folders, "--out", folders / "out", "--overlays", 2) == 0
    names = sorted(path.name for path in (folders / "out" / "overlays").iterdir())
    assert [name[: name.index("_") + 2] for name in names] == ["best_1", "best_2", "worst_1", "worst_2"]
    assert Image.open(folders / "out" / "curve.png").size[0] > 800
    threshold = json.loads((folders / "out" / "scores.json").read_text())["threshold"]
    worst = next(name for name in names if name.startswith("worst_1"))
    prediction, truth = maps[int(worst[-5])]
    hits, misses, false = match(prediction, truth, threshold, max_dist=0.02)
    picture = np.asarray(Image.open(folders / "out" / "overlays" / worst))
    scale = picture.shape[1] // SHAPE[1]
    picture = picture[: scale * SHAPE[0] : scale, : scale * SHAPE[1] : scale]
    for mask in (hits, misses & ~hits & ~false, false):
        assert len(np.unique(picture[mask], axis=0)) == 1


def test_matched_pixels_add_up_to_the_counts(maps):
    prediction, truth = maps[0]
    truths, options = [truth, np.roll(truth, 3, 0)], {"max_dist": 0.02, "protocol": "bsds"}
    precision = evaluate([prediction], [truths], **options).curve.precision
    for threshold in (0.2, 0.5):
        hits, misses, false = match(prediction, truths, threshold, **options)
        assert not (hits & false).any() and misses.any()
        assert hits.sum() / (hits | false).sum() == precision[round(100 * threshold) - 1] > 0


def stored(folder, name, values):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        Image.fromarray(values).save(path, format="PNG")
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        savemat(path, {"map": values})
    return path


def test_predictions_of_every_form_are_the_same_map(tmp_path, maps):
    prediction = maps[0][0]
    sixteen = prediction.astype(np.uint16) * 257  # 65535 / 255
    for name, values in {
        "a.png": prediction, "b.PNG": sixteen, "c.npy": prediction, "d.npy": prediction / 255, "e.mat": prediction,
        "f.mat": prediction / 255,
    }.items():  # fmt: skip
        read = read_prediction(stored(tmp_path, name, values))
        top = np.iinfo(read.dtype).max if np.issubdtype(read.dtype, np.integer) else 1
        np.testing.assert_allclose(read / top, prediction / 255, rtol=1e-12)
    bits = Image.fromarray(prediction > 99).convert("1")
    bits.save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_prediction(tmp_path / "g.png"), np.where(prediction > 99, 255, 0))


def test_truths_of_every_form_are_the_same_map(tmp_path, maps):
    truth = maps[0][1]
    Image.fromarray(truth).convert("1").save(tmp_path / "a.png")
    for name, values in {"b.png": truth.astype(np.uint8), "c.png": truth.astype(np.uint8) * 255, "d.npy": truth,
                         "e.npy": truth.astype(float), "f.mat": truth.astype(float)}.items():  # fmt: skip
        stored(tmp_path, name, values)
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_truth(path) > 0, truth)
    with_palette = Image.fromarray(truth.astype(np.uint8))
    with_palette.putpalette([0, 0, 0, 255, 0, 0])
    with_palette.save(tmp_path / "h.png")
    assert Image.open(tmp_path / "h.png").mode == "P"
    np.testing.assert_array_equal(read_truth(tmp_path / "h.png") > 0, truth)
    regions = np.add.outer(np.arange(9) // 3, 2 * (np.arange(12) // 5))
    savemat(tmp_path / "g.mat", {"partition": regions.astype(float)})
    np.testing.assert_array_equal(read_truth(tmp_path / "g.mat"), partition_to_boundary(regions))


def bsds_truth(path, masks):
    cells = np.empty((1, len(masks)), object)
    for i, mask in enumerate(masks):
        cells[0, i] = {"Segmentation": mask.astype(np.uint16), "Boundaries": mask.astype(np.uint8)}
    savemat(path, {"groundTruth": cells})


def test_a_folder_of_the_bsds_layout_with_three_annotators(folders, maps):
    for path in list((folders / "gt").rglob("*.png")):
        truth = maps[int(path.stem)][1]
        bsds_truth(path.with_suffix(".mat"), [np.roll(truth, shift, axis=1) for shift in (0, 1, -9)])
        path.unlink()
    found = scores(folders, "--protocol", "bsds")
    by_image = {int(p.stem): read_truth(p) for p in (folders / "gt").rglob("*.mat")}
    expected = evaluate([m[0] for m in maps], [by_image[i] for i in range(5)], max_dist=0.02, protocol="bsds")
    assert {key: found[key] for key in ("odsF", "oisF", "AP", "R50")} == {
        key: getattr(expected, key) for key in ("odsF", "oisF", "AP", "R50")
    }
    assert found["nms"] is None and found["interpolate"]
    suppressed = scores(folders, "--protocol", "bsds", "--nms", 1)
    assert suppressed["nms"] == 1 and suppressed["odsF"] != found["odsF"]


def test_maps_of_regions_become_boundaries(folders):
    rng = np.random.default_rng(0)
    for path in (folders / "gt").rglob("*.png"):
        regions = np.kron(rng.integers(0, 250, (3, 4)), np.ones((20, 20), int)).astype(np.uint8)
        Image.fromarray(regions).save(path)
        boundary = Image.fromarray(partition_to_boundary(regions).astype(np.uint8) * 255)
        boundary.save(folders / "pred" / path.relative_to(folders / "gt"))
    assert scores(folders, "--partition", "--protocol", "mtl_pytorch")["odsF"] == 1


# ---------------------------------------------------------------- going on


def test_a_stopped_run_goes_on_and_scores_the_same(folders, monkeypatch):
    whole = scores(folders)
    lines = (folders / "out" / "counts.jsonl").read_text().splitlines(keepends=True)
    assert max(map(len, lines)) < 8 * 1024
    (folders / "out" / "counts.jsonl").write_text("".join(lines[:2]) + lines[2][:40])  # killed while writing
    counted = []
    from atrc_exp.metrics.boundary.tool import folders as scoring

    original = scoring._score
    monkeypatch.setattr(scoring, "_score", lambda pair, *rest: (counted.append(pair.name), original(pair, *rest))[1])
    assert scores(folders) == whole and counted == ["2", "3", "sub/4"]
    assert len((folders / "out" / "counts.jsonl").read_text().splitlines()) == 5

    counted.clear()
    assert scores(folders) == whole and counted == []
    os.utime(folders / "pred" / "1.png", (1, 1))  # another file perhaps
    assert scores(folders) == whole and counted == ["1"]
    counted.clear()
    scores(folders, "--max-dist", 0.03)
    assert len(counted) == 5


def test_an_interrupt_ends_in_good_order(folders, monkeypatch, capsys):
    from atrc_exp.metrics.boundary.tool import folders as scoring

    original = scoring._score

    def interrupted(pair, *rest):
        if pair.name == "2":
            raise KeyboardInterrupt
        return original(pair, *rest)

    monkeypatch.setattr(scoring, "_score", interrupted)
    assert run(folders, "--out", folders / "out") == 130
    assert "2 of 5" in capsys.readouterr().err and not (folders / "out" / "scores.json").exists()
    assert len((folders / "out" / "counts.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_processes_do_not_change_the_scores(folders):
    alone = scores(folders)
    shutil.rmtree(folders / "out")
    for i in range(5, 10):
        for side in ("pred", "gt"):
            shutil.copy(folders / side / f"{i % 4}.png", folders / side / f"{i}.png")
    several = scores(folders, "--workers", 2)
    shutil.rmtree(folders / "out")
    assert several == scores(folders) and several["images"] == 10 and alone["images"] == 5


@pytest.mark.slow
def test_processes_end_with_a_command_that_is_killed(folders):
    for i in range(5, 300):
        for side in ("pred", "gt"):
            os.link(folders / side / f"{i % 4}.png", folders / side / f"{i}.png")
    command = [sys.executable, "-m", "atrc_exp.metrics.boundary", folders / "pred", folders / "gt", "--workers", "2"]
    counts = folders / "out" / "counts.jsonl"
    with subprocess.Popen([*command, "--out", folders / "out"], stdout=subprocess.PIPE) as process:
        while not counts.exists() or not counts.stat().st_size:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=30)  # until no process holds the other end of the pipe
    assert len(counts.read_text().splitlines()) < 300


# ---------------------------------------------------------------- warnings and mistakes


def rewrite(folder, side, change, names=("0", "1", "2", "3", "sub/4")):
    for name in names:
        path = folder / side / f"{name}.png"
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


@pytest.fixture
def warnings(folders, capsys):
    """What the command warns of, called with its options."""

    def warned(*arguments):
        capsys.readouterr()
        assert run(folders, *arguments) == 0
        return capsys.readouterr().err

    return warned


def test_sound_maps_raise_no_doubt(warnings):
    for protocol in ("seism", "mtl_pytorch", "bsds"):
        assert warnings("--protocol", protocol) == ""


def test_inverted_maps_are_noticed(folders, warnings):
    rewrite(folders, "pred", lambda values: 255 - values)
    assert "inverted" in warnings()


def test_decisions_instead_of_probabilities_are_noticed(folders, warnings):
    rewrite(folders, "pred", lambda values: (values > 99).astype(np.uint8) * 255, ["1"])
    assert "1 of 5 predictions hold two values" in warnings()
    rewrite(folders, "pred", lambda values: (values > 0).astype(np.uint8), ["2", "3"])
    assert "2 of 5 predictions are at most 1" in warnings()


def test_jpeg_under_another_name_is_noticed(folders, warnings):
    values = Image.open(folders / "pred" / "3.png")
    values.save(folders / "pred" / "3.png", format="JPEG")
    assert "1 of 5 predictions are JPEG" in warnings()


def test_odd_truths_are_noticed(folders, warnings):
    rewrite(folders, "gt", lambda values: np.where(values > 0, 90, 0).astype(np.uint8), ["0"])
    rewrite(folders, "gt", lambda values: np.zeros_like(values), ["1", "2"])
    found = warnings()
    assert "1 of 5 ground truths hold other values" in found and "2 of 5 ground truths have no boundary" in found
    rewrite(folders, "gt", lambda values: np.maximum(values, np.roll(values, 1, 0)), ["3"])
    assert "1 of 5 ground truths are wider" in warnings("--protocol", "bsds")


def test_predictions_without_a_truth_are_noticed(folders, warnings):
    shutil.copy(folders / "pred" / "0.png", folders / "pred" / "extra.png")
    assert "1 of 6" in warnings()


def test_missing_predictions_are_looked_for_elsewhere(folders, capsys):
    Image.open(folders / "pred" / "1.png").save(folders / "pred" / "1.jpg")
    (folders / "pred" / "1.png").unlink()
    (folders / "pred" / "img").mkdir()
    (folders / "pred" / "2.png").rename(folders / "pred" / "img" / "2.png")
    error = fails(capsys, folders)
    assert "2 of 5" in error and "found 1.jpg, wanted 1.png" in error and "found img/2.png, wanted 2.png" in error


@pytest.mark.parametrize(
    ("change", "hint"),
    [(lambda v: v.T, "transposed"), (lambda v: v[::2, ::2], "scaled by 0.5"), (lambda v: v[1:], r"(59, 80)")],
)
def test_other_sizes_are_named(folders, capsys, change, hint):
    rewrite(folders, "pred", lambda values: np.ascontiguousarray(change(values)), ["sub/4"])
    error = fails(capsys, folders)
    assert "sub/4: " in error and hint in error


def test_mistakes_are_told_in_one_line(folders, capsys, tmp_path):
    assert "unknown" in fails(capsys, folders, "--protocol", "unknown")
    assert "--nms 0.5" in fails(capsys, folders, "--nms", 0.5)
    assert "--nms much" in fails(capsys, folders, "--nms", "much")
    assert "--max-dist 2" in fails(capsys, folders, "--max-dist", 2)
    assert "--workers 0" in fails(capsys, folders, "--workers", 0)
    shutil.copy(folders / "pred" / "1.png", folders / "pred" / "1.PNG")
    assert "both" in fails(capsys, folders)
    (folders / "pred" / "1.PNG").unlink()
    (folders / "pred" / "1.png").write_bytes((folders / "pred" / "1.png").read_bytes()[:300])
    assert "1.png cannot be read" in fails(capsys, folders)
    Image.new("RGB", SHAPE[::-1]).save(folders / "pred" / "1.png")
    assert "'RGB'" in fails(capsys, folders)
    shutil.rmtree(folders / "gt")
    assert "does not exist" in fails(capsys, folders)
    (folders / "gt").mkdir()
    assert "holds no .png" in fails(capsys, folders)


# ---------------------------------------------------------------- without PyTorch

BLOCKED = ("torch", "atrc_exp", "hydra", "omegaconf", "cv2", "matplotlib", "albumentations", "wandb")
BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_blocked(site, *arguments):
    """Run the command of the package below `site` where nothing but its own dependencies can be imported."""
    code = f"{BLOCKER}\nsys.path.insert(0, {str(site)!r})\nfrom atrc_boundary.tool.command import main"
    command = [sys.executable, "-c", f"{code}\nsys.exit(main({[*map(str, arguments)]}))"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=site)


def test_the_package_imports_nothing_of_the_framework(tmp_path):
    (tmp_path / "atrc_boundary").symlink_to(PACKAGE)
    done = run_blocked(tmp_path, "--help")
    assert done.returncode == 0 and "--protocol" in done.stdout, done.stderr
    done = run_blocked(tmp_path, "nowhere", "nowhere")
    assert done.returncode == 2 and "does not exist" in done.stderr


@pytest.mark.slow
def test_the_distribution_of_its_own_is_whole_and_scores_alike(folders, maps):
    source, site = folders / "source", folders / "site"
    shutil.copytree(PACKAGE, source / PACKAGE.relative_to(REPOSITORY), ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "boundary", source / "boundary", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(folders)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source / "boundary", check=True, capture_output=True, timeout=300)
    (wheel,) = folders.glob("atrc_boundary-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for path in PACKAGE.glob("*.py"):
        assert (site / "atrc_boundary" / path.name).read_bytes() == path.read_bytes()
    assert "atrc-boundary" in next(site.glob("*.dist-info/entry_points.txt")).read_text()

    out = folders / "out"
    done = run_blocked(site, folders / "pred", folders / "gt", "--quiet", "--workers", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "matplotlib is not installed" in done.stderr
    expected = evaluate(*zip(*maps, strict=True), max_dist=0.0075).odsF
    assert json.loads((out / "scores.json").read_text())["odsF"] == expected
