"""Table F: agreement of repeated searches beside the paper's (App. F).

Percentage agreement and Light's kappa over all pairs of searches, and the range of Cohen's kappa over the pairs.
"""

import itertools
from pathlib import Path

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, agreement, cohen_kappa, light_kappa, load
from atrc_exp.report.aggregate import common_experiment, left_out, read_runs, seed_folders
from atrc_exp.report.published import SEEDS, TABLE_F, TITLES
from atrc_exp.report.sheet import GAP, Cell, Notes, Sheet


def reliability(runs_dir: Path, dataset: str) -> tuple[Sheet, set[str]]:
    """The table from the searches `<dataset>_hrnet18_search`, and their name if there are any."""
    beside_paper = dataset == TABLE_F.dataset
    folder = runs_dir / f"{dataset}_{TABLE_F.backbone}_{TABLE_F.preset}"
    genotypes, gap, reasons = _searches(folder, dataset)
    notes, n = Notes(), len(genotypes)
    mark = notes.mark([*reasons, *(["one search: nothing to compare"] if n == 1 else [])])
    share, kappa = agreement(genotypes), light_kappa(genotypes)
    percent = None if share is None else 100 * share
    pairs = [cohen_kappa(_choices(a), _choices(b)) for a, b in itertools.combinations(genotypes, 2)]
    columns = [
        ("Search", TABLE_F.title + mark, None),
        ("n", str(n) if n else gap, None),
        ("Agreement [%] ↑", GAP if percent is None else f"{percent:.1f}", TABLE_F.agreement),
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
    record = {"title": TABLE_F.title, "runs": folder.name, "n": n, "gap": gap, "agreement_percent": percent,
              "light_kappa": kappa, "cohen_kappas": " ".join(map(str, pairs)), "notes": "; ".join(reasons)}  # fmt: skip
    if beside_paper:
        record |= {"agreement_percent_paper": float(TABLE_F.agreement), "light_kappa_paper": float(TABLE_F.kappa)}
    title = f"Table F: Reliability of the search, {TITLES[TABLE_F.dataset]}"
    if not beside_paper:
        title = f"Row of Table F on {dataset}: Reliability of the search"
    conditions = [f"Paper: {SEEDS} searches."] if beside_paper else []
    sheet = Sheet("table_F" if beside_paper else f"table_F_{dataset}", title, tuple(header), (tuple(cells),),
                  (*notes.lines(), *conditions), records=(record,))  # fmt: skip
    return sheet, {folder.name} if n else set()


def _searches(folder: Path, dataset: str) -> tuple[list[Genotype], str, list[str]]:
    """Genotypes of the finished searches; without any a word for the gap; notes on what is left out."""
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
