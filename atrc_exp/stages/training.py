"""`stage=search` and `stage=retrain`: open the data and the run folder, build the network, train, write.

A search and the training of a fixed network differ in the network (`distillation`) and in what the loop does for the
architecture; here they are one.
"""

import logging
import sys
from collections.abc import Iterable
from dataclasses import replace

import torch

from atrc_exp.bmtas import tree as branchings
from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of, genotype_of
from atrc_exp.data.batch import Batch
from atrc_exp.data.clusters import unfitted, with_centres, with_centres_of
from atrc_exp.data.loader import Data, check_batch, val_loader
from atrc_exp.data.readers.parts import divide
from atrc_exp.data.readers.sample import Source
from atrc_exp.errors import UserError
from atrc_exp.models import build_network
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.models.search.strategies.strategy import Strategy
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.configurations import has_begun, read_network_config, training_folder
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.folder import Run
from atrc_exp.stages.common import batches, keep_codebook, open_data, processes
from atrc_exp.training.balance import build_balance
from atrc_exp.training.initial import initialise, report
from atrc_exp.training.loop import Loaders, train

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Train to the end, from the run's checkpoint where there is one; say so where the run is done.

    Raises:
        UserError: the user has to put something right first.
    """
    with processes(config) as ranks:
        build_balance(config.balance, config.task_names, ranks.device)  # a missing package ends the command at once
        data = open_data(config, ranks)
        check_batch(config, len(data.train), ranks.world)
        config = _with_clusters(config, ranks, data)
        tasks, genotype = build_tasks_of(config), genotype_of(config)
        torch.manual_seed(config.seed)  # initial weights; the same on every rank
        network = build_network(_without_download(config), tasks, genotype)  # what fails before the folder leaves none
        strategy = build_strategy(config, network)
        training, held_out = _divided(config, data.train, strategy, ranks.world)
        initial = initialise(network, config.init) if config.init and not has_begun(config) else None
        with Run.open(config, ranks, data.info, overrides=sys.argv[1:]) as folder:
            if folder.done:
                log.info("done already: %s", folder.folder / SUMMARY)
                return
            if initial is not None:
                folder.keep_init(initial)
                report(initial)
            if genotype is not None:
                folder.keep_genotype(genotype)
            if config.branching.file is not None:
                folder.keep_branching(branchings.load(config.branching.file))
            folder.keep_backbone(network.backbone.provenance, network.backbone.normalisation)
            data = replace(data, normalisation=folder.normalisation)
            coded = (*network.label_tasks, *(task for task in tasks if task.is_classification))
            needs_codebook = any(task.kind.coded for task in coded)
            codebook = keep_codebook(config, folder, ranks, data) if needs_codebook else None
            iterations = config.engine.iterations
            apart = replace(data, train=held_out, val=held_out) if held_out is not None else None
            loaders = Loaders(
                batches(replace(data, train=training), config, ranks, iterations),
                _in_turn(data, config, ranks),
                _in_turn(apart, config, ranks) if apart else (),
                batches(apart, config, ranks, iterations) if apart and config.search.bilevel else None,
                data.truth,
            )
            train(config, folder, ranks, network, strategy, tasks, loaders, codebook)


def _with_clusters(config: Config, ranks: Ranks, data: Data) -> Config:
    """The configuration with the centres of clusters: those of the run where it has begun, else fitted by rank 0."""
    if not unfitted(config):
        return config
    if has_begun(config):
        config = with_centres_of(config, read_network_config(training_folder(config)))
    return ranks.on_main(lambda: with_centres(config, data))


def _without_download(config: Config) -> Config:
    """The configuration with a random backbone where `init` replaces all of it."""
    return config if config.init is None else replace(config, backbone=replace(config.backbone, weights="random"))


def _divided(config: Config, images: Source, strategy: Strategy | None, world: int) -> tuple[Source, Source | None]:
    """The images that train, and those that are held out for a choice by them or for the logits.

    They are training images, since results are reported on the validation split.

    Raises:
        UserError: nothing would be left of one of them, or less than a batch of one that trains.
    """
    if strategy is None or not (strategy.chooses or config.search.bilevel):
        return images, None
    share = config.search.held_out
    try:
        held_out, training = divide(images, share, config.seed)
    except UserError as error:
        raise UserError(f"search.held_out={share}: {error}; give another share") from None
    check_batch(config, len(training), world)
    if config.search.bilevel:
        check_batch(config, len(held_out), world, f"images that search.held_out={share} keeps")
    return training, held_out


def _in_turn(data: Data, config: Config, ranks: Ranks) -> Iterable[Batch]:
    """Images of the validation split, each once."""
    return val_loader(data, config, rank=ranks.rank, world=ranks.world, device=ranks.device)
