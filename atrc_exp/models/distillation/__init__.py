"""Distillation modules by name: what refines the features of a task by those of the others.

Every module is called as `module(features, aux_logits, valid)` with features {task: (B, C, h, w)}, label logits
{task: (B, R, h, w)} and an optional mask (B, 1, h, w) of unpadded pixels, and gives refined features in the shape it
got. Its attribute `label_tasks` names the tasks whose label logits it reads. (`SearchATRC` takes an architecture sample
before the mask.) A module whose arithmetic is arranged otherwise than its paper's has, or is made of parts that have,
`published_multiply_adds(*inputs)`, the count of the paper's arrangement for one call. Parameters that take no weight
decay are those of `undecayed_parameters()`, where it has that method.

A module that is `multi_scale` works in front of the heads instead: it maps the pyramids of a neck, {task: one
(B, C_i, h_i, w_i) per stride}, to refined ones. Its `label_tasks` and the label logits are by row (`semseg@0`), the
masks by scale.

The table is read by `--help` too: PyTorch and the modules are imported when one is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from atrc_exp.config.network import SEPARATE
from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXT_TYPES, CONTEXTS, Genotype, uniform

if TYPE_CHECKING:
    from torch import nn

    from atrc_exp.config import DistillationConfig

    Builder = Callable[[DistillationConfig, tuple[str, ...], Any, Genotype | None, Sequence[str]], nn.Module | None]


def build_distillation(
    config: DistillationConfig,
    tasks: tuple[str, ...],
    channels: int | list[int],
    genotype: Genotype | None = None,
    candidates: Sequence[str] | None = None,
) -> nn.Module | None:
    """Build the module `config.name` for the `tasks`; None for "none".

    Args:
        channels: of the tasks' features; of every map of their pyramids where the module `is_multi_scale`.
        candidates: context types that a search mixes; None are the paper's five.

    Raises:
        UserError: an unknown name, a genotype that is missing, not wanted, or for other tasks, or a user's own module
            that cannot be had.
    """
    if config.name not in DISTILLATIONS:
        close = difflib.get_close_matches(config.name, DISTILLATIONS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"unknown distillation '{config.name}'{hint}; known: {', '.join(DISTILLATIONS)}")
    if genotype is not None and config.name != "atrc":
        raise UserError(f"distillation={config.name} takes no genotype; give genotype=null or distillation=atrc")
    return DISTILLATIONS[config.name].build(config, tasks, channels, genotype, candidates or CONTEXTS)


def is_multi_scale(config: DistillationConfig) -> bool:
    """Whether the module refines the pyramids of a neck instead of the tasks' features."""
    entry = DISTILLATIONS.get(config.name)
    return config.scales is not None or (entry is not None and entry.multi_scale)


def _none(*_: object) -> None:
    """Single-task and multi-task baselines."""


def _search(
    config: DistillationConfig, tasks: tuple[str, ...], channels: Any, _: Genotype | None, candidates: Sequence[str]
) -> nn.Module:
    from atrc_exp.models.search import ScaledSearch, SearchATRC

    options: dict[str, Any] = {
        "kernel_size": config.kernel_size,
        "border": config.border,
        "mask_padding": config.mask_padding,
        "self_attention": config.self_attention,
        "types": candidates,
    }
    if config.scales is None:
        return SearchATRC(tasks, channels, **options)
    return ScaledSearch(tasks, channels, separate=config.scales == SEPARATE, **options)


def _atrc(
    config: DistillationConfig, tasks: tuple[str, ...], channels: Any, genotype: Genotype | None, *_: object
) -> nn.Module:
    from atrc_exp.models.distillation.atrc import ATRC
    from atrc_exp.models.distillation.scales import ScaledATRC

    if genotype is None:
        raise UserError(
            "distillation=atrc needs a genotype: a genotype.json, the folder of a search or published/<name>"
        )
    if set(genotype.tasks) != set(tasks):
        raise UserError(
            f"the genotype is for the tasks {', '.join(genotype.tasks)}, the run has {', '.join(tasks)}; "
            "give a genotype of the same tasks, or set tasks"
        )
    wanted = len(channels) if config.scales == SEPARATE else 0
    if genotype.scales != wanted:
        given, needed = (
            f"blocks for each of {n} scales" if n else "one matrix of blocks" for n in (genotype.scales, wanted)
        )
        raise UserError(
            f"the genotype has {given}, the network needs {needed}; distillation.scales=separate takes the first kind, "
            "shared and null the second"
        )
    several = any(len(genotype.types(*pair)) > 1 for pair in genotype.pairs())
    if config.combine == "gate" and not several:
        raise UserError("distillation.combine=gate: must be static, since no block has several contexts")
    return (ATRC if config.scales is None else ScaledATRC)(
        Genotype(tasks, genotype.blocks, genotype.details),  # weights must not depend on the order in the file
        channels,
        kernel_size=config.kernel_size,
        border=config.border,
        dropout=config.dropout,
        mask_padding=config.mask_padding,
        combine=config.combine,
        temperature=config.temperature,
    )


