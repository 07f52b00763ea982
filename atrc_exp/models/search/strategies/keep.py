"""Which contexts the blocks of a search keep, where they may be several (Sec. 3.3): the most probable ones."""

from collections.abc import Mapping
from dataclasses import replace

from atrc_exp.genotype import NONE, Genotype, joined


def kept(genotype: Genotype, keep: int | float | None) -> Genotype:
    """The genotype of a search with several contexts in its open blocks; frozen ones have none but theirs left.

    Args:
        genotype: the most probable type of every block, with the probabilities among its details.
        keep: as `search.keep`; None leaves the genotype as it is.
    """
    if keep is None:
        return genotype
    frozen, probabilities = genotype.details["frozen"], genotype.details["probabilities"]

    def block(target: str, source: str, chosen: str) -> str:
        if chosen == NONE or frozen[target][source]:
            return chosen
        return joined(_most_probable(chosen, probabilities[target][source], keep))

    blocks = {t: {s: block(t, s, chosen) for s, chosen in row.items()} for t, row in genotype.blocks.items()}
    return replace(genotype, blocks=blocks)


def _most_probable(first: str, probabilities: Mapping[str, float], keep: int | float) -> list[str]:
    """The most probable type, and those of the others that are kept; none is never beside another."""
    others = sorted((name for name in probabilities if name != first), key=lambda name: -probabilities[name])
    others = others[: keep - 1] if isinstance(keep, int) else [name for name in others if probabilities[name] >= keep]
    return [first, *(name for name in others if name != NONE)]
