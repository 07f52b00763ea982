"""No import points up: the rooms of the package lie on floors, and a file imports from its own floor and those below.

The order is that of the design, with these places stated:

- `bmtas` stands together as a room, and its files lie on three floors: the tree that a search writes is read by runs
  and models, its figure belongs to the report, all else is training.
- `rooms`, the procedural scenes, lie above `data`: the scenes take the class names of its readers, the contact sheet
  reads scenes as any dataset is read. `data` knows them by their files alone.
- `training` lies on the floor of `evaluation` and imports it, since a run validates; never the other way.
- `ops` and `kernels` lie on one floor: `kernels` are the CUDA sources and how they are built and launched, `ops` calls
  them.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "atrc_exp"
FLOORS = (
    ("errors", "words", "files", "resizing", "normalisation", "schedules"),
    ("tasks", "genotype", "config", "bmtas.tree"),
    ("processes", "runs", "losses", "metrics", "ops", "kernels"),
    ("data", "models"),
    ("rooms", "evaluation", "training", "bmtas"),
    ("report", "bmtas.figure"),
    ("stages",),
    ("__main__",),
)
"""From the ground up."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str | None:
    """The room of a module of the package, or of something in a module; None for what is in none, as a version."""
    parts = module.split(".")[1:]
    return next((room for end in (2, 1) if (room := ".".join(parts[:end])) in FLOOR), None)


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Dotted names and files of the package; `kernels/` lies beside it and belongs to it."""
    for folder, name in ((root / PACKAGE, PACKAGE), (root / "kernels", f"{PACKAGE}.kernels")):
        for path in sorted(folder.rglob("*.py")):
            yield ".".join((name, *path.relative_to(folder).with_suffix("").parts)), path


def imported(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Lines and dotted names of all that a file imports, in functions too; not what only a type checker imports."""
    tree = ast.parse(path.read_text())
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            source = ".".join((*package, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def faults(root: Path) -> list[str]:
    """What is wrong with the imports of a tree, a line a fault."""
    found, edges = [], dict[tuple[str, str], str]()
    scripts = {"benchmarks", *(path.stem for path in (root / "benchmarks").glob("*.py"))}
    for module, path in modules(root):
        own = room_of(module)
        if own is None and module != f"{PACKAGE}.__init__":
            found.append(f"{path}: its room has no floor")
            continue
        for line, name in imported(path, module):
            place, top = f"{path}:{line}: imports {name}", name.split(".")[0]
            if top in scripts:
                found.append(f"{place}, a benchmark")
            if top != PACKAGE:
                continue
            other = room_of(name)
            if "__main__" in name.split("."):
                found.append(f"{place}, an entry")
            elif other is not None and (own is None or FLOOR[other] > FLOOR[own]):
                found.append(f"{place}, which lies above")
            elif other is not None and own != other and FLOOR[other] == FLOOR[own]:
                edges[own, other] = place
    return found + [f"{' -> '.join(cycle)}: {edges[cycle[0], cycle[1]]}" for cycle in cycles(set(edges))]


def cycles(edges: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """One way around for every edge that lies on a cycle."""
    found = []
    for start, second in sorted(edges):
        ways = [(start, second)]
        seen = {second}
        while ways and ways[0][-1] != start:
            way = ways.pop(0)
            further = sorted(after for before, after in edges if before == way[-1] and after not in seen)
            seen.update(further)
            ways += [(*way, room) for room in further]
        found += ways[:1]
    return found


def test_imports_of_the_package_point_down():
    assert faults(REPOSITORY) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


CLEAN = {
    "atrc_exp/__init__.py": "",
    "atrc_exp/errors.py": "import os",
    "atrc_exp/genotype/__init__.py": "from atrc_exp.errors import UserError",
    "atrc_exp/bmtas/tree.py": "from atrc_exp import errors",
    "atrc_exp/bmtas/step.py": "from .tree import load\nfrom ..training import step",
    "atrc_exp/runs/folder.py": "from atrc_exp.bmtas import tree\nfrom typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from atrc_exp.stages import run_stage",
    "atrc_exp/training/step.py": "import atrc_exp.runs.folder",
    "atrc_exp/stages/__init__.py": "from atrc_exp.training import step",
    "atrc_exp/__main__.py": "from atrc_exp import __version__, stages",
    "kernels/build.py": "from atrc_exp.errors import UserError",
    "benchmarks/loading.py": "from atrc_exp.stages import run_stage",
}


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("atrc_exp/errors.py", "from atrc_exp import genotype", "above"),
        ("atrc_exp/runs/folder.py", "def late():\n    from atrc_exp.stages.a import run", "above"),
        ("atrc_exp/runs/folder.py", "from atrc_exp.bmtas import step", "above"),
        ("atrc_exp/runs/folder.py", "from ..stages import a", "above"),
        ("atrc_exp/__init__.py", "import atrc_exp.errors", "above"),
        ("kernels/build.py", "import atrc_exp.models", "above"),
        ("atrc_exp/stages/__init__.py", "from atrc_exp.__main__ import main", "entry"),
        ("atrc_exp/stages/__init__.py", "import atrc_exp.report.__main__", "entry"),
        ("atrc_exp/stages/__init__.py", "import loading", "benchmark"),
        ("atrc_exp/stages/__init__.py", "from benchmarks import loading", "benchmark"),
        ("atrc_exp/training/step.py", "from atrc_exp.bmtas.step import x", "bmtas -> training -> bmtas"),
        ("atrc_exp/attic/junk.py", "", "no floor"),
    ],
)
def test_a_tree_with_one_fault_is_refused(tmp_path, file, text, word):
    write(tmp_path, CLEAN)
    assert faults(tmp_path) == []
    write(tmp_path, {file: text})
    found = "\n".join(faults(tmp_path))
    assert word in found and file in found


def test_a_long_cycle_is_found_and_a_diamond_is_none():
    assert cycles(set(pairwise("abcda"))) != [] and all(len(set(way)) == 4 for way in cycles(set(pairwise("abcda"))))
    assert cycles({("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}) == []
