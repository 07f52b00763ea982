"""`stage=evaluate`: every score of a run's checkpoint, or of predictions in files, as tables, figures and JSON."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.decode import read_ids
from atrc_exp.data.loader import Data, val_count, val_loader, val_samples
from atrc_exp.errors import UserError
from atrc_exp.evaluation.evaluate import Observer, PredictionWriter, evaluate, evaluate_files
from atrc_exp.evaluation.predictions import predicted_tasks
from atrc_exp.evaluation.scores import Scores
from atrc_exp.processes.ranks import Ranks
from atrc_exp.report.results import evaluation
from atrc_exp.runs.best import PREFIX, SELECTED_ON
from atrc_exp.runs.files import PREDICTIONS
from atrc_exp.runs.logging.console import image_progress
from atrc_exp.runs.logging.jsonl import plain
from atrc_exp.stages.common import load_run, open_data, processes
from atrc_exp.tasks import Task
from atrc_exp.training.summary import by_task, headline


def run(config: Config) -> None:
    """Score the validation split, print the tables, and write `evaluation.json` with its figures.

    Raises:
        UserError: no such run or checkpoint, other data than the run's, or predictions that are missing or unfit.
    """
    with processes(config) as ranks:
        score = _score_run if config.predictions is None else _score_files
        record, scores = score(config, ranks)
        details = scores.per_class(), scores.confusion(), scores.curves()  # collective
        if ranks.is_main:
            source = record["source"].get("predictions") or record["source"]["run"]
            evaluation.write(_output(config, source), record, *details, scores.boundaries)


def _score_run(config: Config, ranks: Ranks) -> tuple[dict[str, Any], Scores]:
    tasks = build_tasks_of(config)
    trained = load_run(config, ranks, tasks)
    data = open_data(config, ranks, trained.normalisation)
    if data.info.fingerprint != trained.dataset["fingerprint"]:
        raise UserError(f"dataset.root={config.dataset.root}: holds other files than those of the run {trained.folder}")
    observers: list[Observer] = []
    if config.engine.save_predictions:
        observers.append(PredictionWriter(_output(config, trained.folder) / PREDICTIONS, tasks))
    scores = Scores(tasks, ranks, config.evaluation, truth=data.truth)
    batches = val_loader(data, config, rank=ranks.rank, world=ranks.world, device=ranks.device)
    with image_progress("images", val_count(data, config), bar=config.engine.progress and ranks.is_main) as advance:
        results = evaluate(trained.predict, batches, tasks, ranks, [*observers, advance], scores, trained.codebook)
    source = {"run": str(trained.folder), "checkpoint": str(trained.checkpoint), "iteration": trained.iteration,
              "precision": config.engine.precision}  # fmt: skip
    if trained.checkpoint.name.startswith(PREFIX):
        source["selected_on"] = SELECTED_ON
    return _record(config, source, data, val_count(data, config), tasks, results), scores


def _score_files(config: Config, ranks: Ranks) -> tuple[dict[str, Any], Scores]:
    data = open_data(config, ranks)
    folder = Path(str(config.predictions)).expanduser()
    plain_forms = replace(config, task_forms={})  # files hold metres and unit vectors, whatever made them
    listed, ids = config.evaluation.boundary_ids, data.val.ids[: val_count(data, config)]
    tasks = predicted_tasks(
        folder,
        build_tasks_of(plain_forms),
        ids,
        frozenset(read_ids(Path(listed))) if listed is not None else None,
    )
    on_cpu = Ranks(ranks.rank, ranks.world)  # files are read to the CPU
    scores = Scores(tasks, on_cpu, config.evaluation, truth=data.truth)
    wanted = {image_id for image_id in ids if any(scores.wants(task.name, image_id) for task in tasks)}
    samples = val_samples(data, config, rank=ranks.rank, world=ranks.world, ids=wanted)
    with image_progress("images", len(wanted), bar=config.engine.progress and ranks.is_main) as advance:
        results = evaluate_files(folder, samples, tasks, scores, [advance])
    return _record(config, {"predictions": str(folder.absolute())}, data, len(wanted), tasks, results), scores


def _output(config: Config, source: str | Path) -> Path:
    """Return where results go: `output`, or the folder of what is scored."""
    return Path(config.output or source).expanduser()


def _record(
    config: Config,
    source: dict[str, Any],
    data: Data,
    images: int,
    tasks: tuple[Task, ...],
    results: dict[str, float],
) -> dict[str, Any]:
    metrics, losses = by_task(results, tasks)
    return plain({
        "version": 1,
        "source": source,
        "dataset": data.info.as_dict(),
        "images": images,
        "rules": {key: value for key, value in asdict(config.evaluation).items() if key != "boundary_every"},
        "tasks": [task.name for task in tasks],
        "metrics": metrics,
        "headline": headline(metrics, tasks),
        "losses": losses,
    })  # fmt: skip
