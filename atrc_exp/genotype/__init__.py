"""The genotype matrix and its files, vote and agreement over repeated searches (Sec. 3.3, App. F)."""

from atrc_exp.genotype.contexts import (
    CONTEXT_TYPES,
    CONTEXTS,
    NONE,
    ContextType,
    candidates,
    context_type,
    in_order,
    joined,
    parted,
)
from atrc_exp.genotype.files import FILE_NAME, PUBLISHED, PUBLISHED_GENOTYPES, load, save
from atrc_exp.genotype.matrix import Genotype, searched, uniform
from atrc_exp.genotype.rows import row_of, rows_of, scale_of, task_of
from atrc_exp.genotype.voting import agreement, cohen_kappa, light_kappa, overlap, vote, vote_agreement, votes_by_type

__all__ = [
    "CONTEXTS", "CONTEXT_TYPES", "ContextType", "FILE_NAME", "Genotype", "NONE", "PUBLISHED", "PUBLISHED_GENOTYPES",
    "agreement", "candidates", "cohen_kappa", "context_type", "in_order", "joined", "light_kappa", "load", "overlap",
    "parted", "row_of", "rows_of", "save", "scale_of", "searched", "task_of", "uniform", "vote", "vote_agreement",
    "votes_by_type",
]  # fmt: skip
