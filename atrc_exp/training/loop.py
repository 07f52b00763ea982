"""Training of searches and fixed networks. `train` shows the order; `TrainSession` holds what the loop handles."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, repeat
from typing import Any

import numpy as np
from torch import Tensor

from atrc_exp import genotype as genotypes
from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.data.readers.sample import Truth
from atrc_exp.files import replacing
from atrc_exp.losses import build_losses
from atrc_exp.models.backbones.backbone import map_sizes
from atrc_exp.models.network import Network
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search.strategies.strategy import Strategy
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.runs.files import CODEBOOK, GENOTYPE, WEIGHTS
from atrc_exp.runs.folder import Run
from atrc_exp.runs.logging import Logger
from atrc_exp.schedules import due
from atrc_exp.tasks import Task
from atrc_exp.training.memory import training_bytes
from atrc_exp.training.record import LossRecord
from atrc_exp.training.scoring import STATISTICS_BATCHES, PathScorer
from atrc_exp.training.session import Session
from atrc_exp.training.setup import place_network
from atrc_exp.training.state import TrainState, build_state
from atrc_exp.training.step import Objective, StepResult, train_step


@dataclass(frozen=True)
class Loaders:
    """Where batches come from, on the rank's device."""

    train: Callable[[int], Iterable[Batch]]
    """Micro-batches of this rank from a given iteration on, `engine.accumulate` for each iteration."""
    val: Iterable[Batch]
    """Validation images of this rank; iterated anew at every validation."""
    held_out: Iterable[Batch] = ()
    """Images of this rank by which a search strategy chooses, if it does; iterated anew for every genotype."""
    logits: Callable[[int], Iterable[Batch]] | None = None
    """As `train`, of the images from which the logits learn; None where they learn from those of the weights."""
    truth: Truth = field(default_factory=Truth)
    """`Data.truth`: what can be scored against instead of labels."""


def train(
    config: Config,
    run: Run,
    ranks: Ranks,
    network: Network,
    strategy: Strategy | None,
    tasks: Sequence[Task],
    loaders: Loaders,
    codebook: Tensor | None = None,
) -> dict[str, Any]:
    """Train from the run's checkpoint, if there is one, to `engine.iterations`; collective.

    Args:
        run: open folder of the run.
        network: with initial weights, the same on every rank.
        strategy: of a search network, from `build_strategy`.
        codebook: unit normals (40, 3), where the label regions or the form of normals need them.

    Returns:
        The content of summary.json.

    Raises:
        UserError: a loss that is not finite, a checkpoint that does not fit, too little memory.
        Interrupted: a signal; the state is saved.
    """
    session = TrainSession(config, run, ranks, network, strategy, tasks, loaders, codebook)
    state, engine = session.state, config.engine
    with session.begin() as logger:
        for micro_batches, held_out in session.iterations():
            result = train_step(config, state, session.objective, session.losses, micro_batches, ranks, held_out)
            state.record.add(state.iteration, result.terms)
            logger.step(state.iteration)
            if session.due(engine.log_every):
                session.log_step(logger, result)
            stop = session.interruption.agreed()
            if stop or session.due(engine.checkpoint_every) or session.due(engine.validate_every):
                session.save()
            if stop:
                raise Interrupted(stop)
            if session.due(engine.validate_every):
                session.validate(logger)
        return session.finish(logger)


