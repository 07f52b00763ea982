"""What `python -m atrc_exp --help` prints."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

TEMPLATE = """Which context should flow between which tasks of one network, and what does that gain?

  python -m atrc_exp                                     a short search on procedural rooms
  python -m atrc_exp +experiment=PRESET KEY=VALUE ...    a preset, changed
  python -m atrc_exp -m +experiment=PRESET seed=0,1,2    several runs, then their vote or table
  python -m atrc_exp +experiment=PRESET --cfg job        print the configuration, run nothing
  python -m atrc_exp stage=evaluate run=RUN              scores of a run; so predict, importance, attention, export
  python -m atrc_exp stage=report                        all runs as one page of figures and tables

== Distillation modules: distillation=NAME ==
{modules}

== Presets: +experiment=<dataset>_<backbone>_<what>, {count} in all ==
{presets}
  ls {folder}/<dataset>_<backbone>_*       lists them

== Configuration groups: group=option ==
{groups}

Every key is explained in atrc_exp/config; Hydra's own options: --hydra-help."""


class Module(Protocol):
    """What the text says of a distillation module: `models.distillation.Entry`."""

    @property
    def description(self) -> str: ...
    @property
    def source(self) -> str: ...


def modules_text(entries: Mapping[str, Module]) -> str:
    """One line a distillation module: name, description and source."""
    width = max(map(len, entries))
    return "\n".join(f"  {name:<{width}}  {e.description} ({e.source})" for name, e in entries.items())


def presets_text(names: Iterable[str], datasets: Iterable[str]) -> str:
    """One line a dataset: how many presets it has with each backbone."""
    counts: Counter[tuple[str, str]] = Counter()
    for name in names:
        dataset = max((each for each in datasets if name.startswith(f"{each}_")), key=len)
        counts[dataset, name.removeprefix(f"{dataset}_").partition("_")[0]] += 1
    width = max(len(dataset) for dataset, _ in counts)
    rows: dict[str, list[str]] = {}
    for (dataset, backbone), number in sorted(counts.items()):
        rows.setdefault(dataset, []).append(f"{backbone} {number}")
    return "\n".join(f"  {dataset:<{width}}  {', '.join(row)}" for dataset, row in rows.items())


def help_text(conf: Path, modules: Mapping[str, Module]) -> str:
    """Template for Hydra's help.

    Args:
        conf: folder of the configuration groups.
        modules: distillation modules by name.
    """
    groups = {
        path.name: sorted(option.stem for option in path.glob("*.yaml")) for path in conf.iterdir() if path.is_dir()
    }
    presets = groups.pop("experiment")
    options = (f"  {group}: {', '.join(groups[group])}" for group in sorted(groups) if groups[group])
    return TEMPLATE.format(
        modules=modules_text(modules),
        count=len(presets),
        presets=presets_text(presets, groups["dataset"]),
        folder=conf / "experiment",
        groups="\n".join(options),
    )
