"""Genotype files, and the published genotypes by name."""

from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json
from atrc_exp.genotype.contexts import CONTEXT_TYPES, PUBLISHED_CODES, on_block
from atrc_exp.genotype.matrix import Genotype

FILE_NAME = "genotype.json"
PUBLISHED = "published/"
VERSIONS = (1, 2)
"""Of the files that are read. Version 2 says that some block has several contexts, which a reader of version 1 would
take for a type that it does not know, or that the targets are tasks at a scale, `semseg@0`. The form is the same, the
names of a block joined in one string, as on the command line and in the votes: so each block is one value for whatever
counts or compares them."""


def _rows(tasks: str, rows: str) -> Genotype:
    """Build a published genotype from its rows of the types' symbols."""
    names, codes = tasks.split(), {each.symbol: name for name, each in CONTEXT_TYPES.items()}
    matrix = [row.split() for row in rows.split("|")]
    return Genotype(
        tuple(names),
        {t: {s: codes[c] for s, c in zip(names, row, strict=True)} for t, row in zip(names, matrix, strict=True)},
    )


PUBLISHED_GENOTYPES = {
    "nyud_hrnet18": _rows("semseg depth normals edge", "t t s s|s t s s|s t t s|t t g t"),
    "nyud_hrnet48": _rows("semseg depth normals edge", "t - - s|s g g s|s g g s|t t t t"),
    "pascal_hrnet18": _rows("semseg human_parts sal normals edge", "t t s - s|t t s t s|t t t s t|t t t t s|t t t g t"),
}


def load(source: str | Path) -> Genotype:
    """Read a genotype from a file, from the folder of a run or sweep, or by name as `published/<name>`.

    Both our form (names) and the published one (integer codes under `data`) are read.

    Raises:
        UserError: nothing there, not JSON, or not a genotype.
    """
    text = str(source)
    if text.startswith(PUBLISHED):
        name = text.removeprefix(PUBLISHED)
        if name not in PUBLISHED_GENOTYPES:
            raise UserError(
                f"no published genotype '{name}'; there are: "
                + ", ".join(PUBLISHED + known for known in PUBLISHED_GENOTYPES)
            )
        return PUBLISHED_GENOTYPES[name]
    path = Path(source)
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise UserError(
            f"genotype file {path} does not exist; give a genotype.json, the folder of a finished search or "
            f"sweep, or one of {', '.join(PUBLISHED + known for known in PUBLISHED_GENOTYPES)}"
        )
    content = read_json(path)
    try:
        return _parse(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a genotype ({type(error).__name__}: {error})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _parse(content: Any) -> Genotype:
    if not isinstance(content, dict):
        raise UserError("not a genotype: the file must hold a JSON object")
    if "data" in content:
        return _parse_published(content)
    if content.get("version") not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise UserError(f"genotype version {content.get('version')!r} is unknown; this build reads versions {known}")
    details = {key: value for key, value in content.items() if key not in ("version", "tasks", "blocks")}
    return Genotype(tuple(content["tasks"]), content["blocks"], details)


def _parse_published(content: dict[str, Any]) -> Genotype:
    """`{"data": {target: {source: code}}, "step": n}`, the tasks in file order."""
    blocks: dict[str, dict[str, str]] = {}
    for target, row in content["data"].items():
        blocks[target] = {}
        for source, code in row.items():
            if code not in range(len(PUBLISHED_CODES)):
                codes = ", ".join(f"{number} {name}" for number, name in enumerate(PUBLISHED_CODES))
                raise UserError(f"genotype block {target}<-{source} has code {code!r}; allowed: {codes}")
            blocks[target][source] = on_block(PUBLISHED_CODES[code], target, source)
    return Genotype(tuple(blocks), blocks, {"step": content.get("step")})


def save(genotype: Genotype, path: str | Path) -> None:
    """Write `{"version": 1, "tasks": [...], "blocks": {target: {source: name}}, ...details}`.

    The version is 2 where some block has several contexts, or scales have blocks of their own.
    """
    version = 2 if genotype.scales or any(len(genotype.types(t, s)) > 1 for t, s in genotype.pairs()) else 1
    blocks = {t: {s: genotype.blocks[t][s] for s in genotype.tasks} for t in genotype.rows}
    write_json(Path(path), {"version": version, "tasks": list(genotype.tasks), "blocks": blocks, **genotype.details})
