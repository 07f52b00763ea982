"""`stage=branch`: search which tasks share which layers of the encoder; writes branching.json and the tree."""

import logging
import sys
from dataclasses import replace

import torch

from atrc_exp.bmtas import tree as branchings
from atrc_exp.bmtas.loop import BranchLoaders, search_branching
from atrc_exp.bmtas.state import BranchSchedule
from atrc_exp.bmtas.supergraph import build_branch_search
from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.loader import check_batch, val_loader
from atrc_exp.data.readers.parts import divide
from atrc_exp.runs.files import SUMMARY
from atrc_exp.runs.folder import Run
from atrc_exp.stages.common import batches, keep_codebook, open_data, processes

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Search to the end, from the run's checkpoint where there is one; say so where the run is done.

    Raises:
        UserError: the user has to put something right first.
    """
    with processes(config) as ranks:
        data = open_data(config, ranks)
        arch, weights = divide(data.train, config.branching.arch_share, config.seed)
        for part in (arch, weights):
            check_batch(config, len(part), ranks.world)
        schedule = BranchSchedule(config, *(len(part) // config.engine.batch_size for part in (weights, arch)))
        tasks = build_tasks_of(config)
        torch.manual_seed(config.seed)  # initial weights; the same on every rank
        network = build_branch_search(config, tasks)  # before the run's folder: what fails here leaves none
        with Run.open(config, ranks, data.info, overrides=sys.argv[1:]) as folder:
            if folder.done:
                log.info("done already: %s", folder.folder / SUMMARY)
                return
            folder.keep_backbone(network.encoder.provenance, network.encoder.normalisation)
            data = replace(data, normalisation=folder.normalisation)
            loaders = BranchLoaders(
                batches(replace(data, train=weights), config, ranks, config.engine.iterations),
                batches(replace(data, train=arch), config, ranks, schedule.arch_iterations),
                val_loader(data, config, rank=ranks.rank, world=ranks.world, device=ranks.device),
                data.truth,
            )
            coded = any(task.kind.coded and task.is_classification for task in tasks)
            codebook = keep_codebook(config, folder, ranks, data) if coded else None
            search_branching(config, folder, ranks, network, tasks, schedule, loaders, codebook)
            if ranks.is_main:
                _draw(folder)


def _draw(run: Run) -> None:
    from atrc_exp.bmtas.figure import FIGURE, save

    save(branchings.load(run.folder), run.folder / FIGURE)
