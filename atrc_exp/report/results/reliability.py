"""Table F: agreement of repeated searches beside the paper's (App. F), and what chance would give.

Percentage agreement and Light's kappa over all pairs of searches, and the range of Cohen's kappa over the pairs. Chance
is a permutation baseline: each search keeps its choices and deals them out to its blocks at random.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, agreement, cohen_kappa, light_kappa, load, overlap
from atrc_exp.report.paper.published import SEEDS, TABLE_F, TITLES
from atrc_exp.report.results.sheet import GAP, Cell, Notes, Sheet
from atrc_exp.runs.finished import common_experiment, left_out, read_runs, seed_folders

PERMUTATIONS = 9_999


@dataclass(frozen=True)
class Chance:
    """Agreement of searches whose choices are dealt out to their blocks at random."""

    agreement: float
    """Mean over the permutations, in [0, 1]; the mean of Light's kappa is zero by construction, but for chance."""
    highest: float
    """95 % of the permutations agree at most this much."""
    p: float
    """Share of the permutations that agree at least as much as the searches do, these counted as one of them."""


def chance(genotypes: Sequence[Genotype]) -> Chance | None:
    """The permutation baseline of the agreement of at least two searches; None for fewer."""
    if len(genotypes) < 2:
        return None
    names = sorted({choice for genotype in genotypes for choice in _choices(genotype)})
    codes = {name: code for code, name in enumerate(names)}
    agreements = np.array([[overlap(a, b) for b in names] for a in names])
    ratings = [np.array([codes[choice] for choice in _choices(genotype)]) for genotype in genotypes]

    def agreeing(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([agreements[a, b].mean(axis=axis) for a, b in itertools.combinations(samples, 2)], axis=0)

    found = stats.permutation_test(
        ratings, agreeing, permutation_type="pairings", n_resamples=PERMUTATIONS, alternative="greater",
        vectorized=True, batch=1_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    drawn = found.null_distribution
    return Chance(float(drawn.mean()), float(np.quantile(drawn, 0.95)), float(found.pvalue))


def reliability(runs_dir: Path, dataset: str, backbone: str | None = None) -> tuple[Sheet, set[str]]:
    """The table from the searches `<dataset>_<backbone>_search`, and their name if there are any."""
    backbone = backbone or TABLE_F.backbone
    beside_paper = (dataset, backbone) == (TABLE_F.dataset, TABLE_F.backbone)
    folder = runs_dir / f"{dataset}_{backbone}_{TABLE_F.preset}"
    genotypes, gap, reasons = _searches(folder, dataset)
    notes, n = Notes(), len(genotypes)
    mark = notes.mark([*reasons, *(["one search: nothing to compare"] if n == 1 else [])])
    share, kappa = agreement(genotypes), light_kappa(genotypes)
    percent = None if share is None else 100 * share
    pairs = [cohen_kappa(_choices(a), _choices(b)) for a, b in itertools.combinations(genotypes, 2)]
    by_chance = chance(genotypes)
    columns = [
        ("Search", (TABLE_F.title if backbone == TABLE_F.backbone else backbone) + mark, None),
        ("n", str(n) if n else gap, None),
        ("Agreement [%] ↑", GAP if percent is None else f"{percent:.1f}", TABLE_F.agreement),
        ("by chance [%]", f"{100 * by_chance.agreement:.1f}" if by_chance else GAP, None),
        ("p", f"{by_chance.p:.4f}" if by_chance else GAP, None),
        ("Light's κ ↑", GAP if kappa is None else f"{kappa:.2f}", TABLE_F.kappa),
        ("Cohen's κ of the pairs", f"{min(pairs):.2f} to {max(pairs):.2f}" if pairs else GAP, None),
    ]
    header, cells = [], []
    for heading, text, printed in columns:
        header.append(heading)
        cells.append(Cell(text))
        if printed is not None and beside_paper:
            header.append("paper")
            cells.append(Cell(printed))
    record = {"title": backbone, "runs": folder.name, "n": n, "gap": gap, "agreement_percent": percent,
              "agreement_by_chance_percent": by_chance and 100 * by_chance.agreement,
              "agreement_by_chance_95_percent": by_chance and 100 * by_chance.highest,
              "p": by_chance and by_chance.p, "light_kappa": kappa, "cohen_kappas": " ".join(map(str, pairs)),
              "notes": "; ".join(reasons)}  # fmt: skip
    if beside_paper:
        record |= {"agreement_percent_paper": float(TABLE_F.agreement), "light_kappa_paper": float(TABLE_F.kappa)}
    title = f"Table F: Reliability of the search, {TITLES[TABLE_F.dataset]}"
    if not beside_paper:
        title = f"Row of Table F on {dataset}: Reliability of the search"
    conditions = [f"Paper: {SEEDS} searches."] if beside_paper else []
    if by_chance:
        conditions.append(
            f"By chance: mean of {PERMUTATIONS} draws that deal each search's choices out to its blocks at random; 95 "
            f"% of them agree in at most {100 * by_chance.highest:.1f} %, p in as much as the searches do."
        )
    sheet = Sheet("table_F" if beside_paper else f"table_F_{dataset}_{backbone}", title, tuple(header), (tuple(cells),),
                  (*notes.lines(), *conditions), records=(record,))  # fmt: skip
    return sheet, {folder.name} if n else set()


def _searches(folder: Path, dataset: str) -> tuple[list[Genotype], str, list[str]]:
    """Genotypes of the finished searches, a word for the gap where there are none, and notes on what is left out."""
    if not seed_folders(folder):
        return [], "missing", []
    notes = [f"{folder.name}/{path.name} is left out: {reason}" for path, reason in left_out(folder).items()]
    try:
        runs = read_runs(folder)
        if not runs:
            return [], "unfinished", notes
        experiment = common_experiment(runs)
        if (experiment.stage, experiment.setting.dataset) != ("search", dataset):
            raise UserError(f"{folder.name} holds stage={experiment.stage} on {experiment.setting.dataset}, "
                            f"not searches on {dataset}")  # fmt: skip
        return [load(run.folder) for run in runs], "", [f"searches: {experiment.setting}", *notes]
    except UserError as error:
        return [], "left out", [*notes, str(error)]


def _choices(genotype: Genotype) -> list[str]:
    return [genotype.blocks[target][source] for target, source in genotype.pairs()]
