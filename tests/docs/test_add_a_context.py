"""docs/add_a_context.md, followed word by word in a scratch copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_rooms import QUICK, SIZE, SMALL, TRAIN, VAL

from atrc_exp.files import read_json

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add_a_context.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def scratch(tmp_path):
    """A copy in which the page's file, entry and choice have been added where its headings say."""
    copied = tmp_path / "copy"
    for part in ("atrc_exp", "conf", "kernels", "tests"):
        shutil.copytree(ROOT / part, copied / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copied)
    headings = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for heading in headings[1:4]:
        path = copied / re.findall(r"`([\w/.]+\.\w+)`", heading.partition("\n")[0])[-1]
        (_, content), *_ = BLOCK.findall(heading)
        if path.exists():
            table, after = path.read_text(encoding="utf-8").split("\n    )\n}", 1)
            content = f"{table}\n{content.rstrip()}\n    )\n}}{after}"
        path.write_text(content, encoding="utf-8")
    return copied


def commands() -> list[list[str]]:
    shell = [content for kind, content in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if kind == "bash"]
    return [shlex.split(line) for content in shell for line in content.splitlines()]


@pytest.mark.slow
def test_the_page_leads_to_a_searched_and_retrained_context(scratch, rooms):
    data = (f"dataset.root={rooms}", f"dataset.rooms.train={TRAIN}", f"dataset.rooms.val={VAL}",
            f"dataset.rooms.image_size=[{SIZE[0]},{SIZE[1]}]", f"dataset.cache_dir={scratch / 'cache'}")  # fmt: skip
    for command in commands():
        short = [*SMALL, *QUICK, *data] if "atrc_exp" in command else ["-q"]
        done = subprocess.run(
            [sys.executable, *command[1:], *short],
            cwd=scratch, env={**os.environ, "PYTHONPATH": str(scratch)}, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
        if "pytest" in command:
            assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 4
    runs = scratch / "runs"
    found = read_json(runs / "rooms_hrnet18_search" / "seed0" / "genotype.json")
    assert set(found["probabilities"]["depth"]["semseg"]) == {"none", "local", "column"}
    for name in ("rooms_hrnet18_atrc", "rooms_hrnet18_column"):
        assert read_json(runs / name / "seed0" / "summary.json")["status"] == "done"
