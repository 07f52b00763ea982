"""`stage=importance`: what each context block of a finished run is worth to its target (Sec. 4.4)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.loader import Data, val_count
from atrc_exp.errors import UserError
from atrc_exp.evaluation.importance import Importance, measure_importance
from atrc_exp.genotype import Genotype, load
from atrc_exp.models.inspection import BlockView
from atrc_exp.report.figures import importance
from atrc_exp.report.figures.importance import Baseline
from atrc_exp.report.results.aggregate import find_baselines
from atrc_exp.runs.configurations import run_folder
from atrc_exp.runs.files import GENOTYPE, SUMMARY
from atrc_exp.runs.finished import RunResult, left_out, read_runs, runs_root
from atrc_exp.runs.logging.console import image_progress
from atrc_exp.runs.logging.jsonl import plain
from atrc_exp.stages.common import TrainedRun, load_run, open_data, processes

_SAME_SCORE = 0.01  # relative; other devices and precisions stay far below


def run(config: Config) -> None:
    """Measure all blocks, print the matrix, and write `importance.json` with its figure.

    Raises:
        UserError: no such run, one that has not finished or has no context blocks, other data than the run's, or fewer
            images than permutations.
    """
    config = replace(config, engine=replace(config.engine, compile=False))  # outputs are taken from inside the network
    with processes(config) as ranks:
        result = _finished(run_folder(config))
        tasks = build_tasks_of(config)
        trained = load_run(config, ranks, tasks)
        view = BlockView(trained.predict.network)
        if not view.blocks:
            raise UserError(f"{trained.folder}: all blocks are none; there is no output to permute")
        data = open_data(config, ranks, trained.normalisation)
        if data.info.fingerprint != trained.dataset["fingerprint"]:
            raise UserError(
                f"dataset.root={config.dataset.root}: holds other files than those of the run {trained.folder}"
            )
        baselines = _baselines(result, view.genotype)
        images = val_count(data, config)
        with image_progress("images", images, bar=config.engine.progress and ranks.is_main) as advance:
            measured = measure_importance(trained.predict, data, config, tasks, ranks, trained.codebook, advance)
        if ranks.is_main:
            record = _record(config, trained, data, result, baselines, view.genotype, measured)
            importance.write(Path(config.output or trained.folder).expanduser(), record)


def _finished(folder: Path) -> RunResult:
    """The result of a run as the tables read it."""
    if not (folder / SUMMARY).is_file():
        raise UserError(f"run={folder}: has not finished (no {SUMMARY}); its importance is that of a fitted network")
    found = [result for result in read_runs(folder.parent) if result.folder == folder]
    if not found:
        reason = left_out(folder.parent).get(folder, "is not the folder of a run, runs/<name>/seed<k>")
        raise UserError(f"run={folder}: {reason}")
    return found[0]


def _baselines(result: RunResult, genotype: Genotype) -> dict[str, Baseline]:
    """The single-task scores by task, from the runs beside this one."""
    found = find_baselines(runs_root(result.folder.parent))
    return {task: importance.baseline_of(task, result.experiment.setting, found) for task in genotype.tasks}


def _record(
    config: Config,
    trained: TrainedRun,
    data: Data,
    result: RunResult,
    baselines: dict[str, Baseline],
    genotype: Genotype,
    measured: Importance,
) -> dict[str, Any]:
    for task, score in measured.headline.items():
        if baselines[task][0] is not None and not _same(score, result.headline.get(task)):
            reason = f"{task} scores otherwise here than in {SUMMARY}, by whose rules and images Δm is measured"
            baselines[task] = None, reason
    blocks = importance.block_entries(measured, genotype, {task: value for task, (value, _) in baselines.items()})
    notes = [f"no Δm for {task}: {why}" for task, (value, why) in baselines.items() if value is None]
    notes += [f"{task} is not scored" for task in genotype.tasks if task not in measured.headline]
    return plain({
        "version": 1,
        "source": {"run": str(trained.folder), "checkpoint": str(trained.checkpoint), "iteration": trained.iteration,
                   "precision": config.engine.precision},
        "dataset": data.info.as_dict(),
        "images": val_count(data, config),
        "rules": {key: value for key, value in asdict(config.evaluation).items() if key != "boundary_every"},
        **asdict(config.importance),
        "tasks": list(genotype.tasks),
        "headline": measured.headline,
        "baselines": {
            task: {"mean": value and value.mean, "n": value and value.n, "runs" if value else "missing": text}
            for task, (value, text) in baselines.items()
        },
        "blocks": blocks,
        "correlation": importance.correlation(blocks, _votes(result, genotype)),
        "notes": notes,
    })  # fmt: skip


def _same(score: float, recorded: float | None) -> bool:
    return recorded is not None and math.isclose(score, recorded, rel_tol=_SAME_SCORE)


def _votes(result: RunResult, genotype: Genotype) -> Mapping[str, Any]:
    """Votes of the searches that the run's genotype comes from; for a search, of the sweep it belongs to."""
    sweep = result.folder.parent / GENOTYPE
    source = load(sweep) if result.experiment.stage == "search" and sweep.is_file() else genotype
    return source.details.get("votes", {})
