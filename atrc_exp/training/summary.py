"""summary.json: what a finished run hands to tables and votes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from torch import nn

from atrc_exp.config import BalanceConfig, Config
from atrc_exp.models.network import Network
from atrc_exp.runs.folder import Run
from atrc_exp.runs.logging.jsonl import plain
from atrc_exp.tasks import Task
from atrc_exp.training.setup import parameter_count


class Progress(Protocol):
    """What the state of a training run and that of a branch search tell of their end."""

    iteration: int
    skipped: int
    seconds: float
    validation: dict[str, float]

    @property
    def network(self) -> nn.Module: ...


def summarise(
    config: Config, run: Run, state: Progress, tasks: Sequence[Task], best: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect scores, losses and circumstances of the last iteration. A score without a valid pixel is null.

    Args:
        best: the record of the kept best checkpoints. Their scores are left out, since these images selected them.
    """
    metrics, losses = by_task(state.validation, tasks)
    search = state.network.search if isinstance(state.network, Network) else None
    return plain({
        "version": 1,
        "name": config.name,
        "seed": config.seed,
        "stage": config.stage.name,
        "dataset": run.dataset,
        "init": run.init and {key: run.init[key] for key in ("file", "sha256")},
        "backbone": config.backbone.name,
        "neck": config.neck.name,
        "distillation": config.distillation.name,
        "tasks": [task.name for task in tasks],
        "classifications": [task.name for task in tasks if task.is_classification],
        "objective": _objective(config),
        "iteration": state.iteration,
        "metrics": metrics,
        "losses": losses,
        "headline": headline(metrics, tasks),
        "search": None if search is None else {
            "arch_lr": config.search.arch_lr,
            "frozen_blocks": int((search.frozen >= 0).sum()),
            "blocks": len(search.frozen),
        },
        "best_checkpoints": None if best is None else {key: best[key] for key in ("selected_on", "criterion", "kept")},
        "parameters": parameter_count(state.network),
        "seconds": state.seconds,
        "skipped_steps": state.skipped,
        "status": "done",
    })  # fmt: skip


def _objective(config: Config) -> list[str]:
    """What of the objective is not the published one, as on a command line."""
    values, defaults = asdict(config.balance), asdict(BalanceConfig())
    changed = [f"balance.{key}={value}" for key, value in values.items() if value != defaults[key]]
    changed += [f"loss_weights.{task}={weight}" for task, weight in config.loss_weights.items()]
    return changed + [f"task_losses.{task}={loss}" for task, loss in config.task_losses.items()]


def by_task(
    results: Mapping[str, float], tasks: Sequence[Task]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Split `evaluate`'s flat result into metrics by task and losses by task."""
    metrics: dict[str, dict[str, float]] = {}
    losses = {task.name: results[f"{task.name}/loss"] for task in tasks if f"{task.name}/loss" in results}
    for key, value in results.items():
        task, _, metric = key.partition("/")
        if metric not in ("", "loss"):
            metrics.setdefault(task, {})[metric] = value
    return metrics, losses


def headline(metrics: Mapping[str, Mapping[str, float]], tasks: Sequence[Task]) -> dict[str, float]:
    """The headline metric of every task that has been scored."""
    return {task.name: metrics[task.name][task.metric] for task in tasks if task.metric in metrics.get(task.name, {})}
