"""The loss of single paths of a trained supergraph on held-out images, by which a search strategy can choose."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atrc_exp.data.batch import Batch
from atrc_exp.evaluation.evaluate import Observer, evaluate
from atrc_exp.evaluation.scores import Scores
from atrc_exp.models.distillation.atrc import Fusion
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search import Architecture
from atrc_exp.models.search.strategies.strategy import SinglePath
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import Task

STATISTICS_BATCHES = 8
"""Micro-batches of training images from which a path gets its batch statistics."""


@dataclass
class PathScorer:
    """Gives the summed loss of a path on the held-out images, as a validation would; collective.

    The batch norms behind the blocks have seen the outputs of all paths in training. Each path is therefore given
    statistics of its own before it is scored, as Guo et al. (ECCV 2020) do.
    """

    predict: Predictor
    search: Architecture
    """The supergraph inside of `predict`."""
    tasks: Sequence[Task]
    ranks: Ranks
    held_out: Iterable[Batch]
    """Batches of this rank; iterated anew for every path."""
    statistics: Sequence[Batch]
    """Training batches of this rank for the batch norms."""
    codebook: Tensor | None
    observe: Observer
    """Called for every held-out image."""
    losses: dict[SinglePath, float] = field(default_factory=dict)
    """Losses of all paths that were scored."""

    def __call__(self, path: SinglePath) -> float:
        self.take(path)
        batches, scores = self.ranks.alone(self.held_out), Scores((), self.ranks)
        result = evaluate(self.predict, batches, self.tasks, self.ranks, [self.observe], scores, self.codebook)
        self.losses[path] = result["loss"]
        return self.losses[path]

    @torch.no_grad()
    def take(self, path: SinglePath) -> None:
        """Freeze all blocks to a path, and take the mean batch statistics of the training batches behind them."""
        self.search.take(path)
        fusions = [each for each in self.search.modules() if isinstance(each, Fusion)]
        norms = [
            each
            for fusion in fusions
            for each in fusion.modules()
            if isinstance(each, nn.BatchNorm2d | nn.SyncBatchNorm)
        ]
        momenta, training = [norm.momentum for norm in norms], self.predict.training
        self.predict.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for batch in self.statistics:
            self.predict(batch.image, labels=batch.labels)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.predict.train(training)
