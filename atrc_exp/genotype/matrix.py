"""The genotype matrix: what every ordered pair of tasks has (Sec. 3.3)."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.genotype.contexts import (
    CONTEXT_TYPES,
    JOINT,
    NONE,
    candidates,
    context_type,
    in_order,
    joined,
    on_block,
    parted,
)
from atrc_exp.genotype.rows import AT, row_of, rows_of, task_of


@dataclass(frozen=True)
class Genotype:
    """The context types of every ordered pair of tasks, `blocks[target][source]`.

    Where every scale of a pyramid has blocks of its own the targets are tasks at a scale, `semseg@0` at the finest.

    A block has one type, or several that are combined (Sec. 3.3), written as `local+tlabel` in the order of the table,
    whatever order they are given in.

    Raises:
        UserError: no task, a task twice, a missing or surplus block, a type that the block cannot take, a type twice,
            or none beside others.
    """

    tasks: tuple[str, ...]
    blocks: Mapping[str, Mapping[str, str]]
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What stands beside the blocks in the file: step, or votes, agreement and kappa."""

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UserError(f"genotype tasks must be distinct and not empty, not [{', '.join(self.tasks)}]")
        expected = {(t, s) for t in self.rows for s in self.tasks}
        given = {(t, s) for t, row in self.blocks.items() for s in row}
        if given != expected:
            lines = [f"missing {t}<-{s}" for t, s in sorted(expected - given)]
            lines += [f"surplus {t}<-{s}" for t, s in sorted(given - expected)]
            raise UserError(f"genotype does not fit the tasks {', '.join(self.tasks)}: {'; '.join(lines[:6])}")
        blocks = {t: {s: _checked(t, s, block) for s, block in row.items()} for t, row in self.blocks.items()}
        object.__setattr__(self, "blocks", blocks)  # the one form of every set, though the object is frozen

    @property
    def scales(self) -> int:
        """Number of scales that have blocks of their own; 0 where the genotype is for no scale in particular."""
        return len(self.blocks) // len(self.tasks) if any(AT in row for row in self.blocks) else 0

    @property
    def rows(self) -> tuple[str, ...]:
        """Targets of the blocks: the tasks, or the tasks at every scale."""
        return rows_of(self.tasks, self.scales)

    def pairs(self) -> list[tuple[str, str]]:
        """All (target, source) pairs, row by row."""
        return list(itertools.product(self.rows, self.tasks))

    def at(self, scale: int) -> "Genotype":
        """The blocks of one scale, without details."""
        return Genotype(self.tasks, {task: self.blocks[row_of(task, scale)] for task in self.tasks})

    def on(self, scales: int) -> "Genotype":
        """The same blocks at each of so many scales; details that are by target likewise."""
        rows = rows_of(self.tasks, scales)

        def spread(value: Any) -> Any:
            by_target = isinstance(value, Mapping) and value.keys() == set(self.tasks)
            return {row: value[task_of(row)] for row in rows} if by_target else value

        return Genotype(self.tasks, spread(self.blocks), {key: spread(value) for key, value in self.details.items()})

    def types(self, target: str, source: str) -> tuple[str, ...]:
        """Types of the contexts of a block, in the order of the table; empty where it is none."""
        return tuple(name for name in parted(self.blocks[target][source]) if name != NONE)

    def changed(self, blocks: Mapping[str, Mapping[str, str]]) -> "Genotype":
        """Replace single blocks; `details["changed"]` names them. A block outside the task matrix is a UserError."""
        merged = {target: dict(row) for target, row in self.blocks.items()}
        for target, row in blocks.items():
            for source in row:
                if (target, source) not in self.pairs():
                    raise UserError(
                        f"the genotype has no block {target}<-{source}; its targets are {', '.join(self.rows)}, "
                        f"its sources {', '.join(self.tasks)}"
                    )
            merged[target].update(row)
        # Votes and probabilities among the details are about the blocks as they were.
        details = {**self.details, "changed": {t: dict(row) for t, row in blocks.items()}} if blocks else self.details
        return Genotype(self.tasks, merged, details)

    def without_self_attention(self) -> "Genotype":
        """All blocks from a task to itself set to none (App. G)."""
        return self.changed({row: {task_of(row): NONE} for row in self.rows})

    def label_tasks(self) -> tuple[str, ...]:
        """Tasks whose label regions some block reads: targets of T-label, sources of S-label."""
        used = {context_type(name).regions_of(task_of(t), s) for t, s in self.pairs() for name in self.types(t, s)}
        return tuple(task for task in self.tasks if task in used)


def _checked(target: str, source: str, block: str) -> str:
    """The types of a block in the order of the table."""
    names, allowed = parted(block), candidates(target, source, CONTEXT_TYPES)
    choice = f"genotype block {target}<-{source} is '{block}'; allowed: {', '.join(allowed)}"
    if not set(names) <= set(allowed):
        raise UserError(choice)
    if len(set(names)) < len(names) or (NONE in names and len(names) > 1):
        raise UserError(f"{choice}, or several but {NONE}, each once, joined by {JOINT}")
    return joined(names)


def uniform(tasks: Iterable[str], context: str) -> Genotype:
    """The same context type in every block (T-label stands in for S-label on the diagonal, where they are equal).

    Raises:
        UserError: an unknown type, no task, or a task twice.
    """
    tasks = tuple(tasks)
    return Genotype(tasks, {t: {s: on_block(context, t, s) for s in tasks} for t in tasks})


def searched(genotype: Genotype, target: str, source: str) -> tuple[str, ...]:
    """Types that the search of a genotype chose from: those that its details hold probabilities of.

    Without probabilities these are the default candidates and the types of the block itself.
    """
    known = genotype.details.get("probabilities", {}).get(target, {}).get(source)
    return in_order(known or (*candidates(target, source), *parted(genotype.blocks[target][source])))
