"""What README and pages tell a reader to type exists: modules, scripts, presets, groups, keys, links between files."""

import importlib.util
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from atrc_exp.config import Config

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((REPOSITORY / "docs").glob("*.md"))
GROUPS = {path.name for path in (REPOSITORY / "conf").iterdir() if path.is_dir()}
OWN = {"column", "dots", "flat", "mobilenet", "studio"}
"""Options of groups that a page tells the reader to write."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def overrides(page: Path) -> list[tuple[str, str]]:
    """Keys and values of all commands of the package on a page, without placeholders in capitals or dots."""
    found = []
    for arguments in re.findall(r"-m atrc_exp(?![.\w])([^\n`#]*)", text(page)):
        for key, value in re.findall(r"""(?:^|[\s'"\[])\+?([\w./]+)=([^\s'"\],]*)""", arguments):
            found.append((key, value))
    return found


def known(key: str) -> bool:
    """Whether the schema has a key; what lies below a dictionary is the user's."""
    node = Config
    for part in key.split("."):
        if not (isinstance(node, type) and is_dataclass(node)):
            return True
        types = {field.name: field.type for field in fields(node)}
        if part not in types:
            return False
        node = types[part]
    return True


def test_the_configuration_reference_has_every_section():
    page = text(REPOSITORY / "docs" / "configuration.md")
    sections, left = set(), [Config]
    while left:
        section = left.pop()
        sections.add(section)
        hints = get_type_hints(section).values()
        inner = [kind for hint in hints for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        left += [kind for kind in inner if kind not in sections]
    assert len(sections) > 20
    for section in sections:
        name = section.__module__
        assert re.search(rf"^::: {re.escape(name)}(\.{section.__name__})?$", page, re.MULTILINE), section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_and_options_exist(page):
    for key, value in overrides(page):
        if key in GROUPS:
            named = re.fullmatch(r"[a-z_0-9]+", value) and value not in OWN
            assert not named or (REPOSITORY / "conf" / key / f"{value}.yaml").is_file(), f"{key}={value}"
        else:
            assert key.startswith("hydra") or known(key), f"{key}={value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_scripts_exist(page):
    for module in re.findall(r"python -m (atrc_exp(?:\.\w+)*)", text(page)):
        found = importlib.util.find_spec(module)
        assert found is not None, module
        assert found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__"), module
    for script in re.findall(r"(?:bash|sbatch|python) (?:--\S+ )*([\w/]+\.(?:sh|py))", text(page)):
        assert (REPOSITORY / script).is_file() or script == "make_dots.py", script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(page)):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_extraction_finds_what_it_should():
    every = [pair for page in PAGES for pair in overrides(page)]
    assert ("experiment", "nyud_hrnet18_search") in every and ("engine", "gpu") in every and len(every) > 100
    assert known("genotype_blocks.depth.semseg") and not known("optim.lrr")
