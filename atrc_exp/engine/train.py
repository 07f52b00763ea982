"""Training of searches and fixed networks. `train` shows the order; `Session` holds what the loop handles."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atrc_exp import genotype as genotypes
from atrc_exp.config import Config
from atrc_exp.engine import checkpoint, memory
from atrc_exp.engine.best import BestCheckpoints
from atrc_exp.engine.determinism import NondeterministicOperations
from atrc_exp.engine.distributed import Ranks
from atrc_exp.engine.evaluate import FirstImages, Observer, PredictionWriter, evaluate
from atrc_exp.engine.interrupt import Interrupted, Interruption
from atrc_exp.engine.record import LossRecord
from atrc_exp.engine.run import Run
from atrc_exp.engine.schedules import due
from atrc_exp.engine.scores import Borders, Scores
from atrc_exp.engine.setup import facts, place_network, use_determinism
from atrc_exp.engine.state import build_state
from atrc_exp.engine.step import ENTROPY, Batch, Objective, Predictor, StepResult, train_step
from atrc_exp.engine.summary import by_task, summarise
from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.logging import Logger
from atrc_exp.losses import build_losses
from atrc_exp.models.network import Network
from atrc_exp.tasks import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    """Where batches come from, on the rank's device."""

    train: Callable[[int], Iterable[Batch]]
    """Micro-batches of this rank from a given iteration on, `engine.accumulate` for each iteration."""
    val: Iterable[Batch]
    """Validation images of this rank; iterated anew at every validation."""
    borders: Borders | None = None
    """`Data.borders`: what boundaries are scored against."""


def train(
    config: Config,
    run: Run,
    ranks: Ranks,
    network: Network,
    tasks: Sequence[Task],
    loaders: Loaders,
    codebook: Tensor | None = None,
) -> dict[str, Any]:
    """Train from the run's checkpoint, if there is one, to `engine.iterations`; collective.

    Args:
        run: open folder of the run.
        network: with initial weights, the same on every rank.
        codebook: unit normals (40, 3), where the label regions or the form of normals need them.

    Returns:
        The content of summary.json.

    Raises:
        UserError: a loss that is not finite, a checkpoint that does not fit, too little memory.
        Interrupted: a signal; the state is saved.
    """
    session = Session(config, run, ranks, network, tasks, loaders, codebook)
    state, engine = session.state, config.engine
    logger = Logger(config, run.folder, run.id, tasks, iteration=state.iteration, is_main=ranks.is_main)
    anomaly = torch.autograd.set_detect_anomaly(config.debug.anomaly)
    with session.interruption, logger, ranks.together(), session.operations, anomaly:
        session.announce()
        if state.iteration and session.due(engine.validate_every):
            session.validate(logger)  # the checkpoint is from before it
        for micro_batches in session.iterations():
            result = train_step(config, state, session.objective, session.losses, micro_batches, ranks)
            state.record.add(state.iteration, result.terms)
            logger.step(state.iteration)
            if session.due(engine.log_every):
                session.log_losses(logger, result)
            stop = session.interruption.agreed()
            if stop or session.due(engine.checkpoint_every) or session.due(engine.validate_every):
                session.save()
            if stop:
                raise Interrupted(stop)
            if session.due(engine.validate_every):
                session.validate(logger)
        return session.finish(logger)


