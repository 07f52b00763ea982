"""What `python -m atrc_exp --help` prints; Hydra fills in the groups."""

from collections.abc import Mapping

from atrc_exp.distillation import DISTILLATIONS, Entry

TEMPLATE = """Which context should flow between which tasks of one network, and what does that gain?

  python -m atrc_exp                                     a short search on procedural rooms
  python -m atrc_exp +experiment=PRESET KEY=VALUE ...    a preset, changed
  python -m atrc_exp -m +experiment=PRESET seed=0,1,2    several runs, then their vote or table
  python -m atrc_exp +experiment=PRESET --cfg job        print the configuration, run nothing
  python -m atrc_exp stage=evaluate run=RUN              scores of a run; so predict, importance, attention, export
  python -m atrc_exp stage=report                        all runs as one page of figures and tables

== Distillation modules: distillation=NAME ==
{modules}

== Configuration groups: group=option ==
$APP_CONFIG_GROUPS

Every key is explained in atrc_exp/config; Hydra's own options: --hydra-help."""


def modules_text(entries: Mapping[str, Entry]) -> str:
    """One line a distillation module: name, description and source."""
    width = max(map(len, entries))
    return "\n".join(f"  {name:<{width}}  {e.description} ({e.source})" for name, e in entries.items())


def help_text() -> str:
    """Template for Hydra's help."""
    return TEMPLATE.format(modules=modules_text(DISTILLATIONS))
