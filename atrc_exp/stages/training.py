"""`stage=search` and `stage=retrain`: open the data and the run folder, build the network, train, write.

A search and the training of a fixed network differ in the network (`distillation`) and in what the loop does for the
architecture; here they are one.
"""

import logging
import sys
from dataclasses import replace

import torch

from atrc_exp.bmtas import tree as branchings
from atrc_exp.config import Config
from atrc_exp.data.loader import Data, check_batch, val_loader
from atrc_exp.models import build_network
from atrc_exp.models.network import Network
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.configurations import has_begun
from atrc_exp.runs.folder import Run
from atrc_exp.stages.common import batches, build_tasks_of, genotype_of, keep_codebook, open_data, processes
from atrc_exp.tasks import Task
from atrc_exp.training.initial import initialise, report
from atrc_exp.training.loop import Loaders, train

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Train to the end, from the run's checkpoint where there is one; say so where the run is done.

    Raises:
        UserError: what the user has to put right first.
    """
    with processes(config) as ranks:
        data = open_data(config, ranks)
        check_batch(config, len(data.train), ranks.world)
        tasks, genotype = build_tasks_of(config), genotype_of(config)
        torch.manual_seed(config.seed)  # initial weights; the same on every rank
        network = build_network(_without_download(config), tasks, genotype)  # what fails before the folder leaves none
        initial = initialise(network, config.init) if config.init and not has_begun(config) else None
        with Run.open(config, ranks, data.info, overrides=sys.argv[1:]) as folder:
            if folder.done:
                log.info("done already: %s", folder.folder / "summary.json")
                return
            if initial is not None:
                folder.keep_init(initial)
                report(initial)
            if genotype is not None:
                folder.keep_genotype(genotype)
            if config.branching.file is not None:
                folder.keep_branching(branchings.load(config.branching.file))
            folder.keep_backbone(network.backbone.provenance, network.backbone.normalisation)
            _train(config, folder, ranks, replace(data, normalisation=folder.normalisation), network, tasks)


def _without_download(config: Config) -> Config:
    """The configuration with a random backbone where `init` replaces all of it."""
    return config if config.init is None else replace(config, backbone=replace(config.backbone, weights="random"))


def _train(config: Config, run: Run, ranks: Ranks, data: Data, network: Network, tasks: tuple[Task, ...]) -> None:
    coded = (*network.label_tasks, *(task for task in tasks if task.is_classification))
    needs_codebook = any(task.kind.coded for task in coded)
    codebook = keep_codebook(config, run, ranks, data) if needs_codebook else None
    validation = val_loader(data, config, rank=ranks.rank, world=ranks.world, device=ranks.device)
    loaders = Loaders(batches(data, config, ranks, config.engine.iterations), validation, data.truth)
    train(config, run, ranks, network, tasks, loaders, codebook)