class TrainSession(Session):
    """The objects of one training run in this process, built from the configuration and the checkpoint."""

    state: TrainState
    predict: Predictor
    rates = "optim.lr or search.arch_lr"

    def __init__(
        self,
        config: Config,
        run: Run,
        ranks: Ranks,
        network: Network,
        strategy: Strategy | None,
        tasks: Sequence[Task],
        loaders: Loaders,
        codebook: Tensor | None,
    ) -> None:
        super().__init__(config, run, ranks, tasks, loaders.val, loaders.truth)
        self.loaders = loaders
        saved = self.restored()
        codebook = saved["codebook"] if saved else codebook  # a refit elsewhere might differ in the last digits
        self.network = place_network(network, config, ranks)
        self.losses = build_losses(tasks, tuple(network.aux_heads), codebook, network.initial_scales).to(ranks.device)
        self.predict = Predictor(self.network, config, codebook).to(ranks.device)
        self.strategy = strategy
        terms = [*self.losses.weights, *(strategy.penalties if strategy is not None else ())]
        self.state = build_state(config, self.network, strategy, LossRecord(terms, ranks.device), run.id, codebook)
        self.resume(saved)
        self.objective = ranks.wrap(Objective(self.predict, self.losses), find_unused=network.search is not None)
        self.objective.train()
        if codebook is not None and ranks.is_main:
            with replacing(run.folder / CODEBOOK) as temporary:
                np.save(temporary, codebook.cpu().numpy())

    def facts(self) -> dict[str, Any]:
        backbone = self.network.backbone
        return {**super().facts(), "maps of the backbone": map_sizes(backbone.channels, backbone.reductions)}

    def due(self, every: int) -> bool:
        return due(self.state.iteration, every, self.config.engine.iterations)

    def iterations(self) -> Iterator[tuple[list[Batch], list[Batch]]]:
        """Micro-batches of every iteration that is left; checks the memory before the first.

        The second ones are those from which the logits learn; none where they learn from the first.
        """
        start, logits = self.state.iteration, self.loaders.logits
        apart = repeat([]) if logits is None else self._micro_batches(logits)
        for micro_batches, held_out in zip(self._micro_batches(self.loaders.train), apart, strict=False):
            if self.state.iteration == start:
                objective = Objective(self.predict, self.losses)
                self.check_memory(partial(training_bytes, objective, micro_batches[0], self.config.optim.name))
            yield micro_batches, held_out

    def _micro_batches(self, loader: Callable[[int], Iterable[Batch]]) -> Iterator[list[Batch]]:
        """Those of a loader for every iteration that is left."""
        start, end, accumulate = self.state.iteration, self.config.engine.iterations, self.config.engine.accumulate
        if start == end:
            return
        batches = self.ranks.alone(loader(start))
        for iteration in range(start, end):
            micro_batches = list(islice(batches, accumulate))
            if len(micro_batches) < accumulate:
                raise RuntimeError(f"the loader ended at iteration {iteration}")
            yield micro_batches

    def log_step(self, logger: Logger, result: StepResult) -> None:
        """Write the losses and, in a search, where the architecture stands."""
        state, strategy, schedule = self.state, self.strategy, dict(result.schedule)
        skipped = {"skipped_steps": state.skipped} if state.scaler.is_enabled() else {}
        terms = self.log_losses(logger, lr=schedule.pop("lr"), **skipped, **state.balance.record())
        if strategy is not None:
            penalties = {name: terms[name] for name in strategy.penalties}
            if numbers := {**schedule, **penalties, **strategy.record()}:
                logger.record({"step": state.iteration, "kind": "search", **numbers})

    def validate(self, logger: Logger) -> None:
        if self.state.iteration == self.config.engine.iterations:
            self.choose(logger)
        super().validate(logger)

    def choose(self, logger: Logger) -> None:
        """Let a strategy that chooses do so by the held-out images, and save it, unless that has been done."""
        strategy, search = self.strategy, self.network.search
        if strategy is None or search is None or not strategy.chooses or search.decided:
            return
        statistics = list(islice(self.ranks.alone(self.loaders.train(0)), STATISTICS_BATCHES))
        scorer = PathScorer(
            self.predict,
            search,
            self.tasks,
            self.ranks,
            self.loaders.held_out,
            statistics,
            self.state.codebook,
            self.interruption.leave_if_asked,
        )
        best = strategy.choose(scorer)
        scorer.take(best)
        self.save()
        numbers = {"scored": len(scorer.losses), "held_out_loss": scorer.losses[best]}
        logger.record({"step": self.state.iteration, "kind": "search", **numbers})

    def keep_architecture(self, logger: Logger) -> None:
        if self.strategy is None:
            return
        genotype = self.strategy.genotype()
        genotype = replace(genotype, details={**genotype.details, "step": self.state.iteration})
        if self.ranks.is_main:
            genotypes.save(genotype, self.run.folder / GENOTYPE)
        logger.image(self.state.iteration, "genotype", partial(_picture, genotype))

    def keep_results(self, logger: Logger) -> None:
        name, weights = f"{self.config.name}-seed{self.config.seed}", self.run.folder / WEIGHTS
        if self.ranks.is_main:
            facts_of_run = {"name": self.config.name, "seed": str(self.config.seed), "run_id": self.run.id,
                            "iteration": str(self.state.iteration)}  # fmt: skip
            checkpoint.export(weights, self.network.state_dict(), facts_of_run)
        logger.artifact(weights, "model", f"{name}-weights")
        if (self.run.folder / GENOTYPE).exists():
            logger.artifact(self.run.folder / GENOTYPE, "genotype", f"{name}-genotype")


def _picture(genotype: genotypes.Genotype) -> np.ndarray:
    """The genotype as a map (H, W, 3)."""
    from atrc_exp.evaluation.panels import genotype_map, rendered  # matplotlib

    return rendered(genotype_map(genotype))
