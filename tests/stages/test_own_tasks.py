"""docs/add_a_task.md followed word for word: five tasks of four kinds, described in YAML alone."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from small_rooms import QUICK, as_typed

from atrc_exp.config import DatasetConfig
from atrc_exp.config.arguments import readable
from atrc_exp.config.folders import FoldersConfig, LabelFilesConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import load
from atrc_exp.stages import run_stage
from atrc_exp.tasks import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "add_a_task.md").read_text()
TASKS = ["semseg", "material", "depth", "albedo", "shadow"]
SETTINGS = ("engine.iterations=2", "engine.batch_size=2", "engine.workers=0", "engine.progress=false", "logger=none",
            "neck=shared", *QUICK)  # fmt: skip


def block(language: str) -> str:
    """The first code block of the page in this language."""
    return next(text for name, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
                if name == language)  # fmt: skip


def write_studio(root: Path, rooms: Path) -> None:
    """Rooms with two labels as they are, and three made of them: groups of classes, mean colours, dark pixels."""
    for folder in ("images", "semseg", "material", "depth", "albedo", "shadow"):
        (root / folder).mkdir(parents=True)
    for split in ("train", "val"):
        ids = (rooms / "gt_sets" / f"{split}.txt").read_text().split()
        (root / f"{split}.txt").write_text("\n".join(ids))
        for id in ids:
            image = np.asarray(Image.open(rooms / "images" / f"{id}.png"))
            semseg = np.asarray(Image.open(rooms / "segmentation" / f"{id}.png"))
            semseg = np.where(semseg == 0, 255, semseg - 1).astype(np.uint8)  # in the files of NYUD 0 is unlabelled
            albedo = np.zeros_like(image)
            for label in np.unique(semseg):
                albedo[semseg == label] = image[semseg == label].mean(axis=0)
            maps = {
                "images": image,
                "semseg": semseg,
                "material": np.where(semseg == 255, 255, semseg % 5).astype(np.uint8),
                "albedo": albedo,
                "shadow": (255 * (image.mean(axis=2) < 0.7 * albedo.mean(axis=2))).astype(np.uint8),
            }
            for folder, array in maps.items():
                Image.fromarray(array).save(root / folder / f"{id}.png")
            np.save(root / "depth" / f"{id}.npy", np.load(rooms / "depth" / f"{id}.npy"))


def described() -> DatasetConfig:
    values = yaml.safe_load(block("yaml"))
    table = {name: TaskConfig(**row) for name, row in values.pop("task_table").items()}
    labels = {name: LabelFilesConfig(**row) for name, row in values["folders"].pop("labels").items()}
    return DatasetConfig(**{**values, "task_table": table,
                            "folders": FoldersConfig(**values["folders"], labels=labels)})  # fmt: skip


def test_the_page_shows_what_there_is():
    dataset = described()
    assert dataset.tasks == TASKS and len({dataset.rows[task].label for task in TASKS}) == 4
    table = dict(re.findall(r"^\| (\w+) \|[^|]*\|([^|]*\|[^|]*)\|$", PAGE, re.MULTILINE))
    for name, kind in KINDS.items():
        losses, metrics = table[name].split("|")
        shown = {cell.strip() for cell in (losses, metrics)}
        if shown != {"as depth"}:
            assert shown == {", ".join(kind.losses), ", ".join(kind.metrics)}
        else:
            assert (list(kind.losses), list(kind.metrics)) == (
                list(KINDS["depth"].losses),
                list(KINDS["depth"].metrics),
            )
    for line in block("").strip().splitlines():
        name, key, value = re.match(r"dataset\.task_table\.(\w+)(?:\.(\w+))?=(\w+)", line).groups()
        row = {"kind": "depth"} if key is None else {"kind": "binary", key: value}
        with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
            DatasetConfig(name="x", task_table={name: TaskConfig(**row)})


@pytest.mark.slow
@pytest.mark.parametrize("export", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_every_stage_of_own_tasks(tmp_path, rooms, monkeypatch, export):
    write_studio(tmp_path / "data" / "studio", rooms)
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "studio.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    for line in block("bash").strip().splitlines():
        if "stage=export" in line and not export:  # takes longer than all others together
            continue
        command = [sys.executable, *shlex.split(line)[1:]]
        if "--config-dir" not in command:  # what looks at runs needs no process of its own
            run_stage(as_typed(*map(readable, command[3:]), *(["engine.progress=false"] if "run=" in line else [])))
            continue
        command += [f"dataset.cache_dir={tmp_path / 'cache'}", *SETTINGS] if " name=" in line else []
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    assert load(runs / "studio_search").tasks == tuple(TASKS)
    assert (runs / "studio_search" / "votes.png").is_file()
    summary = json.loads((runs / "studio_atrc" / "seed0" / "summary.json").read_text())
    assert list(summary["headline"]) == TASKS and set(summary["losses"]) == set(TASKS)
    table = (runs / "studio_atrc" / "table.md").read_text()
    for heading in ("Material miou [%] ↑", "Albedo psnr [dB] ↑", "Shadow f [%] ↑"):
        assert heading in table
    scores = json.loads((runs / "studio_atrc" / "seed0" / "evaluation.json").read_text())["metrics"]
    assert scores["albedo"]["psnr"] == pytest.approx(summary["headline"]["albedo"], abs=1e-4)
    predicted = runs / "studio_atrc" / "seed0" / "predicted"
    ids = (tmp_path / "data" / "studio" / "val.txt").read_text().split()
    assert np.load(predicted / "albedo" / f"{ids[0]}.npy").shape == (32, 48, 3)
    assert np.asarray(Image.open(predicted / "shadow" / f"{ids[0]}.png")).dtype == np.uint8
    assert (predicted / "panels" / f"{ids[0]}.png").is_file()
    report = json.loads((runs / "datasets" / "studio" / "dataset_report.json").read_text())
    assert not report["problems"] and set(report["labels"]["train"]) == set(TASKS)
    folder = runs / "studio_atrc" / "seed0"
    worth = json.loads((folder / "importance.json").read_text())
    assert worth["tasks"] == TASKS and worth["blocks"]
    with np.load(folder / "attention" / "0001_10_20" / "albedo.npz") as arrays:
        assert arrays.files
    assert (folder / "network.onnx").is_file() == export
    page = (runs / "report" / "index.html").read_text()
    assert all(row.title in page for row in described().rows.values() if row.name in TASKS)
