"""Vote of repeated searches, and how far they agree (Sec. 3.3, App. F)."""

import itertools
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

from atrc_exp.errors import UserError
from atrc_exp.genotype.contexts import in_order, joined, parted
from atrc_exp.genotype.matrix import Genotype, searched


def vote(genotypes: Sequence[Genotype], sources: Sequence[str] = ()) -> Genotype:
    """Choose per block the type that most searches chose (Sec. 3.3).

    Where searches chose several contexts for a block they vote by type: the block gets all types that more than half of
    the searches have there, and, where there is no such type, the one that most have. `details["votes"]` counts what
    was chosen, sets as such.

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
    blocks: dict[str, dict[str, str]] = {row: {} for row in genotypes[0].rows}
    counts: dict[str, dict[str, dict[str, int]]] = {row: {} for row in genotypes[0].rows}
    ties = []
    for target, source in genotypes[0].pairs():
        choices = Counter(g.blocks[target][source] for g in genotypes)
        votes = votes_by_type(choices)
        types = in_order(name for g in genotypes for name in searched(g, target, source))
        majority = [name for name in types if 2 * votes[name] > len(genotypes)]
        tied = [name for name in types if votes[name] == max(votes.values())]
        chosen, reason = tied[0], ""
        if len(tied) > 1 and not majority:
            chosen, reason = _break_tie(genotypes, target, source, tied)
            ties.append({"target": target, "source": source, "tied": tied, "chosen": chosen, "by": reason})
        blocks[target][source] = joined(majority or [chosen])
        counts[target][source] = {name: choices[name] for name in (*types, *sorted(choices.keys() - set(types)))}
    details = {"votes": counts, "runs": len(genotypes), "agreement": agreement(genotypes),
               "kappa": light_kappa(genotypes), "ties": ties, "sources": list(sources)}  # fmt: skip
    return Genotype(tasks, blocks, details)


def votes_by_type(votes: Mapping[str, int]) -> Counter[str]:
    """Number of searches whose block has a context of a type, from the votes of the block, where sets count as such."""
    counts = Counter[str]()
    for block, count in votes.items():
        counts.update(dict.fromkeys(parted(block), count))
    return counts


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
        where = f" ({sources[index]})" if sources else ""
        if set(other.tasks) != set(genotypes[0].tasks):
            first, second = ", ".join(genotypes[0].tasks), ", ".join(other.tasks)
            raise UserError(f"genotypes of different tasks cannot be compared: {first} and {second}{where}")
        if other.scales != genotypes[0].scales:
            first, second = (f"{each.scales or 'no'} scales" for each in (genotypes[0], other))
            raise UserError(f"genotypes with rows for {first} and for {second} cannot be compared{where}")


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
    """Share of agreeing (pair of runs, block) combinations in [0, 1] (App. F); None for fewer than two runs.

    Blocks with several contexts agree by their `overlap`.
    """
    pairs = list(itertools.combinations(_ratings(genotypes), 2))
    if not pairs:
        return None
    return sum(sum(map(overlap, x, y)) / len(x) for x, y in pairs) / len(pairs)


def overlap(first: str, second: str) -> float:
    """How far two blocks agree: the Jaccard index of their types, which is 0 or 1 for single types, none among them."""
    ours, theirs = set(parted(first)), set(parted(second))
    return len(ours & theirs) / len(ours | theirs)


def vote_agreement(votes: Mapping[str, int]) -> float | None:
    """Share of the pairs of runs that chose the same type for one block, from its votes; None for fewer than two runs.

    Sets agree by their `overlap`. The mean over all blocks is the `agreement` of the runs.
    """
    runs = sum(votes.values())
    if runs < 2:
        return None
    agreeing = sum(votes[a] * votes[b] * overlap(a, b) for a, b in itertools.product(votes, votes))
    return (agreeing - runs) / (runs * (runs - 1))  # without the runs beside themselves


def light_kappa(genotypes: Sequence[Genotype]) -> float | None:
    """Light's kappa: Cohen's kappa averaged over all pairs of runs (App. F); None for fewer than two runs."""
    pairs = list(itertools.combinations(_ratings(genotypes), 2))
    return sum(itertools.starmap(cohen_kappa, pairs)) / len(pairs) if pairs else None


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Chance-corrected agreement (po - pe) / (1 - pe) of two raters, each with its own marginals.

    For blocks with several contexts this is the weighted kappa (Cohen, Psychological Bulletin 70, 1968) with their
    `overlap` as weights. Two raters that give one and the same type to every block have pe = 1; kappa is then 1.
    """
    n = len(first)
    observed = sum(map(overlap, first, second)) / n
    left, right = Counter(first), Counter(second)
    chance = sum(left[a] * right[b] * overlap(a, b) for a, b in itertools.product(left, right)) / n**2
    if chance == 1.0:
        warnings.warn("both runs chose one type for every block: kappa is undefined and set to 1")
        return 1.0
    return (observed - chance) / (1 - chance)
