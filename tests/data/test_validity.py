"""Which pixels of depth and normals count: by our rule, and by the published one on every packaging."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nyud_files import write_nyud
from pascal_files import write_pascal
from PIL import Image
from scipy.io import loadmat

from atrc_exp.config import Config, DatasetConfig, EngineConfig, EvaluationConfig
from atrc_exp.config.folders import FoldersConfig, LabelFilesConfig
from atrc_exp.data.decode import read_normals
from atrc_exp.data.loader import val_loader
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.pascal_classes import CLASSES_WITH_NORMALS
from atrc_exp.evaluation.evaluate import evaluate
from atrc_exp.evaluation.scores import Scores
from atrc_exp.models.network import Output
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import build_tasks

DEPTH = 3.0  # what is predicted everywhere, in metres; normals are (0, 0, 1)
PACKAGINGS = ("nyud A", "nyud B", "pascal", "own 8-bit files", "own arrays")
EIGHT_BITS = ("nyud A", "pascal", "own 8-bit files")


def test_eight_bit_normals_without_a_direction_are_invalid(tmp_path):
    """Raw 0 decodes to -1, 127 and 128 to -+0.004, 190 to 0.490, 192 to 0.506; a length under a half is no normal."""
    raw = [(0, 0, 0), (127, 127, 127), (128, 128, 190), (128, 128, 192), (0, 0, 1)]
    path = tmp_path / "normals.png"
    Image.fromarray(np.array([raw], np.uint8)).save(path)
    decoded = np.array(raw) / 127.5 - 1
    np.testing.assert_allclose(read_normals(path)[0], [(0, 0, 0)] * 3 + [*decoded[3:]], atol=1e-7)
    np.testing.assert_allclose(read_normals(path, every_code=True)[0], decoded, atol=1e-7)


class Constant(torch.nn.Module):
    """Predicts the same depth and normal everywhere."""

    def forward(self, image, labels):
        depth = torch.full_like(image[:, :1], DEPTH)
        normals = torch.zeros_like(image)
        normals[:, 2] = 1
        return Output({task: {"depth": depth, "normals": normals}[task] for task in labels}, {}, {})


def written(root: Path, packaging: str) -> DatasetConfig:
    """A dataset with holes of all kinds in its labels; images of two sizes in PASCAL's."""
    keys = {"name": "test", "root": str(root), "crop": [64, 64], "cache_dir": str(root.parent / "cache")}
    if packaging == "pascal":
        write_pascal(root)
        return DatasetConfig(**keys, reader="pascal", num_classes={"semseg": 21}, tasks=["normals"])
    write_nyud(root, "A" if packaging in EIGHT_BITS else "B")
    tasks = ["depth", "normals"]
    if packaging.startswith("nyud"):
        return DatasetConfig(**keys, reader="nyud", num_classes={"semseg": 40}, tasks=tasks)
    labels = {"depth": LabelFilesConfig(folder="depth"), "normals": LabelFilesConfig(folder="normals")}
    lists = {"train": "gt_sets/train.txt", "val": "gt_sets/val.txt"}
    return DatasetConfig(**keys, reader="folders", tasks=tasks, folders=FoldersConfig(labels=labels, **lists))


def stored_normals(root: Path, id: str) -> list[np.ndarray]:
    """The vectors that the published code scores."""
    folder = root / ("normals_distill" if (root / "normals_distill").is_dir() else "normals")
    if (folder / f"{id}.npy").is_file():
        return [v for v in np.load(folder / f"{id}.npy").reshape(-1, 3) if np.isfinite(v).all() and v.any()]
    vectors = (2 * np.array(Image.open(folder / f"{id}.png")).astype(float) / 255 - 1).reshape(-1, 3)
    if folder.name == "normals_distill":
        classes = loadmat(root / "pascal-context" / "trainval" / f"{id}.mat")["LabelMap"].ravel()
        vectors = [v for v, own in zip(vectors, classes, strict=True) if own in CLASSES_WITH_NORMALS]
    return list(vectors)


@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_the_published_rule_scores_what_the_published_code_does(tmp_path, packaging):
    config = Config(name="test", dataset=written(tmp_path / "data", packaging), engine=EngineConfig(workers=0))
    data = open_dataset(config.dataset)
    tasks = build_tasks(config.dataset.tasks, num_classes={}, edge_positive_weight=0.8, edge_max_distance=0.011)
    batches = list(val_loader(data, config, rank=0, world=1, device=torch.device("cpu")))

    def scored(**rules) -> dict[str, float]:
        scores = Scores(tasks, Ranks(), EvaluationConfig(**rules), truth=data.truth)
        return evaluate(Constant(), batches, tasks, Ranks(), scores=scores)

    ours, published = scored(), scored(reference_invalid=True)
    angles = [math.degrees(math.acos(v[2] / math.sqrt(v @ v)))
              for id in data.val.ids for v in stored_normals(tmp_path / "data", id)]  # fmt: skip
    assert published["normals/mean_error"] == pytest.approx(sum(angles) / len(angles), rel=1e-5)
    assert (ours["normals/mean_error"] != published["normals/mean_error"]) == (packaging in EIGHT_BITS)
    if packaging != "pascal":
        depths = [float(d) for id in data.val.ids for d in np.load(tmp_path / "data" / "depth" / f"{id}.npy").flat]
        assert 0 in depths and -1 in depths
        errors = [(DEPTH - (255 if d == 0 else d)) ** 2 for d in depths if math.isfinite(d)]
        assert published["depth/rmse"] == pytest.approx(math.sqrt(sum(errors) / len(errors)), rel=1e-6)
        labelled = [(DEPTH - d) ** 2 for d in depths if 0 < d < math.inf]
        assert ours["depth/rmse"] == pytest.approx(math.sqrt(sum(labelled) / len(labelled)), rel=1e-6)
    losses = [name for name in ours if name.endswith("loss")]
    assert {name: ours[name] for name in losses} == {name: published[name] for name in losses}
