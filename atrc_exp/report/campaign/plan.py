"""The commands behind a table of the paper: which presets, which searches before them, what of it is done.

Everything goes through the public command line, one multirun a preset, so that a run which has begun goes on and a
finished one is left alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atrc_exp.config import Config
from atrc_exp.config.arguments import readable
from atrc_exp.config.compose import CONF, composed
from atrc_exp.config.keys import is_used, override_key
from atrc_exp.errors import UserError
from atrc_exp.genotype import FILE_NAME, load
from atrc_exp.report.paper.published import SEEDS, TABLE_F, TABLES, Published
from atrc_exp.runs.claim import require_same
from atrc_exp.runs.files import CHECKPOINT, SUMMARY

OWN = ("experiment", "name", "stage", "tasks")
"""Keys that the table sets."""


@dataclass(frozen=True)
class Overrides:
    """What the user gives for all commands of a table, taken apart."""

    common: tuple[str, ...]
    """Overrides for every command whose stage uses them."""
    seeds: tuple[int, ...]
    runs_dir: str
    genotype: str | None
    """Genotype that takes the place of the votes of searches."""
    benchmark: tuple[str, ...]
    """Settings that only the measurement reads."""

    @classmethod
    def parse(cls, given: Sequence[str]) -> "Overrides":
        """Sort the overrides of a command line.

        Raises:
            UserError: an argument is no override, or its key is one that the table sets.
        """
        values, given = {}, list(map(readable, given))
        for override in given:
            key, equals, value = override.lstrip("+~").partition("=")
            if not equals:
                raise UserError(f"'{override}' is not an override; give KEY=VALUE")
            if key in OWN:
                raise UserError(f"{override}: {key} is set by the table; leave it out")
            values[key] = value
        seeds = values.get("seed", ",".join(map(str, range(SEEDS)))).split(",")
        if not all(seed.isdecimal() for seed in seeds):
            raise UserError(f"seed={values['seed']}: must be whole numbers, seed=0,1,2")
        own = ("seed", "genotype")
        common = [o for o in given if o.lstrip("+~").partition("=")[0] not in own and not _is_benchmark(o)]
        return cls(tuple(common), tuple(map(int, seeds)), values.get("runs_dir", "runs"), values.get("genotype"),
                   tuple(filter(_is_benchmark, given)))  # fmt: skip

    @property
    def composable(self) -> tuple[str, ...]:
        """The overrides that say what a run is, without those that say how it is launched."""
        return tuple(override for override in self.common if not override.lstrip("+~").startswith("hydra"))


def _is_benchmark(override: str) -> bool:
    return override.startswith("benchmark.")


@dataclass(frozen=True)
class Step:
    """One multirun: all runs of a preset."""

    preset: str
    variants: tuple[str, ...]
    """Values of the one key that the table sets, `tasks=[depth]` or `genotype=FOLDER`; one for each name of runs."""
    configs: tuple[Config, ...]
    """One for each name of runs, with the first seed."""
    seeds: tuple[int, ...]
    overrides: Overrides
    """Overrides of all its runs."""

    def runs(self) -> dict[Path, Config]:
        """Configuration of every run by its folder."""
        return {Path(config.runs_dir) / config.name / f"seed{seed}": replace(config, seed=seed)
                for config in self.configs for seed in self.seeds}  # fmt: skip

    def missing(self) -> list[Path]:
        """Folders of the runs that have not finished."""
        return [folder for folder in self.runs() if not (folder / SUMMARY).is_file()]

    @property
    def is_done(self) -> bool:
        """Whether every run has finished, and after searches also the vote over them."""
        return not self.missing() and (self.configs[0].stage.name != "search" or self._has_voted())

    def _has_voted(self) -> bool:
        voted = Path(self.configs[0].runs_dir) / self.configs[0].name / FILE_NAME
        return voted.is_file() and load(voted).details.get("runs", 0) >= len(self.seeds)

    def arguments(self) -> list[str]:
        """Arguments of `python -m atrc_exp`."""
        values = ",".join(variant.partition("=")[2] for variant in self.variants)
        own = [f"{self.variants[0].partition('=')[0]}={values}"] if values else []
        used = [o for o in self.overrides.common if is_used(override_key(o), self.configs[0].stage.name)]
        return ["-m", f"+experiment={self.preset}", *own, f"seed={','.join(map(str, self.seeds))}", *used]

    def check(self) -> None:
        """Look whether what has begun or finished has the configuration that is asked for.

        Raises:
            UserError: a run has another one.
        """
        for folder, config in self.runs().items():
            if (folder / SUMMARY).is_file() or (folder / CHECKPOINT).is_file():
                require_same(folder, config)


STUDY = (
    ("1", ("single_task", "multi_task", "cross_stitch", "nddr", "padnet_c", "pap", "global", "local", "tlabel",
           "slabel", "atrc"), None),
    ("G-1", ("atrc_no_self",), None),
    ("E-1", ("tlabel_gt", "slabel_gt"), 3),
    ("D-1", ("single_task_{task}_classification",), 3),
)  # fmt: skip
"""The study of docs/study.md: tables, presets of their rows, and how many of the seeds they get, None for all."""


def table_rows(number: str) -> tuple[Published, ...]:
    """Rows of a table that presets repeat; of Table F its search."""
    if number in TABLES:
        return tuple(row for row in TABLES[number].rows if row.preset)
    return (Published(TABLE_F.title, TABLE_F.preset, "", backbone=TABLE_F.backbone),)


def steps(number: str, dataset: str, rows: Iterable[Published], overrides: Overrides) -> tuple[list[Step], list[str]]:
    """The multiruns behind `rows` in the order in which they can be run, and presets that `dataset` does not have.

    Raises:
        UserError: overrides that do not fit, or a run with another configuration.
        HydraException: the same, as Hydra says it.
    """
    made: dict[str, Step] = {}
    unknown: dict[str, None] = {}
    tasks = composed([f"dataset={dataset}"]).dataset.tasks
    if number in TABLES and TABLES[number].part:
        tasks = [task for task in tasks if task in TABLES[number].tasks]
    for row in rows:
        for preset, variants in _presets(row, f"{dataset}_{row.backbone}_", tasks, overrides):
            if not (CONF / "experiment" / f"{preset}.yaml").is_file():
                unknown[preset] = None
            elif preset not in made:
                made[preset] = _step(preset, variants, overrides)
    for step in made.values():
        step.check()
    return list(made.values()), list(unknown)


def _presets(
    row: Published, prefix: str, tasks: Sequence[str], overrides: Overrides
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Presets behind a row, those that it needs first, each with its variants."""
    genotype = overrides.genotype
    for need in row.needs:
        if not need.endswith("search"):
            yield prefix + need, ()
        elif overrides.genotype is None:
            genotype = f"{overrides.runs_dir}/{prefix}{need}"
            yield prefix + need, ()
    assert row.preset is not None
    if "{task}" in row.preset:
        yield from ((prefix + row.preset.format(task=task), ()) for task in tasks)
    elif row.runs:
        yield prefix + row.preset, tuple(f"tasks=[{task}]" for task in tasks)
    else:
        yield prefix + row.preset, (f"genotype={genotype}",) if row.distillation == "atrc" else ()


def _step(preset: str, variants: tuple[str, ...], overrides: Overrides) -> Step:
    seeds = overrides.seeds[:1] if preset.endswith("_branch") else overrides.seeds  # presets name the first one's
    own = [[variant] for variant in variants] or [[]]
    configs = [composed([f"+experiment={preset}", *each, f"seed={seeds[0]}", *overrides.composable]) for each in own]
    return Step(preset, variants, tuple(configs), seeds, overrides)
