"""The table of context types (Sec. 3.2): all that the search, files, figures, checks and help know of a type.

A new type is a module below `atrc_exp/models/contexts/` and an entry here, see docs/add_a_context.md. The table is read
without PyTorch: a type's module is imported when a block of it is built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from atrc_exp.errors import UserError
from atrc_exp.genotype.rows import task_of

NONE = "none"
"""The type of a block that is left out."""

JOINT = "+"
"""Between the types of a block that has several contexts: `local+tlabel`."""

_ATRC = "Bruggemann et al., ICCV 2021"
_HOME = "atrc_exp.models.contexts"


@dataclass(frozen=True)
class ContextType:
    """One type of context, which a block of the genotype can have."""

    name: str
    """As in genotype files, configurations and state-dict keys."""
    title: str
    """In tables and figures."""
    symbol: str
    """One letter that no other type has."""
    colour: str
    """Of areas in figures, `#rrggbb`."""
    line_colour: str
    """Of curves on white ground."""
    source: str = ""
    """Where it is defined."""
    module: str | None = None
    """Dotted name of its `RelationalContext`; None for a type without an output."""
    hatch: str = ""
    """Of areas in figures, where colours of like lightness have to be told apart in print."""
    regions: Literal["target", "source"] | None = None
    """The task of a block whose label regions it reads."""
    same_on_diagonal: str | None = None
    """The type that it equals where target and source are one task, and that stands for both there."""
    searched: bool = False
    """Whether it is among the candidates of a search that names none."""

    def regions_of(self, target: str, source: str) -> str | None:
        """The task whose label regions a block of this type reads."""
        return {"target": target, "source": source, None: None}[self.regions]


CONTEXT_TYPES: dict[str, ContextType] = {
    each.name: each
    for each in (  # the first five in the order of the published integer codes
        ContextType(NONE, "none", "-", "#f7f7f7", "#8c8c8c", searched=True),
        ContextType("global", "global", "g", "#fee090", "#e08214", f"{_ATRC}, Eq. 3", f"{_HOME}.global_.GlobalContext",
                    hatch="....", searched=True),
        ContextType("local", "local", "l", "#8fd0a8", "#1a9850", f"{_ATRC}, Eq. 4", f"{_HOME}.local.LocalContext",
                    hatch="////", searched=True),
        ContextType("tlabel", "T-label", "t", "#4d96c9", "#2171b5", f"{_ATRC}, Sec. 3.2.3",
                    f"{_HOME}.label.LabelContext", regions="target", searched=True),
        ContextType("slabel", "S-label", "s", "#54357f", "#3f007d", f"{_ATRC}, Sec. 3.2.3",
                    f"{_HOME}.label.LabelContext", regions="source", same_on_diagonal="tlabel", searched=True),
        ContextType("axial", "axial", "a", "#a63d40", "#b2182b", "Ho et al., 2019", f"{_HOME}.axial.AxialContext",
                    hatch="xx"),
    )
}  # fmt: skip
"""Context types by name."""

CONTEXTS = tuple(name for name, each in CONTEXT_TYPES.items() if each.searched)
"""The candidates of a search that names none: the five of the paper."""

PUBLISHED_CODES = tuple(CONTEXT_TYPES)[:5]
"""Types by the integer code of published genotype files."""


def context_type(name: str) -> ContextType:
    """Look a type up.

    Raises:
        UserError: there is none of that name.
    """
    if name not in CONTEXT_TYPES:
        raise UserError(f"unknown context type '{name}'; known: {', '.join(CONTEXT_TYPES)}")
    return CONTEXT_TYPES[name]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names of types in the order of the table.

    Raises:
        UserError: there is no type of such a name.
    """
    given = {context_type(name).name for name in names}
    return tuple(name for name in CONTEXT_TYPES if name in given)


def parted(block: str) -> tuple[str, ...]:
    """The types of a block as a genotype has it: of `local+tlabel` two, of any single type, none too, itself."""
    return tuple(block.split(JOINT))


def joined(names: Iterable[str]) -> str:
    """The block that has contexts of these types; whatever their order, a set of them has one name.

    Raises:
        UserError: there is no type of such a name.
    """
    return JOINT.join(in_order(names))


def candidates(target: str, source: str, among: Iterable[str] = CONTEXTS) -> tuple[str, ...]:
    """Types that a block can take, in the order of the table: on the diagonal those that are of their own kind there.

    Args:
        among: what there is to choose from.

    Raises:
        UserError: `among` holds an unknown type.
    """
    names = in_order(among)
    return tuple(name for name in names if task_of(target) != source or CONTEXT_TYPES[name].same_on_diagonal is None)


def on_block(name: str, target: str, source: str) -> str:
    """The type that stands for `name` in a block: T-label for S-label on the diagonal, where they are equal.

    Raises:
        UserError: there is no type of that name.
    """
    same = context_type(name).same_on_diagonal
    return same if same is not None and task_of(target) == source else name
