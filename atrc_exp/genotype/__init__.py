"""The genotype matrix and its files, vote and agreement over repeated searches (Sec. 3.3, App. F)."""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json
from atrc_exp.genotype.contexts import (
    CONTEXT_TYPES,
    CONTEXTS,
    NONE,
    PUBLISHED_CODES,
    ContextType,
    candidates,
    context_type,
    in_order,
    on_block,
)

__all__ = [
    "CONTEXTS", "CONTEXT_TYPES", "ContextType", "FILE_NAME", "Genotype", "NONE", "PUBLISHED", "PUBLISHED_GENOTYPES",
    "agreement", "candidates", "cohen_kappa", "context_type", "in_order", "light_kappa", "load", "save", "searched",
    "uniform", "vote", "vote_agreement",
]  # fmt: skip

FILE_NAME = "genotype.json"
PUBLISHED = "published/"


@dataclass(frozen=True)
class Genotype:
    """One context type for every ordered pair of tasks, `blocks[target][source]`.

    Raises:
        UserError: no task, a task twice, a missing or surplus block, or a type that the block cannot take.
    """

    tasks: tuple[str, ...]
    blocks: Mapping[str, Mapping[str, str]]
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What stands beside the blocks in the file: step, or votes, agreement and kappa."""

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UserError(f"genotype tasks must be distinct and not empty, not [{', '.join(self.tasks)}]")
        expected = {(t, s) for t in self.tasks for s in self.tasks}
        given = {(t, s) for t, row in self.blocks.items() for s in row}
        if given != expected:
            lines = [f"missing {t}<-{s}" for t, s in sorted(expected - given)]
            lines += [f"surplus {t}<-{s}" for t, s in sorted(given - expected)]
            raise UserError(f"genotype does not fit the tasks {', '.join(self.tasks)}: {'; '.join(lines[:6])}")
        for target, source in self.pairs():
            allowed = candidates(target, source, CONTEXT_TYPES)
            if self.blocks[target][source] not in allowed:
                given_type = self.blocks[target][source]
                raise UserError(f"genotype block {target}<-{source} is '{given_type}'; allowed: {', '.join(allowed)}")

    def pairs(self) -> list[tuple[str, str]]:
        """All (target, source) pairs, row by row."""
        return list(itertools.product(self.tasks, self.tasks))

    def changed(self, blocks: Mapping[str, Mapping[str, str]]) -> "Genotype":
        """Replace single blocks; `details["changed"]` names them. A block outside the task matrix is a UserError."""
        merged = {target: dict(row) for target, row in self.blocks.items()}
        for target, row in blocks.items():
            merged.setdefault(target, {}).update(row)
        # Votes and probabilities among the details are about the blocks as they were.
        details = {**self.details, "changed": {t: dict(row) for t, row in blocks.items()}} if blocks else self.details
        return Genotype(self.tasks, merged, details)

    def without_self_attention(self) -> "Genotype":
        """All blocks from a task to itself set to none (App. G)."""
        return self.changed({task: {task: NONE} for task in self.tasks})

    def label_tasks(self) -> tuple[str, ...]:
        """Tasks whose label regions some block reads: targets of T-label, sources of S-label."""
        used = {context_type(self.blocks[t][s]).regions_of(t, s) for t, s in self.pairs()}
        return tuple(task for task in self.tasks if task in used)


def uniform(tasks: Iterable[str], context: str) -> Genotype:
    """The same context type in every block (T-label stands in for S-label on the diagonal, where they are equal).

    Raises:
        UserError: an unknown type, no task, or a task twice.
    """
    tasks = tuple(tasks)
    return Genotype(tasks, {t: {s: on_block(context, t, s) for s in tasks} for t in tasks})


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
    if content.get("version") != 1:
        raise UserError(f"genotype version {content.get('version')!r} is unknown; this build reads version 1")
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
    """Write `{"version": 1, "tasks": [...], "blocks": {target: {source: name}}, ...details}`."""
    blocks = {t: {s: genotype.blocks[t][s] for s in genotype.tasks} for t in genotype.tasks}
    write_json(Path(path), {"version": 1, "tasks": list(genotype.tasks), "blocks": blocks, **genotype.details})


def searched(genotype: Genotype, target: str, source: str) -> tuple[str, ...]:
    """Types that the search of a genotype chose from: those that its details hold probabilities of.

    Without probabilities these are the default candidates and the type of the block itself.
    """
    known = genotype.details.get("probabilities", {}).get(target, {}).get(source)
    return in_order(known or (*candidates(target, source), genotype.blocks[target][source]))


def vote(genotypes: Sequence[Genotype], sources: Sequence[str] = ()) -> Genotype:
    """Choose per block the type that most searches chose (Sec. 3.3).

    The published rule for ties is not stated. Here a tie goes to the type with the larger mean architecture
    probability over the runs (`details["probabilities"][target][source][type]` of each genotype), and, where
    probabilities are missing or equal too, to the first in the order of `CONTEXT_TYPES`; `details["ties"]` says so.

    Raises:
        UserError: no genotype, or genotypes of different tasks or of searches over different types.
    """
    if not genotypes:
        raise UserError("no genotype to vote on: no search has finished")
    _require_same_tasks(genotypes, sources)
    _require_same_candidates(genotypes)
    tasks = genotypes[0].tasks
    blocks: dict[str, dict[str, str]] = {t: {} for t in tasks}
    counts: dict[str, dict[str, dict[str, int]]] = {t: {} for t in tasks}
    ties = []
    for target, source in itertools.product(tasks, tasks):
        votes = Counter(g.blocks[target][source] for g in genotypes)
        types = in_order(name for g in genotypes for name in searched(g, target, source))
        tied = [name for name in types if votes[name] == max(votes.values())]
        chosen, reason = tied[0], ""
        if len(tied) > 1:
            chosen, reason = _break_tie(genotypes, target, source, tied)
            ties.append({"target": target, "source": source, "tied": tied, "chosen": chosen, "by": reason})
        blocks[target][source] = chosen
        counts[target][source] = {name: votes[name] for name in types}
    details = {"votes": counts, "runs": len(genotypes), "agreement": agreement(genotypes),
               "kappa": light_kappa(genotypes), "ties": ties, "sources": list(sources)}  # fmt: skip
    return Genotype(tasks, blocks, details)


def _break_tie(genotypes: Sequence[Genotype], target: str, source: str, tied: Sequence[str]) -> tuple[str, str]:
    try:
        means = {
            name: sum(g.details["probabilities"][target][source][name] for g in genotypes) / len(genotypes)
            for name in tied
        }
    except KeyError:
        return tied[0], "order of the context types (no probabilities in the genotype files)"
    best = max(means.values())
    first = [name for name in tied if means[name] == best]
    if len(first) > 1:
        return first[0], "order of the context types (equal mean probability)"
    return first[0], "larger mean architecture probability over the runs"


def _require_same_tasks(genotypes: Sequence[Genotype], sources: Sequence[str] = ()) -> None:
    for index, other in enumerate(genotypes):
        if set(other.tasks) != set(genotypes[0].tasks):
            first, second = ", ".join(genotypes[0].tasks), ", ".join(other.tasks)
            where = f" ({sources[index]})" if sources else ""
            raise UserError(f"genotypes of different tasks cannot be compared: {first} and {second}{where}")


def _require_same_candidates(genotypes: Sequence[Genotype]) -> None:
    """Refuse to mix votes of searches that had different choices; genotypes without probabilities do not tell."""
    known = [genotype for genotype in genotypes if "probabilities" in genotype.details]
    for target, source in genotypes[0].pairs():
        choices = {searched(genotype, target, source): None for genotype in known}
        if len(choices) > 1:
            given = " and ".join(", ".join(types) for types in choices)
            raise UserError(f"searches over different candidates do not vote together: {target}<-{source} had {given}")


def _ratings(genotypes: Sequence[Genotype]) -> list[list[str]]:
    _require_same_tasks(genotypes)
    return [[g.blocks[t][s] for t, s in genotypes[0].pairs()] for g in genotypes]


def agreement(genotypes: Sequence[Genotype]) -> float | None:
    """Share of agreeing (pair of runs, block) combinations in [0, 1] (App. F); None for fewer than two runs."""
    pairs = list(itertools.combinations(_ratings(genotypes), 2))
    if not pairs:
        return None
    return sum(sum(a == b for a, b in zip(x, y, strict=True)) / len(x) for x, y in pairs) / len(pairs)


def vote_agreement(votes: Mapping[str, int]) -> float | None:
    """Share of the pairs of runs that chose the same type for one block, from its votes; None for fewer than two runs.

    The mean over all blocks is the `agreement` of the runs.
    """
    runs = sum(votes.values())
    return sum(n * (n - 1) for n in votes.values()) / (runs * (runs - 1)) if runs > 1 else None


def light_kappa(genotypes: Sequence[Genotype]) -> float | None:
    """Light's kappa: Cohen's kappa averaged over all pairs of runs (App. F); None for fewer than two runs."""
    pairs = list(itertools.combinations(_ratings(genotypes), 2))
    return sum(itertools.starmap(cohen_kappa, pairs)) / len(pairs) if pairs else None


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Chance-corrected agreement (po - pe) / (1 - pe) of two raters, each with its own marginals.

    Two raters that give one and the same type to every block have pe = 1; kappa is then defined as 1.
    """
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    left, right = Counter(first), Counter(second)
    chance = sum(left[name] * right[name] for name in left) / n**2
    if chance == 1.0:
        warnings.warn("both runs chose one type for every block: kappa is undefined and set to 1")
        return 1.0
    return (observed - chance) / (1 - chance)
