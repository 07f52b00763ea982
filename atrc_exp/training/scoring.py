"""The loss of single paths of a trained supergraph on held-out images, by which a search strategy can choose."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from atrc_exp.evaluation.evaluate import Observer, evaluate
from atrc_exp.evaluation.scores import Scores
from atrc_exp.models.search import SearchATRC
from atrc_exp.models.search.strategies.strategy import Path
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import Task
from atrc_exp.training.step import Batch, Predictor

STATISTICS_BATCHES = 8
"""Micro-batches of training images from which a path gets its batch statistics."""


class PathScorer:
    """Called with a path, gives its summed loss on the held-out images, as a validation would; collective.

    The batch norms behind the blocks have seen the outputs of all paths in training. Each path is therefore given
    statistics of its own before it is scored, as Guo et al. (ECCV 2020) do.

    Attributes:
        losses: of all paths that were scored.

    Args:
        predict: with the trained network, whose distillation module is `search`.
        held_out: this rank's batches; iterated anew for every path.
        statistics: this rank's training batches for the batch norms.
        observe: called for every held-out image.
    """

    def __init__(
        self,
        predict: Predictor,
        search: SearchATRC,
        tasks: Sequence[Task],
        ranks: Ranks,
        held_out: Iterable[Batch],
        statistics: Sequence[Batch],
        codebook: Tensor | None,
        observe: Observer,
    ) -> None:
        self.predict, self.search, self.tasks, self.ranks = predict, search, tasks, ranks
        self.held_out, self.statistics, self.codebook, self.observe = held_out, statistics, codebook, observe
        self.losses: dict[Path, float] = {}

    def __call__(self, path: Path) -> float:
        self.take(path)
        batches, scores = self.ranks.alone(self.held_out), Scores((), self.ranks)
        result = evaluate(self.predict, batches, self.tasks, self.ranks, [self.observe], scores, self.codebook)
        self.losses[path] = result["loss"]
        return self.losses[path]

    @torch.no_grad()
    def take(self, path: Path) -> None:
        """Freeze all blocks to a path, and take the mean batch statistics of the training batches behind them."""
        self.search.frozen.copy_(torch.tensor(path))
        norms = [each for each in self.search.fusions.modules() if isinstance(each, nn.BatchNorm2d | nn.SyncBatchNorm)]
        momenta, training = [norm.momentum for norm in norms], self.predict.training
        self.predict.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for batch in self.statistics:
            self.predict(batch["image"], labels=batch["labels"])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.predict.train(training)
