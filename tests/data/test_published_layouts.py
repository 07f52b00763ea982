"""Presets of published datasets on files in their layouts, against an independent reading of the same files."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import published_layouts as layouts
import pytest
from PIL import Image
from small_rooms import as_typed

from atrc_exp.data.loader import build_datasets
from atrc_exp.errors import UserError
from atrc_exp.tasks import IGNORE

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
CITYSCAPES = (  # by id, and those that the benchmark does not evaluate
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
NOT_EVALUATED = {
    *CITYSCAPES[:7], "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
}  # fmt: skip


def opened(name: str, root: Path, *overrides: str):
    """Both splits of a preset's dataset, and by id all that its reader delivers."""
    config = as_typed(f"dataset={name}", f"dataset.root={root}", "name=x", f"dataset.cache_dir={root / 'cache'}",
                      f"dataset.crop={list(layouts.SIZE)}", *overrides)  # fmt: skip
    data = build_datasets(config)
    samples = [split.load(index, config.dataset.tasks)
               for split in (data.train, data.val) for index in range(len(split))]  # fmt: skip
    return data, {sample.id: sample for sample in samples}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image).astype(np.int64)


@pytest.mark.parametrize("packed", [False, True])
def test_cityscapes_has_the_published_classes_and_disparities(tmp_path, packed):
    layouts.cityscapes(tmp_path)
    data, samples = opened("cityscapes", tmp_path, f"dataset.packed={str(packed).lower()}")
    assert data.train.ids == ["train/aachen/aachen_000000_000019", "train/bochum/bochum_000000_000313"]
    assert data.val.ids == ["val/lindau/lindau_000000_000019"]
    names = data.info.class_names["semseg"]
    assert set(names) == set(CITYSCAPES) - NOT_EVALUATED and len(names) == 19
    for id, sample in samples.items():
        np.testing.assert_array_equal(sample.image, pixels(tmp_path / "leftImg8bit" / f"{id}_leftImg8bit.png"))
        for stored, found in zip(pixels(tmp_path / "gtFine" / f"{id}_gtFine_labelIds.png").ravel(),
                                 sample.labels["semseg"].ravel(), strict=True):  # fmt: skip
            name = CITYSCAPES[stored]
            assert found == IGNORE if name in NOT_EVALUATED else names[found] == name
        codes = pixels(tmp_path / "disparity" / f"{id}_disparity.png")
        np.testing.assert_array_equal(sample.labels["disparity"], np.where(codes > 0, (codes - 1) / 256, 0))
        assert sample.labels["disparity"][0, 1] == 0  # the code 1 is a disparity of 0, which counts as none