class Session:
    """The objects of one training run in this process, built from the configuration and the checkpoint."""

    def __init__(
        self,
        config: Config,
        run: Run,
        ranks: Ranks,
        network: Network,
        tasks: Sequence[Task],
        loaders: Loaders,
        codebook: Tensor | None,
    ) -> None:
        self.config, self.run, self.ranks, self.tasks, self.loaders = config, run, ranks, tasks, loaders
        use_determinism(config.engine.deterministic)
        last = ranks.on_main(partial(checkpoint.restore, run.checkpoint.parent))
        saved = checkpoint.load(last) if last else None
        codebook = saved["codebook"] if saved else codebook  # a refit elsewhere might differ in the last digits
        self.network = place_network(network, config, ranks)
        self.losses = build_losses(tasks, tuple(network.aux_heads), codebook, network.initial_scales).to(ranks.device)
        self.predict = Predictor(self.network, config, codebook).to(ranks.device)
        terms = [*self.losses.weights, *([ENTROPY] if network.search is not None else [])]
        record = LossRecord(terms, ranks.device)
        self.state = build_state(config, self.network, record, run.id, codebook)
        checkpoint.seed_all(config.seed + ranks.rank)  # dropout differs between ranks
        if saved:
            self.state.load_state_dict(saved, ranks)
        self.objective = ranks.wrap(Objective(self.predict, self.losses), find_unused=network.search is not None)
        self.objective.train()
        if codebook is not None and ranks.is_main:
            with replacing(run.folder / "codebook.npy") as temporary:
                np.save(temporary, codebook.cpu().numpy())
        self.best = BestCheckpoints(run.checkpoint.parent, config.engine.keep_best)
        self.interruption = Interruption(ranks)
        self.operations = NondeterministicOperations()
        self.started = time.monotonic() - self.state.seconds
        self.last_record = (time.monotonic(), self.state.iteration)

    def due(self, every: int) -> bool:
        """Whether something done every so many iterations, and after the last one, is due now."""
        return due(self.state.iteration, every, self.config.engine.iterations)

    def announce(self) -> None:
        """Log where the run is and the numbers that follow from its configuration."""
        log.info("run folder: %s", self.run.folder)
        for name, fact in facts(self.config, self.ranks, self.network).items():
            log.info("%s: %s", name, fact)
        if self.state.iteration:
            log.info("resumed after %d iterations", self.state.iteration)

    def iterations(self) -> Iterator[list[Batch]]:
        """Micro-batches of every iteration that is left; checks the memory before the first."""
        start, accumulate = self.state.iteration, self.config.engine.accumulate
        if start == self.config.engine.iterations:
            return
        batches = self.ranks.alone(self.loaders.train(start))
        for iteration in range(start, self.config.engine.iterations):
            micro_batches = list(islice(batches, accumulate))
            if len(micro_batches) < accumulate:
                raise RuntimeError(f"the loader ended at iteration {iteration}")
            if iteration == start and self.config.engine.memory_check and self.ranks.device.type == "cpu":
                needed = memory.training_bytes(Objective(self.predict, self.losses), micro_batches[0])
                self.ranks.on_main(partial(memory.require, needed, self.config))
            yield micro_batches

    def log_losses(self, logger: Logger, result: StepResult) -> None:
        """Write the mean losses since the last record and, in a search, where the architecture stands."""
        state = self.state
        state.record.check(self.ranks)
        terms = state.record.read(self.ranks)
        entropy = terms.pop(ENTROPY, None)
        now, (then, since) = time.monotonic(), self.last_record
        self.last_record = (now, state.iteration)
        logger.record({
            "step": state.iteration, "kind": "train",
            "loss": sum(self.losses.weights[name] * term for name, term in terms.items()),
            **terms, "lr": result.schedule["lr"], "seconds_per_step": (now - then) / (state.iteration - since),
            "memory_mib": memory.peak_mib(self.ranks.device),
            **({"skipped_steps": state.skipped} if state.scaler.is_enabled() else {}),
        })  # fmt: skip
        if self.network.search is not None:
            genotype = self.network.search.genotype()
            logger.record({
                "step": state.iteration, "kind": "search", "temperature": result.schedule["temperature"],
                "entropy_weight": result.schedule["entropy_weight"], "entropy": entropy,
                "frozen": int((self.network.search.frozen >= 0).sum()),
                "probabilities": genotype.details["probabilities"],
            })  # fmt: skip

    def validate(self, logger: Logger) -> None:
        """Score the validation split; a search also writes its genotype. The last one writes predictions if asked."""
        state, config = self.state, self.config
        state.record.check(self.ranks)
        first = FirstImages(config.logger.images if self.ranks.is_main else 0)
        observers: list[Observer] = [first, self.interruption.leave_if_asked]
        if config.engine.save_predictions and state.iteration == config.engine.iterations:
            observers.append(PredictionWriter(self.run.folder / "predictions", self.tasks))
        began = time.monotonic()
        scores = Scores(
            self.tasks,
            self.ranks,
            config.evaluation,
            boundaries=self.boundaries_due(),
            borders=self.loaders.borders,
        )
        state.validation = evaluate(
            self.predict, self.ranks.alone(self.loaders.val), self.tasks, self.ranks, observers, scores, state.codebook
        )
        self.last_record = (self.last_record[0] + time.monotonic() - began, self.last_record[1])
        logger.record({"step": state.iteration, "kind": "val", **state.validation})
        if self.ranks.is_main:
            self.best.offer(state.iteration, by_task(state.validation, self.tasks)[1])
        logger.predictions(state.iteration, first.kept)
        if self.network.search is not None:
            genotype = self.network.search.genotype()
            genotype = replace(genotype, details={**genotype.details, "step": state.iteration})
            if self.ranks.is_main:
                genotypes.save(genotype, self.run.folder / genotypes.FILE_NAME)
            logger.genotype(state.iteration, genotype)

    def boundaries_due(self) -> bool:
        """Whether this validation scores boundaries: every n-th one does, and the last."""
        every = self.config.evaluation.boundary_every * self.config.engine.validate_every
        iteration, last = self.state.iteration, self.config.engine.iterations
        return iteration == last if every == 0 else due(iteration, every, last)

    def save(self) -> None:
        """Write the checkpoint, unless a loss or a weight is not finite: the one before it stays.

        Raises:
            UserError: something is not finite.
        """
        self.state.record.check(self.ranks)
        names, parameters = zip(*self.network.named_parameters(), strict=True)
        for name, finite in zip(names, torch.stack([p.isfinite().all() for p in parameters]).tolist(), strict=True):
            if not finite:
                raise UserError(
                    f"{name} is not finite at step {self.state.iteration}; lower optim.lr or search.arch_lr"
                )
        self.state.seconds = time.monotonic() - self.started
        content = self.state.state_dict(self.ranks)
        self.ranks.on_main(partial(checkpoint.save, self.run.checkpoint, content))  # no rank leaves before it is whole
        if self.ranks.is_main and self.config.engine.deterministic:
            self.run.note_start(nondeterministic=self.operations.names)

    def finish(self, logger: Logger) -> dict[str, Any]:
        """Export the weights, keep the results in W&B and write the summary, which marks the run as done."""
        self.interruption.finish_vote()
        name, weights = f"{self.config.name}-seed{self.config.seed}", self.run.folder / checkpoint.WEIGHTS
        if self.ranks.is_main:
            facts_of_run = {"name": self.config.name, "seed": str(self.config.seed), "run_id": self.run.id,
                            "iteration": str(self.state.iteration)}  # fmt: skip
            checkpoint.export(weights, self.network.state_dict(), facts_of_run)
        logger.artifact(weights, "model", f"{name}-weights")
        if (self.run.folder / genotypes.FILE_NAME).exists():
            logger.artifact(self.run.folder / genotypes.FILE_NAME, "genotype", f"{name}-genotype")
        summary = summarise(self.config, self.run, self.state, self.tasks, self.best.record())
        self.run.finish(summary)
        log.info("done: %s", self.run.folder / "summary.json")
        return summary
