"""Search of the encoder's branching (BMTAS, BMVC 2020). `search_branching` shows the order; `BranchSession` holds what
the loop handles."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from atrc_exp import branching as branchings
from atrc_exp.branching import Branching
from atrc_exp.config import Config
from atrc_exp.engine import checkpoint, memory
from atrc_exp.engine.branch_state import BranchSchedule, build_branch_state
from atrc_exp.engine.branch_step import BranchObjective, BranchPredictor, architecture_step, weight_step
from atrc_exp.engine.distributed import Ranks
from atrc_exp.engine.evaluate import FirstImages, Observer, evaluate
from atrc_exp.engine.interrupt import Interruption
from atrc_exp.engine.record import LossRecord
from atrc_exp.engine.run import Run
from atrc_exp.engine.schedules import due
from atrc_exp.engine.scores import Borders, Scores
from atrc_exp.engine.setup import facts, place_network, use_determinism
from atrc_exp.engine.step import Batch
from atrc_exp.engine.summary import summarise
from atrc_exp.logging import Logger
from atrc_exp.losses import build_losses
from atrc_exp.models.branch_search import BranchSearch, Path
from atrc_exp.tasks import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BranchLoaders:
    """Where batches come from, on the rank's device."""

    weights: Callable[[int], Iterable[Batch]]
    """Micro-batches of this rank for the weights from a given iteration on."""
    arch: Callable[[int], Iterable[Batch]]
    """The same for the architecture, from other images."""
    val: Iterable[Batch]
    borders: Borders | None = None
    """`Data.borders`: what boundaries are scored against."""


def search_branching(
    config: Config,
    run: Run,
    ranks: Ranks,
    network: BranchSearch,
    tasks: Sequence[Task],
    schedule: BranchSchedule,
    loaders: BranchLoaders,
    codebook: Tensor | None = None,
) -> dict[str, Any]:
    """Search from the run's checkpoint, if there is one, to `engine.iterations` batches of the weights; collective.

    Returns:
        The content of summary.json; branching.json stands beside it.

    Raises:
        UserError: a loss that is not finite, a checkpoint that does not fit.
        Interrupted: a signal; the run goes on from the end of the last epoch that was saved.
    """
    session = BranchSession(config, run, ranks, network, tasks, schedule, loaders, codebook)
    state, engine = session.state, config.engine
    logger = Logger(config, run.folder, run.id, tasks, iteration=state.iteration, is_main=ranks.is_main)
    with session.interruption, logger, torch.autograd.set_detect_anomaly(config.debug.anomaly):
        session.announce()
        if state.iteration and session.due(session.first_epoch() - 1, engine.validate_every):
            session.validate(logger)  # the checkpoint is from before it
        for epoch in session.epochs():
            if schedule.searching(epoch):
                session.train_architecture(epoch)
                state.start_weight_phase()
            session.train_weights(epoch, logger)
            session.log_branching(epoch, logger)
            if session.due(epoch, engine.checkpoint_every) or session.due(epoch, engine.validate_every):
                session.save()
            if session.due(epoch, engine.validate_every):
                session.validate(logger)
        return session.finish(logger)