def test_an_id_that_cityscapes_does_not_have_is_refused(tmp_path):
    layouts.cityscapes(tmp_path)
    layouts.save(next(tmp_path.rglob("aachen*_labelIds.png")), np.full(layouts.SIZE, 34, np.uint8))
    with pytest.raises(UserError, match=r"labelIds\.png: holds the value 34; allowed are 7, 8, 11, 12"):
        opened("cityscapes", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_nyuv2_as_mtan_has_it(tmp_path, packed):
    layouts.mtan(tmp_path, "label", 13, inverse=False)
    data, samples = opened("nyuv2_mtan", tmp_path, f"dataset.packed={str(packed).lower()}")
    assert data.train.ids == ["train/0", "train/1"] and data.val.ids == ["val/0"]
    for id, sample in samples.items():
        split, number = id.split("/")
        image, label, depth, normal = (
            np.load(tmp_path / split / folder / f"{number}.npy") for folder in ("image", "label", "depth", "normal")
        )
        assert sample.image.dtype == np.uint8 and abs(sample.image / 255 - image).max() <= 1 / 510 + 1e-6
        np.testing.assert_array_equal(sample.labels["semseg"], np.where(label < 0, IGNORE, label))
        np.testing.assert_array_equal(sample.labels["metric_depth"], depth.squeeze(2))
        np.testing.assert_array_equal(sample.labels["normals"], normal)


@pytest.mark.parametrize(("labels", "classes"), [("label_7", 7), ("label_19", 19)])
def test_cityscapes_as_mtan_has_it(tmp_path, labels, classes):
    layouts.mtan(tmp_path, labels, classes, inverse=True)
    overrides = [f"dataset.num_classes.semseg={classes}", f"dataset.folders.labels.semseg.folder=*/{labels}"]
    _, samples = opened("cityscapes_mtan", tmp_path, *overrides)
    assert len(samples) == 3
    for id, sample in samples.items():
        split, number = id.split("/")
        label, depth = (np.load(tmp_path / split / folder / f"{number}.npy") for folder in (labels, "depth"))
        np.testing.assert_array_equal(sample.labels["semseg"], np.where(label < 0, IGNORE, label))
        np.testing.assert_array_equal(sample.labels["inverse_depth"], depth[..., 0])


@pytest.mark.parametrize("folder", ["{task}/taskonomy/{building}", "{building}/{task}"])
def test_taskonomy_folders_as_the_page_describes_them(tmp_path, folder):
    layouts.taskonomy(tmp_path, folder)
    overrides = []
    if folder.startswith("{task}"):
        (script,) = re.findall(r"^```sh\n(.*?_domain_rgb.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True)
    else:
        (command,) = re.findall(r"^    (python .*='\*/rgb' \\\n(?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
        overrides = [word for word in shlex.split(command) if word.startswith("dataset.folders.")]
    data, samples = opened("taskonomy", tmp_path, *overrides)
    start = folder.replace("{task}", "").strip("/")
    views = {"allensville": ("0_view_0", "0_view_1"), "wainscott": ("7_view_2",)}
    train, val = ([f"{start.format(building=name)}/point_{view}" for view in views[name]] for name in views)
    assert (data.train.ids, data.val.ids) == (train, val)
    for id, sample in samples.items():
        *_, building, view = id.split("/")
        stored = {
            task: pixels(next((tmp_path / folder.format(task=task, building=building)).glob(f"{view}_domain_*.png")))
            for task in ("rgb", "depth_zbuffer", "normal", "edge_texture", "keypoints2d", "segment_semantic")
        }
        depth, semantic = stored["depth_zbuffer"], stored["segment_semantic"]
        np.testing.assert_array_equal(sample.image, stored["rgb"])
        np.testing.assert_array_equal(sample.labels["depth"], np.where(depth == 65535, 0, depth / 512))
        np.testing.assert_array_equal(sample.labels["semseg"], np.where(semantic == 0, IGNORE, semantic - 1))
        np.testing.assert_allclose(sample.labels["normals"], stored["normal"] / 127.5 - 1, atol=1e-6)
        for task in ("edge_texture", "keypoints2d"):
            np.testing.assert_allclose(sample.labels[task], stored[task] / 65535, rtol=1e-6)


def test_hypersim_folders_with_the_lists_of_the_page(tmp_path):
    h5py = pytest.importorskip("h5py")
    layouts.hypersim(tmp_path)
    (script,) = re.findall(r"^```bash\n(.*?metadata_images_split.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True)
    data, samples = opened("hypersim", tmp_path)
    assert data.train.ids == ["ai_001_001/cam_00/frame.0000", "ai_001_001/cam_01/frame.0012"]
    assert data.val.ids == ["ai_003_010/cam_00/frame.0000"]
    for id, sample in samples.items():
        scene, camera, frame = id.split("/")
        arrays = {}
        for kind, name in (("geometry", "semantic"), ("geometry", "depth_meters"), ("geometry", "normal_cam"),
                           ("final", "diffuse_reflectance")):  # fmt: skip
            folder = tmp_path / scene / "images" / f"scene_{camera}_{kind}_hdf5"
            with h5py.File(folder / f"{frame}.{name}.hdf5") as file:
                arrays[name] = file["dataset"][:]
        semantic = arrays["semantic"]
        np.testing.assert_array_equal(sample.labels["semseg"], np.where(semantic == -1, IGNORE, semantic - 1))
        np.testing.assert_array_equal(sample.labels["distance"], np.nan_to_num(arrays["depth_meters"]))
        np.testing.assert_array_equal(sample.labels["normals"], np.nan_to_num(arrays["normal_cam"]))
        np.testing.assert_array_equal(sample.labels["albedo"], arrays["diffuse_reflectance"])


def test_borders_of_regions_as_the_page_makes_them(tmp_path, monkeypatch):
    layouts.save(tmp_path / "regions" / "one.png", np.repeat(np.arange(4, dtype=np.uint8), 10)[:, None].repeat(9, 1))
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    found = pixels(tmp_path / "edge" / "one.png")
    assert set(np.unique(found)) == {0, 255} and (np.flatnonzero(found[:, 0]) % 10).tolist() == [9, 9, 9]
