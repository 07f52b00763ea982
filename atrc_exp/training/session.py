"""What the training of a network and the search of a branching do in the same way: resume, log, validate and save."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.data.readers.sample import Truth
from atrc_exp.errors import UserError
from atrc_exp.evaluation.evaluate import FirstImages, ImageResult, Observer, PredictionWriter, evaluate
from atrc_exp.evaluation.scores import Scores
from atrc_exp.losses import MultiTaskLoss
from atrc_exp.normalisation import Normalisation
from atrc_exp.ops import forms_that_ran
from atrc_exp.processes.determinism import NondeterministicOperations
from atrc_exp.processes.interrupt import Interruption
from atrc_exp.processes.memory import peak_mib
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.runs.best import BestCheckpoints
from atrc_exp.runs.files import PREDICTIONS, SUMMARY
from atrc_exp.runs.folder import Run
from atrc_exp.runs.logging import Logger
from atrc_exp.tasks import Task
from atrc_exp.training import memory
from atrc_exp.training.record import LossRecord
from atrc_exp.training.setup import facts, use_determinism
from atrc_exp.training.summary import Progress, by_task, summarise
from atrc_exp.words import counted

log = logging.getLogger(__name__)


class State(Progress, Protocol):
    """What a resume needs: `TrainState` or `BranchState`."""

    record: LossRecord
    codebook: Tensor | None

    def state_dict(self, ranks: Ranks) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], ranks: Ranks) -> None: ...


class Session(ABC):
    """The objects of one run in this process; a subclass builds what it trains from `restored`, and calls `resume`.

    Args:
        val: validation images of this rank; iterated anew at every validation.
        truth: `Data.truth`: what can be scored against instead of labels.
    """

    state: State
    predict: nn.Module
    """From a batch of images to an `Output`."""
    losses: MultiTaskLoss
    rates: ClassVar[str]
    """Keys of the learning rates, for messages."""

    def __init__(
        self,
        config: Config,
        run: Run,
        ranks: Ranks,
        tasks: Sequence[Task],
        val: Iterable[Batch],
        truth: Truth,
    ) -> None:
        self.config, self.run, self.ranks, self.tasks, self.val, self.truth = config, run, ranks, tasks, val, truth
        use_determinism(config.engine.deterministic)
        self.best = BestCheckpoints(run.checkpoint.parent, config.engine.keep_best)
        self.interruption = Interruption(ranks)
        self.operations = NondeterministicOperations()
        self.forms: list[str] = []
        forms_that_ran.clear()  # another run of this process may have used others

    def restored(self) -> dict[str, Any] | None:
        """Content of the run's latest checkpoint that is whole, None where there is none."""
        last = self.ranks.on_main(partial(checkpoint.restore, self.run.checkpoint.parent))
        return checkpoint.load(last) if last else None

    def resume(self, saved: dict[str, Any] | None) -> None:
        """Set the random states, and the state as it was saved; the clocks start here."""
        checkpoint.seed_all(self.config.seed + self.ranks.rank)  # dropout and drawn paths differ between ranks
        if saved:
            self.state.load_state_dict(saved, self.ranks)
        self.started = time.monotonic() - self.state.seconds
        self.last_record = (time.monotonic(), self.state.iteration)

    @abstractmethod
    def due(self, every: int) -> bool:
        """Whether something done every so many iterations, and after the last one, is due now."""

    def facts(self) -> dict[str, Any]:
        """Derived numbers worth a look before a long run."""
        return facts(self.config, self.ranks, self.state.network)

    @abstractmethod
    def keep_architecture(self, logger: Logger) -> None:
        """Write what is searched for, as it stands at a validation."""

    @abstractmethod
    def keep_results(self, logger: Logger) -> None:
        """Write what a finished run leaves beside its summary."""

    @contextmanager
    def begin(self) -> Iterator[Logger]:
        """Open the logger of a training.

        Inside, a signal waits until the run asks for it, and a rank that has died is reported in one message.
        """
        config, state = self.config, self.state
        logger = Logger(
            config, self.run.folder, self.run.id, self.tasks, iteration=state.iteration, is_main=self.ranks.is_main
        )
        anomaly = torch.autograd.set_detect_anomaly(config.debug.anomaly)
        with self.interruption, logger, self.ranks.together(), self.operations, anomaly:
            log.info("run folder: %s", self.run.folder)
            for name, fact in self.facts().items():
                log.info("%s: %s", name, fact)
            if state.iteration:
                log.info("resumed after %s", counted(state.iteration, "iteration"))
                if self.due(config.engine.validate_every):
                    self.validate(logger)  # the checkpoint is from before it
            yield logger

    def log_losses(self, logger: Logger, **numbers: float) -> dict[str, float]:
        """Write the mean losses since the last record, and other `numbers`; returns the means of all terms."""
        state = self.state
        state.record.check(self.ranks)
        self.note_forms(logger)
        terms = state.record.read(self.ranks)
        losses = {name: terms[name] for name in self.losses.weights}
        now, (then, since) = time.monotonic(), self.last_record
        self.last_record = (now, state.iteration)
        logger.record({
            "step": state.iteration, "kind": "train",
            "loss": sum(self.losses.weights[name] * loss for name, loss in losses.items()), **losses, **numbers,
            "seconds_per_step": (now - then) / (state.iteration - since),
            "memory_mib": peak_mib(self.ranks.device),
        })  # fmt: skip
        return terms

    def note_forms(self, logger: Logger) -> None:
        """Record the forms of local attention that have run, when another has: one may be ten times as slow."""
        forms = sorted(forms_that_ran)
        if forms != self.forms and self.ranks.is_main:
            self.run.note_start(local_attention=forms)
            logger.note(local_attention=forms)
        self.forms = forms

    def validate(self, logger: Logger) -> None:
        """Score the validation split and write the architecture. The last one writes predictions if asked."""
        state, config = self.state, self.config
        state.record.check(self.ranks)
        first = FirstImages(config.logger.images if self.ranks.is_main else 0)
        observers: list[Observer] = [first, self.interruption.leave_if_asked]
        if config.engine.save_predictions and state.iteration == config.engine.iterations:
            observers.append(PredictionWriter(self.run.folder / PREDICTIONS, self.tasks))
        began = time.monotonic()
        scores = Scores(self.tasks, self.ranks, config.evaluation, boundaries=self.boundaries_due(), truth=self.truth)
        state.validation = evaluate(
            self.predict, self.ranks.alone(self.val), self.tasks, self.ranks, observers, scores, state.codebook
        )
        self.last_record = (self.last_record[0] + time.monotonic() - began, self.last_record[1])
        logger.record({"step": state.iteration, "kind": "val", **state.validation})
        if self.ranks.is_main:
            self.best.offer(state.iteration, by_task(state.validation, self.tasks)[1])
        for number, result in enumerate(first.kept, start=1):
            draw = partial(_picture, result, self.tasks, self.run.normalisation)
            logger.image(state.iteration, f"predictions/{number}", draw, caption=result.id)
        self.keep_architecture(logger)

    def boundaries_due(self) -> bool:
        """Whether this validation scores boundaries: every n-th one does, and the last."""
        every = self.config.evaluation.boundary_every * self.config.engine.validate_every
        return self.due(every) if every else self.state.iteration == self.config.engine.iterations

    def check_memory(self, needed: Callable[[], int]) -> None:
        """Refuse to start on a CPU where the bytes of a step exceed what is free, unless the check is switched off."""
        if self.config.engine.memory_check and self.ranks.device.type == "cpu":
            self.ranks.on_main(partial(memory.require, needed(), self.config))

    def save(self) -> None:
        """Write the checkpoint, unless a loss or a weight is not finite: the one before it stays.

        Raises:
            UserError: something is not finite.
        """
        self.state.record.check(self.ranks)
        names, parameters = zip(*self.state.network.named_parameters(), strict=True)
        for name, finite in zip(names, torch.stack([p.isfinite().all() for p in parameters]).tolist(), strict=True):
            if not finite:
                raise UserError(f"{name} is not finite at step {self.state.iteration}; lower {self.rates}")
        self.state.seconds = time.monotonic() - self.started
        content = self.state.state_dict(self.ranks)
        self.ranks.on_main(partial(checkpoint.save, self.run.checkpoint, content))  # no rank leaves before it is whole
        if self.ranks.is_main and self.config.engine.deterministic:
            self.run.note_start(nondeterministic=self.operations.names)

    def finish(self, logger: Logger) -> dict[str, Any]:
        """Keep the results and write the summary, which marks the run as done."""
        self.interruption.finish_vote()
        self.keep_results(logger)
        summary = summarise(self.config, self.run, self.state, self.tasks, self.best.record())
        self.run.finish(summary)
        log.info("done: %s", self.run.folder / SUMMARY)
        return summary


def _picture(result: ImageResult, tasks: Sequence[Task], normalisation: Normalisation) -> np.ndarray:
    """Labels and predictions of a validation image (H, W, 3)."""
    from atrc_exp.evaluation.panels import panel, rendered  # matplotlib

    return rendered(panel(normalisation.undone(result.image), result.labels, result.predictions, tasks))