class BranchSession:
    """The objects of one branch search in this process, built from the configuration and the checkpoint."""

    def __init__(
        self,
        config: Config,
        run: Run,
        ranks: Ranks,
        network: BranchSearch,
        tasks: Sequence[Task],
        schedule: BranchSchedule,
        loaders: BranchLoaders,
        codebook: Tensor | None,
    ) -> None:
        self.config, self.run, self.ranks, self.tasks = config, run, ranks, tasks
        self.schedule, self.loaders = schedule, loaders
        use_determinism(config.engine.deterministic)
        last = ranks.on_main(partial(checkpoint.restore, run.checkpoint.parent))
        saved = checkpoint.load(last) if last else None
        codebook = saved["codebook"] if saved else codebook
        self.network = place_network(network, config, ranks)
        self.losses = build_losses(tasks, codebook=codebook).to(ranks.device)
        self.predictor = BranchPredictor(self.network, config)
        self.objective = BranchObjective(self.predictor, tasks, codebook).to(ranks.device)
        record = LossRecord([task.name for task in tasks], ranks.device)
        self.state = build_branch_state(config, self.network, record, run.id, codebook)
        checkpoint.seed_all(config.seed + ranks.rank)  # every rank draws its own paths
        if saved:
            self.state.load_state_dict(saved, ranks)
        self.wrapped = ranks.wrap(self.objective, find_unused=True)
        self.wrapped.train()
        first = self.first_epoch()
        self.weight_batches = iter(loaders.weights(schedule.start(first)))
        self.arch_batches = iter(loaders.arch(schedule.arch_start(first)))
        self.interruption = Interruption(ranks)
        self.started = time.monotonic() - self.state.seconds
        self.last_record = (time.monotonic(), self.state.iteration)

    def first_epoch(self) -> int:
        """The epoch that comes next; checkpoints lie between epochs."""
        return next(e for e in range(self.schedule.epochs + 1) if self.schedule.start(e) == self.state.iteration)

    def epochs(self) -> Iterable[int]:
        """The epochs that are left."""
        return range(self.first_epoch(), self.schedule.epochs)

    def announce(self) -> None:
        """Log where the run is and the numbers that follow from its configuration."""
        log.info("run folder: %s", self.run.folder)
        for name, fact in facts(self.config, self.ranks, self.network).items():
            log.info("%s: %s", name, fact)
        log.info("epochs: %s", self.schedule.describe())
        if self.state.iteration:
            log.info("resumed after %d iterations", self.state.iteration)

    def train_architecture(self, epoch: int) -> None:
        """Train the architecture on all of its images once."""
        temperature = self.schedule.temperature(epoch)
        for _ in range(self.schedule.arch_batches):
            micro = self.take(self.arch_batches)
            architecture_step(self.config, self.state, self.objective, self.losses, micro, self.ranks, temperature)

    def train_weights(self, epoch: int, logger: Logger) -> None:
        """Train the weights on all of their images once, along own copies in the warm-up and drawn mixtures later."""
        for _ in range(self.schedule.start(epoch), self.schedule.start(epoch + 1)):
            micro = self.take(self.weight_batches)
            terms = weight_step(self.state, self.wrapped, self.losses, micro, self.ranks, self.path_in(epoch))
            self.state.record.add(self.state.iteration, terms)
            logger.step(self.state.iteration)
            if due(self.state.iteration, self.config.engine.log_every, self.config.engine.iterations):
                self.log_losses(logger)

    def path_in(self, epoch: int) -> Callable[[str], Path]:
        """How a task's path is chosen for a step of the weights."""
        if not self.schedule.searching(epoch):
            return self.network.own_path
        temperature = self.schedule.temperature(epoch)
        return lambda task: self.network.drawn_path(task, temperature).detach()

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """Micro-batches of one iteration; ends the run where there was a signal."""
        self.interruption.leave_if_asked()
        micro = list(islice(batches, self.config.engine.accumulate))
        if len(micro) < self.config.engine.accumulate:
            raise RuntimeError("the loader ended before the search")
        return micro

    def due(self, epoch: int, every: int) -> bool:
        """Whether something done every so many iterations is due at the end of this epoch; always after the last."""
        before, now = self.schedule.start(epoch), self.state.iteration
        return now // every > before // every or now == self.config.engine.iterations

    def log_losses(self, logger: Logger) -> None:
        """Write the mean losses since the last record."""
        state = self.state
        state.record.check(self.ranks)
        terms = state.record.read(self.ranks)
        now, (then, since) = time.monotonic(), self.last_record
        self.last_record = (now, state.iteration)
        logger.record({
            "step": state.iteration, "kind": "train",
            "loss": sum(task.weight * terms[task.name] for task in self.tasks), **terms, "lr": self.config.branching.lr,
            "seconds_per_step": (now - then) / (state.iteration - since),
            "memory_mib": memory.peak_mib(self.ranks.device),
        })  # fmt: skip

    def log_branching(self, epoch: int, logger: Logger) -> None:
        """Write where the architecture stands: temperature, expected GFLOPs, and branches by layer."""
        branching = self.network.branching()
        logger.record({
            "step": self.state.iteration, "kind": "branch", "epoch": epoch + 1,
            **({"temperature": self.schedule.temperature(epoch)} if self.schedule.searching(epoch) else {}),
            "gflops": branching.details["gflops"],
            "branches": {layer: len(groups) for layer, groups in branching.layers.items()},
        })  # fmt: skip

    def validate(self, logger: Logger) -> None:
        """Score the validation split along the most probable copies, and write the branching."""
        self.state.record.check(self.ranks)
        first = FirstImages(self.config.logger.images if self.ranks.is_main else 0)
        observers: list[Observer] = [first, self.interruption.leave_if_asked]
        last = self.state.iteration == self.config.engine.iterations
        scores = Scores(self.tasks, self.ranks, self.config.evaluation, boundaries=last, borders=self.loaders.borders)
        self.state.validation = evaluate(
            self.predictor, self.loaders.val, self.tasks, self.ranks, observers, scores, self.state.codebook
        )
        logger.record({"step": self.state.iteration, "kind": "val", **self.state.validation})
        logger.predictions(self.state.iteration, first.kept)
        if self.ranks.is_main:
            branchings.save(self.branching(), self.run.folder / branchings.FILE_NAME)

    def branching(self) -> Branching:
        """The branching of the most probable copies, with the iteration among its details."""
        branching = self.network.branching()
        return replace(branching, details={"step": self.state.iteration, **branching.details})

    def save(self) -> None:
        """Write the checkpoint, unless a loss is not finite: the one before it stays.

        Raises:
            UserError: a loss is not finite.
        """
        self.state.record.check(self.ranks)
        self.state.seconds = time.monotonic() - self.started
        content = self.state.state_dict(self.ranks)
        if self.ranks.is_main:
            checkpoint.save(self.run.checkpoint, content)

    def finish(self, logger: Logger) -> dict[str, Any]:
        """Keep the branching in W&B and write the summary, which marks the run as done."""
        path = self.run.folder / branchings.FILE_NAME
        logger.artifact(path, "branching", f"{self.config.name}-seed{self.config.seed}-branching")
        summary = summarise(self.config, self.run, self.state, self.tasks)
        self.run.finish(summary)
        log.info("done: %s", self.run.folder / "summary.json")
        return summary