def _uniform(config: DistillationConfig, tasks: tuple[str, ...], channels: Any, *_: object) -> nn.Module:
    """Baselines that use one context type, that of their name, in every block."""
    genotype = uniform(tasks, config.name)
    if not config.self_attention:
        genotype = genotype.without_self_attention()
    return _atrc(config, tasks, channels, genotype)


def _cross_stitch(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.cross_stitch import CrossStitch

    return CrossStitch(tasks, channels, weights=config.stitch)


def _nddr(_config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.nddr import NDDR

    return NDDR(tasks, channels)


def _padnet_b(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.padnet_b import PADNetB

    return PADNetB(tasks, channels, plain=config.plain_messages, dropout=config.dropout)


def _padnet_c(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.padnet_c import PADNetC

    return PADNetC(tasks, channels, dropout=config.dropout)


def _pap(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.pap import PAP

    return PAP(tasks, channels, restart=config.restart, dropout=config.dropout)


def _psd(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.psd import PSD

    return PSD(tasks, channels, border=config.border, dropout=config.dropout)


def _mti_net(_config: DistillationConfig, tasks: tuple[str, ...], channels: list[int], *_: object) -> nn.Module:
    from atrc_exp.models.distillation.mti_net import MTINet

    return MTINet(tasks, channels)


def _custom(config: DistillationConfig, tasks: tuple[str, ...], channels: int, *_: object) -> nn.Module:
    from atrc_exp.models.distillation.custom import build

    return build(config._target_, config.options, tasks, channels)


class Entry(NamedTuple):
    """One choice of `distillation`."""

    build: Builder
    description: str
    """One line."""
    source: str
    """Where it is defined."""
    inferred: str = ""
    """What neither its paper nor ATRC's states: it was chosen so that the resources of Table 1 come out."""
    multi_scale: bool = False
    """It refines the pyramids of a neck instead of the tasks' features."""


_ATRC = "Bruggemann et al., ICCV 2021"

DISTILLATIONS: dict[str, Entry] = {
    "none": Entry(_none, "every task from its own features: the baselines", f"{_ATRC}, Sec. 3.1"),
    "cross_stitch": Entry(
        _cross_stitch,
        "learned linear combinations of the tasks' features",
        "Misra et al., CVPR 2016",
        "one weight a channel, not one a pair of tasks; initial values",
    ),
    "pap": Entry(
        _pap,
        "features diffused by global self-affinities that are mixed across tasks",
        "Zhang et al., CVPR 2019",
        "nine steps at half the resolution, widths, normalisation, blending",
    ),
    "psd": Entry(
        _psd,
        "features diffused by local structures, also by matching ones of other tasks",
        "Zhou et al., CVPR 2020",
        "a reconstruction, not the only one with these resources",
    ),
    "nddr": Entry(
        _nddr,
        "1x1 convolution over the features of all tasks",
        "Gao et al., CVPR 2019; = PAD-Net A, Xu et al., CVPR 2018",
    ),
    "padnet_b": Entry(
        _padnet_b,
        "messages from every other task by 3x3 convolutions",
        "PAD-Net B, Xu et al., CVPR 2018",
        "batch norm and ReLU of the messages",
    ),
    "padnet_c": Entry(
        _padnet_c,
        "gated messages from every other task",
        "PAD-Net C, Xu et al., CVPR 2018; MTI-Net, Vandenhende et al., ECCV 2020",
    ),
    "mti_net": Entry(
        _mti_net,
        "gated messages at every scale of neck=fpm",
        "MTI-Net, Vandenhende et al., ECCV 2020",
        multi_scale=True,
    ),
    **{
        name: Entry(_uniform, f"{each.title} context in every block", each.source)
        for name, each in CONTEXT_TYPES.items()
        if each.module is not None
    },
    "atrc": Entry(_atrc, "one context a block, from a genotype", f"{_ATRC}, Sec. 3.1"),
    "search": Entry(_search, "all candidates of search.candidates in every block", f"{_ATRC}, Sec. 3.3"),
    "custom": Entry(_custom, "a module of your own: distillation._target_=FILE.CLASS allow=[FILE]", "docs/extending"),
}
