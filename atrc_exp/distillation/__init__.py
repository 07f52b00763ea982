"""Distillation modules by name: what refines the features of a task by those of the others.

Every module is called as `module(features, aux_logits, valid)` with features {task: (B, C, h, w)}, label logits
{task: (B, R, h, w)} and an optional mask (B, 1, h, w) of unpadded pixels, and gives refined features in the shape it
got. Its attribute `label_tasks` names the tasks whose label logits it reads. (`SearchATRC` takes an architecture sample
before the mask.)
"""

import difflib
from collections.abc import Callable

from torch import nn

from atrc_exp.config import DistillationConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, uniform
from atrc_exp.models.atrc import ATRC
from atrc_exp.models.search import SearchATRC

Builder = Callable[[DistillationConfig, tuple[str, ...], int, Genotype | None], nn.Module | None]


def build_distillation(
    config: DistillationConfig, tasks: tuple[str, ...], channels: int, genotype: Genotype | None = None
) -> nn.Module | None:
    """Build the module `config.name` for the `tasks`, whose features have `channels` channels; None for "none".

    Raises:
        UserError: an unknown name, or a genotype that is missing, not wanted, or for other tasks.
    """
    if config.name not in DISTILLATIONS:
        close = difflib.get_close_matches(config.name, DISTILLATIONS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"unknown distillation '{config.name}'{hint}; known: {', '.join(DISTILLATIONS)}")
    if genotype is not None and config.name != "atrc":
        raise UserError(f"distillation={config.name} takes no genotype; give genotype=null or distillation=atrc")
    return DISTILLATIONS[config.name](config, tasks, channels, genotype)


def _none(*_: object) -> None:
    """Single-task and multi-task baselines."""


def _search(config: DistillationConfig, tasks: tuple[str, ...], channels: int, _: Genotype | None) -> nn.Module:
    return SearchATRC(
        tasks,
        channels,
        kernel_size=config.kernel_size,
        border=config.border,
        mask_padding=config.mask_padding,
    )


def _atrc(config: DistillationConfig, tasks: tuple[str, ...], channels: int, genotype: Genotype | None) -> nn.Module:
    if genotype is None:
        raise UserError(
            "distillation=atrc needs a genotype: a genotype.json, the folder of a search or published/<name>"
        )
    if set(genotype.tasks) != set(tasks):
        raise UserError(
            f"the genotype is for the tasks {', '.join(genotype.tasks)}, the run has {', '.join(tasks)}; "
            "give a genotype of the same tasks, or set tasks"
        )
    return ATRC(
        Genotype(tasks, genotype.blocks, genotype.details),  # weights must not depend on the order in the file
        channels,
        kernel_size=config.kernel_size,
        border=config.border,
        dropout=config.dropout,
        mask_padding=config.mask_padding,
    )


def _uniform(context: str) -> Builder:
    """Baselines that use one context type in every block."""

    def build(config: DistillationConfig, tasks: tuple[str, ...], channels: int, _: Genotype | None) -> nn.Module:
        return _atrc(config, tasks, channels, uniform(tasks, context))

    return build


DISTILLATIONS: dict[str, Builder] = {
    "none": _none,
    "atrc": _atrc,
    "search": _search,
    "global": _uniform("global"),
    "local": _uniform("local"),
    "tlabel": _uniform("tlabel"),
    "slabel": _uniform("slabel"),
}
