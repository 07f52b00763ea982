"""`stage=benchmark`: will a training fit, and how long will it take? One configuration, or several side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from atrc_exp.config import Config
from atrc_exp.config.compose import composed
from atrc_exp.config.derived import build_tasks_of, genotype_of
from atrc_exp.config.hydra_errors import USER_MISTAKES, explain
from atrc_exp.config.keys import override_key
from atrc_exp.data.batch import Batch
from atrc_exp.data.loader import train_loader
from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.models import build_network
from atrc_exp.models.backbones.weights import weights_normalisation
from atrc_exp.models.network import Network
from atrc_exp.ops import forms_that_ran
from atrc_exp.processes.ranks import Ranks
from atrc_exp.report.results.sheet import Sheet, plain
from atrc_exp.report.results.tables import show_sheet
from atrc_exp.runs.environment import describe_environment
from atrc_exp.stages.common import open_data
from atrc_exp.tasks import Task
from atrc_exp.training.benchmark import PHASES, Subject, measure, random_batches


def run(config: Config) -> None:
    """Print a table and write `<runs_dir>/<name>/benchmark.json`.

    Raises:
        UserError: a configuration that is not valid, cannot be built or does not fit into memory, or missing data.
    """
    settings = config.benchmark
    configs = {config.name: config}
    for entry in settings.against:
        configs[entry] = _changed(config, entry)
    batches = random_batches if settings.data == "random" else _dataset_batches
    if settings.data == "dataset":
        for each in configs.values():
            open_data(each, Ranks())  # what is missing is named, and rooms are made, before anything is measured
    subjects = [Subject(label, each, _build, batches) for label, each in configs.items()]
    measurements = measure(subjects, steps=settings.steps, warmup=settings.warmup)
    rows = [measurement.row(measurements[0]) for measurement in measurements]
    environment = describe_environment(Ranks.start(config.engine.device).device)
    print(f"{environment['device']}, data: {settings.data}, medians of {settings.steps} steps")
    show_sheet(_sheet(rows))
    path = Path(config.runs_dir) / config.name / "benchmark.json"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"date": date, **environment, "threads": torch.get_num_threads(), "data": settings.data,
                      "steps": settings.steps, "local_attention": sorted(forms_that_ran),
                      "warmup": settings.warmup, "overrides": settings.overrides,
                      "configurations": rows})  # fmt: skip
    print(f"written to {path}")


def _sheet(rows: Iterable[Mapping[str, Any]]) -> Sheet:
    """A line for each configuration, with ratios to the first."""
    header = ("Configuration", *(f"{phase} [ms]" for phase in (*PHASES, "step")), "Images/s", "Peak [MiB]", "Hours",
              "× time", "× memory")  # fmt: skip
    lines = [
        (row["label"], *(f"{1000 * row['seconds'][phase]:.1f}" for phase in (*PHASES, "step")),
         f"{row['images_per_second']:.2f}", f"{row['peak_memory_mib']:.0f}", f"{row['projected_hours']:.2f}",
         f"{row['step_ratio']:.2f}", f"{row['memory_ratio']:.2f}")
        for row in rows
    ]  # fmt: skip
    return Sheet("benchmark", "", header, plain(lines))


def _changed(config: Config, entry: str) -> Config:
    """This command's configuration with another preset, or with overrides separated by blanks."""
    changes = entry.split() if "=" in entry else [f"+experiment={entry}"]
    changed = {override_key(override) for override in changes}
    kept = [override for override in config.benchmark.overrides if override_key(override) not in changed]
    try:
        return composed([*kept, *changes])
    except USER_MISTAKES as error:
        raise UserError(f"benchmark.against: {entry}: {explain(error)}") from None


def _build(config: Config) -> tuple[Network, tuple[Task, ...]]:
    # Centres of clusters are fitted to labels in a training; their values take no part in the time.
    tasks = tuple(
        task if task.centres is None else replace(task, centres=((0.0,) * task.channels,) * task.regions)
        for task in build_tasks_of(config)
    )
    return build_network(config, tasks, genotype_of(config)), tasks


def _dataset_batches(config: Config, _: object, device: torch.device, steps: int) -> Iterable[Batch]:
    data = open_data(config, Ranks(device=device), weights_normalisation(config.backbone))
    return train_loader(data, config, start_iteration=0, iterations=steps, rank=0, world=1, device=device)
