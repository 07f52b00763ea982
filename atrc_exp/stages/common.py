"""What several stages derive from the configuration in the same way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.config.derived import genotype_of
from atrc_exp.data.batch import Batch
from atrc_exp.data.codebook import codebook_for
from atrc_exp.data.loader import Data, build_datasets, train_loader
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, replacing
from atrc_exp.models import build_network
from atrc_exp.models.predictor import Predictor
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.processes.ranks import Ranks
from atrc_exp.rooms.on_demand import make_rooms
from atrc_exp.runs import checkpoint
from atrc_exp.runs.configurations import checkpoint_file, run_folder
from atrc_exp.runs.files import CODEBOOK, ENVIRONMENT
from atrc_exp.runs.folder import Run
from atrc_exp.runs.logging.console import show_messages
from atrc_exp.tasks import CODEWORDS, Task
from atrc_exp.training.setup import place_network
from atrc_exp.training.state import load_network


@contextmanager
def processes(config: Config) -> Iterator[Ranks]:
    """Join the processes of a run, and leave their group at the end. Only the first one shows messages."""
    ranks = Ranks.start(config.engine.device)
    show_messages(ranks.is_main)
    try:
        yield ranks
    finally:
        ranks.close()


def batches(data: Data, config: Config, ranks: Ranks, iterations: int) -> Callable[[int], Iterable[Batch]]:
    """Make the function that yields this rank's training batches from a given iteration on."""

    def start(first: int) -> Iterable[Batch]:
        return train_loader(
            data,
            config,
            start_iteration=first,
            iterations=iterations,
            rank=ranks.rank,
            world=ranks.world,
            device=ranks.device,
        )

    return start


def open_data(config: Config, ranks: Ranks, normalisation: Normalisation = IMAGENET) -> Data:
    """Open both splits on every rank; rank 0 goes first, since it makes rooms and packed files that are missing."""
    opened = ranks.on_main(partial(_open, config))
    return replace(opened if ranks.is_main else _open(config), normalisation=normalisation)


def _open(config: Config) -> Data:
    if config.dataset.procedural:
        make_rooms(config)
    return build_datasets(config)


def keep_codebook(config: Config, run: Run, ranks: Ranks, data: Data) -> Tensor:
    """Return the codewords (40, 3) of the normals' label regions. Rank 0 fits them and keeps a copy in the run."""
    codebook = ranks.on_main(lambda: codebook_for(config, data))
    if ranks.is_main:
        assert codebook.shape == (CODEWORDS, 3)
        with replacing(run.folder / CODEBOOK) as temporary:
            np.save(temporary, codebook.numpy())
    return codebook


@dataclass(frozen=True)
class TrainedRun:
    """The network of a run as its checkpoint left it."""

    folder: Path
    checkpoint: Path
    iteration: int
    dataset: dict[str, Any]
    """The dataset's record (`DatasetInfo.as_dict`)."""
    predict: Predictor
    codebook: Tensor | None
    """Unit normals (40, 3) that the run was trained with, where it needed them."""
    normalisation: Normalisation
    """Normalisation of the images that the run was trained on."""


def load_run(config: Config, ranks: Ranks, tasks: tuple[Task, ...]) -> TrainedRun:
    """Build the network of the run that `config` comes from (`with_stored`) and load its checkpoint.

    Raises:
        UserError: the checkpoint is damaged or does not fit.
    """
    folder, file = run_folder(config), checkpoint_file(config)
    path = folder / ENVIRONMENT
    if not path.is_file():
        raise UserError(f"{path} is missing; keep the checkpoint in its run folder")
    environment = read_json(path)
    saved = checkpoint.load(file)
    network = build_network(config, tasks, genotype_of(config))
    load_network(network, saved)
    codebook = saved["codebook"]
    predict = Predictor(place_network(network, config, ranks), config, codebook).to(ranks.device).eval()
    return TrainedRun(
        folder, file, int(saved["iteration"]), environment["dataset"], predict, codebook,
        Normalisation.of_run(environment),
    )  # fmt: skip
