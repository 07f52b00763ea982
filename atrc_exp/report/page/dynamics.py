"""What one search leaves of its course, thinned for the Explorer: steps, entropy, and the curves of every block."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.genotype import FILE_NAME, task_of
from atrc_exp.report.curves import BlockCurves, block_curves, gap, read_freeze_gap, read_search

PER_MILLE = 1000  # probabilities are whole numbers of it, which is what a screen can show

Shape = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Types by target and source."""


@dataclass(frozen=True)
class Choices:
    """The types of a genotype.json, those that this build does not know included."""

    blocks: Mapping[str, Mapping[str, str]]
    frozen: Mapping[str, Mapping[str, bool]] | None
    """Whether a search froze the block; None in files that do not tell it."""


def read_choices(run: Path) -> Choices:
    """Read the genotype of a run.

    Raises:
        UserError: it is missing or damaged.
    """
    path = run / FILE_NAME
    content = read_json(path)
    try:
        tasks = content["tasks"]
        frozen = content.get("frozen")
        return Choices(
            {t: {s: str(row[s]) for s in tasks} for t, row in content["blocks"].items()},
            frozen and {t: {s: bool(frozen[t][s]) for s in tasks} for t in content["blocks"]},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a genotype ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Course:
    """The search of one seed, as far as its files can be read."""

    records: Sequence[Mapping[str, Any]]
    """By rising step, all of one shape."""
    shape: Shape
    choices: Choices | None
    freeze_gap: float | None
    finished: bool
    notes: Sequence[str]
    """What is missing, and why."""


def read_course(run: Path, finished: bool) -> Course:
    """Read the folder of one search; whatever is missing or damaged becomes a note."""
    notes, records, choices, freeze_gap = list[str](), list[Mapping[str, Any]](), None, None
    shape: Shape = {}
    try:
        records, shape, dropped = _whole(read_search(run))
        if dropped:
            notes.append(f"{dropped} records without whole probabilities are left out")
        freeze_gap = read_freeze_gap(run)
    except (UserError, OSError) as error:
        notes.append(str(error))
    try:
        choices = read_choices(run)
    except UserError as error:
        if finished:
            notes.append(str(error))
    return Course(records, shape, choices, freeze_gap, finished, notes)


def _whole(records: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], Shape, int]:
    """The records that have all probabilities of the first one that has any, their shape, and how many have not."""
    shapes = [_shape(record["probabilities"]) for record in records]
    shape = next((found for found in shapes if found), {})
    whole = [record for record, found in zip(records, shapes, strict=True) if found and found == shape]
    return whole, shape, len(records) - len(whole)


def _shape(probabilities: Any) -> Shape | None:
    """Targets, sources and types of a record; None where they are no matrix of finite numbers."""
    try:
        values = [value for row in probabilities.values() for types in row.values() for value in types.values()]
        shape = {t: {s: tuple(types) for s, types in row.items()} for t, row in probabilities.items()}
    except AttributeError:
        return None
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    tasks = set(map(task_of, shape))
    whole = all(row.keys() == tasks and all(row.values()) for row in shape.values())
    return shape if shape and numbers and whole else None


def thin(count: int, kept: Iterable[int], most: int) -> list[int]:
    """At most `most` indices spread evenly over 0 ... count - 1, both ends among them, and those of `kept`."""
    if count <= most:
        return list(range(count))
    spread = {round(place * (count - 1) / (most - 1)) for place in range(most)}
    return sorted(spread.union(kept))


def as_dict(course: Course, most: int) -> dict[str, Any]:
    """Plain numbers of a course, for JSON.

    "steps", and for each of them "entropy", "temperature" and "frozen", the number of blocks, as logged; by target and
    source "blocks" with "p" by type and step in per mille, "frozen", the index of the first step that shows it, and
    "chosen". The records in which a block froze, and those before them, stay beside the `most` that are spread evenly.
    """
    blocks = {(t, s): _block(course, t, s) for t, row in course.shape.items() for s in row}
    turns = {block.first - back for block in blocks.values() if block.kept is not None for back in (0, 1)}
    indices = thin(len(course.records), {turn for turn in turns if turn >= 0}, most)
    place = {index: number for number, index in enumerate(indices)}
    return {
        "steps": [course.records[index]["step"] for index in indices],
        **{key: [_number(course.records[index].get(key)) for index in indices]
           for key in ("entropy", "temperature", "frozen")},
        "blocks": {
            target: {source: {
                "p": {name: [round(PER_MILLE * curve[index]) for index in indices]
                      for name, curve in blocks[target, source].curves.items()},
                "frozen": place.get(blocks[target, source].first),
            } for source in row}
            for target, row in course.shape.items()
        },
        "chosen": course.choices.blocks if course.choices and course.finished else None,
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return round(value, 4) if isinstance(value, int | float) and math.isfinite(value) else None


def _block(course: Course, target: str, source: str) -> BlockCurves:
    """A finished search tells in its genotype what froze; for a running one the rule itself is applied."""
    limit = math.inf if course.freeze_gap is None else course.freeze_gap
    kept: str | None = None
    if course.finished and course.choices and course.choices.frozen:
        if course.choices.frozen.get(target, {}).get(source):
            kept = course.choices.blocks[target][source]
    else:
        found = (record["probabilities"][target][source] for record in course.records)
        kept = next((max(now, key=now.get) for now in found if gap(now.values()) >= limit), None)
    return block_curves(course.records, target, source, kept, limit)
