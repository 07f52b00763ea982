"""Search of the encoder's branching (BMTAS, BMVC 2020). `search_branching` shows the order; `BranchSession` holds what
the loop handles."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor

from atrc_exp.bmtas import tree as branchings
from atrc_exp.bmtas.state import BranchSchedule, BranchState, build_branch_state
from atrc_exp.bmtas.step import BranchObjective, BranchPredictor, architecture_step, branching_bytes, weight_step
from atrc_exp.bmtas.supergraph import BranchSearch, Path
from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.data.readers.sample import Truth
from atrc_exp.losses import build_losses
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.files import BRANCHING
from atrc_exp.runs.folder import Run
from atrc_exp.runs.logging import Logger
from atrc_exp.schedules import due
from atrc_exp.tasks import Task
from atrc_exp.training.record import LossRecord
from atrc_exp.training.session import Session
from atrc_exp.training.setup import place_network


@dataclass(frozen=True)
class BranchLoaders:
    """Where batches come from, on the rank's device."""

    weights: Callable[[int], Iterable[Batch]]
    """Micro-batches of this rank for the weights from a given iteration on."""
    arch: Callable[[int], Iterable[Batch]]
    """The same for the architecture, from other images."""
    val: Iterable[Batch]
    truth: Truth = field(default_factory=Truth)
    """`Data.truth`: what can be scored against instead of labels."""


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
    """Search from the run's checkpoint, if there is one, to `engine.iterations` batches of the weights, on all ranks.

    Returns:
        The content of summary.json; branching.json stands beside it.

    Raises:
        UserError: a loss that is not finite, a checkpoint that does not fit.
        Interrupted: a signal; the run goes on from the end of the last epoch that was saved.
    """
    session = BranchSession(config, run, ranks, network, tasks, schedule, loaders, codebook)
    engine = config.engine
    with session.begin() as logger:
        for epoch in range(session.first_epoch(), schedule.epochs):
            if schedule.searching(epoch):
                session.train_architecture(epoch)
                session.state.start_weight_phase()
            session.train_weights(epoch, logger)
            session.log_branching(epoch, logger)
            if session.due(engine.checkpoint_every) or session.due(engine.validate_every):
                session.save()
            if session.due(engine.validate_every):
                session.validate(logger)
        return session.finish(logger)


class BranchSession(Session):
    """The objects of one branch search in this process, built from the configuration and the checkpoint."""

    state: BranchState
    predict: BranchPredictor
    rates = "branching.lr or branching.arch_lr"

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
        super().__init__(config, run, ranks, tasks, loaders.val, loaders.truth)
        self.schedule = schedule
        saved = self.restored()
        codebook = saved["codebook"] if saved else codebook
        self.network = place_network(network, config, ranks)
        self.losses = build_losses(tasks, codebook=codebook).to(ranks.device)
        self.predict = BranchPredictor(self.network, config)
        self.objective = BranchObjective(self.predict, tasks, codebook).to(ranks.device)
        record = LossRecord([task.name for task in tasks], ranks.device)
        self.state = build_branch_state(config, self.network, record, run.id, codebook)
        self.resume(saved)
        self.wrapped = ranks.wrap(self.objective, find_unused=True)
        self.wrapped.train()
        first = self.first_epoch()
        self.weight_batches = iter(ranks.alone(loaders.weights(schedule.start(first))))
        self.arch_batches = iter(ranks.alone(loaders.arch(schedule.arch_start(first))))
        self.memory_checked = False

    def first_epoch(self) -> int:
        """The epoch that comes next; checkpoints lie between epochs."""
        return next(e for e in range(self.schedule.epochs + 1) if self.schedule.start(e) == self.state.iteration)

    def due(self, every: int) -> bool:
        """Whether what is done every so many iterations is due after an epoch; after the last it always is."""
        before, now = self.schedule.start(self.first_epoch() - 1), self.state.iteration
        return now // every > before // every or now == self.config.engine.iterations

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "epochs": self.schedule.describe()}

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
                self.log_losses(logger, lr=self.config.branching.lr)

    def path_in(self, epoch: int) -> Callable[[str], Path]:
        """How a task's path is chosen for a step of the weights."""
        if not self.schedule.searching(epoch):
            return self.network.own_path
        temperature = self.schedule.temperature(epoch)
        return lambda task: self.network.drawn_path(task, temperature).detach()

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """Yield the micro-batches of one iteration. After a signal this ends the run."""
        self.interruption.leave_if_asked()
        micro = list(islice(batches, self.config.engine.accumulate))
        if len(micro) < self.config.engine.accumulate:
            raise RuntimeError("the loader ended before the search")
        if not self.memory_checked:
            self.check_memory(partial(branching_bytes, self.objective, micro[0]))
            self.memory_checked = True
        return micro

    def log_branching(self, epoch: int, logger: Logger) -> None:
        """Write where the architecture stands: temperature, expected GFLOPs, and branches by layer."""
        branching = self.network.branching()
        logger.record({
            "step": self.state.iteration, "kind": "branch", "epoch": epoch + 1,
            **({"temperature": self.schedule.temperature(epoch)} if self.schedule.searching(epoch) else {}),
            "gflops": branching.details["gflops"],
            "branches": {layer: len(groups) for layer, groups in branching.layers.items()},
        })  # fmt: skip

    def keep_architecture(self, logger: Logger) -> None:
        branching = self.network.branching()
        if self.ranks.is_main:
            details = {"step": self.state.iteration, **branching.details}
            branchings.save(replace(branching, details=details), self.run.folder / BRANCHING)

    def keep_results(self, logger: Logger) -> None:
        path = self.run.folder / BRANCHING
        logger.artifact(path, "branching", f"{self.config.name}-seed{self.config.seed}-branching")
