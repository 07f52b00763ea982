"""docs/extending.md, word for word in a scratch folder: its files are written, its changes made, its commands run."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import small_rooms
import yaml

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHORT = ("engine.iterations=1", "engine.batch_size=2", "engine.workers=0", "engine.progress=false", "logger=none",
         "distillation.channels=8", "tasks=[semseg,depth]")  # fmt: skip
ROOMS = (f"dataset.rooms.train={small_rooms.TRAIN}", f"dataset.rooms.val={small_rooms.VAL}",
         f"dataset.rooms.image_size=[{small_rooms.SIZE[0]},{small_rooms.SIZE[1]}]")  # fmt: skip


class Block(NamedTuple):
    language: str
    title: str
    text: str


def section(title: str) -> list[Block]:
    """The blocks of one section of the page."""
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    body = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [Block(*found) for found in FENCE.findall(body)]


SECTIONS = ("A dataset", "A backbone", "A module", "A metric", "A figure")


def changed(source: str, diff: str) -> str:
    """The source with every hunk applied; the lines before it must be there once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    return source


def write(folder: Path, blocks: list[Block]) -> None:
    """Write the files of a section below the folder, and make its changes there."""
    for block in blocks:
        if not block.title:
            continue
        path = folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        text = changed(path.read_text(), block.text) if block.language == "diff" else block.text
        path.write_text(text)


def scratch_package(folder: Path) -> None:
    """A copy of the package as a wheel lays it out, which Python finds before the installed one when started there."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "atrc_exp", folder / "atrc_exp", ignore=ignored)
    for name in ("conf", "kernels"):
        shutil.copytree(REPOSITORY / name, folder / "atrc_exp" / name, ignore=ignored)


def run(folder: Path, blocks: list[Block], *further: str) -> None:
    """Run the commands of a section in the folder; those of the package with further overrides at their end."""
    (commands,) = (block.text.replace("\\\n", " ") for block in blocks if block.language == "bash")
    for line in commands.splitlines():
        python, *arguments = shlex.split(line)
        assert python == "python"
        arguments += further if arguments[:2] == ["-m", "atrc_exp"] else ()
        call(folder, *arguments)


def call(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("title", SECTIONS)
def test_blocks_can_be_read_and_changes_fit_the_package(title):
    blocks = section(title)
    assert blocks
    for block in blocks:
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "yaml":
            assert yaml.safe_load(block.text)
        elif block.language == "diff":
            ast.parse(changed((REPOSITORY / block.title).read_text(encoding="utf-8"), block.text))
        else:
            assert block.language == "bash"


@pytest.mark.slow
def test_a_dataset(tmp_path):
    blocks = section("A dataset")
    write(tmp_path, blocks)
    run(tmp_path, blocks, *SHORT, *small_rooms.QUICK, f"dataset.cache_dir={tmp_path / 'cache'}")
    assert (tmp_path / "runs" / "dots_search" / "seed0" / "genotype.json").is_file()


@pytest.mark.slow
def test_a_backbone(tmp_path, rooms):
    blocks = section("A backbone")
    write(tmp_path, blocks)
    run(tmp_path, blocks, *SHORT, *ROOMS, f"dataset.root={rooms}", f"dataset.cache_dir={tmp_path / 'cache'}")
    run_folder = tmp_path / "runs" / "rooms_mobilenet_multi_task" / "seed0"
    assert (run_folder / "summary.json").is_file()
    assert "mobilenetv3_small_050" in (run_folder / "train.log").read_text()


@pytest.mark.slow
def test_a_module(tmp_path, rooms):
    blocks = section("A module")
    write(tmp_path, blocks)
    run(tmp_path, blocks, *SHORT, *ROOMS, *small_rooms.QUICK, f"dataset.root={rooms}",
        f"dataset.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    settings = yaml.safe_load((tmp_path / "runs" / "add_mean" / "seed0" / "config.yaml").read_text())
    assert settings["distillation"]["options"] == {"share": 0.3}
    assert (tmp_path / "runs" / "add_mean" / "seed0" / "summary.json").is_file()


@pytest.mark.slow
def test_a_metric(tmp_path):
    """Depths 1, 2 and invalid, predicted as 1.5, 1 and 7: the mean of 1/2 and 1/2."""
    scratch_package(tmp_path)
    write(tmp_path, section("A metric"))
    program = """
import torch
from atrc_exp.metrics import build_metrics
from atrc_exp.tasks import TASKS
metric = build_metrics([TASKS["depth"]])["depth"]
metric.update(torch.tensor([1.5, 1.0, 7.0]).view(1, 1, 1, 3), torch.tensor([1.0, 2.0, 0.0]).view(1, 1, 1, 3))
print(metric.compute()["abs_rel"])
"""
    assert float(call(tmp_path, "-c", program)) == 0.5


@pytest.mark.slow
def test_a_figure(tmp_path, finished_run):
    scratch_package(tmp_path)
    blocks = section("A figure")
    write(tmp_path, blocks)
    shutil.copytree(finished_run, tmp_path / "runs" / finished_run.parent.name / finished_run.name)
    run(tmp_path, blocks, "logger=none")
    assert (tmp_path / "runs" / "report" / "figures" / "spread.png").is_file()
    assert 'id="spread"' in (tmp_path / "runs" / "report" / "index.html").read_text()
