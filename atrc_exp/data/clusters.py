"""Label regions that are clusters of the training labels: their centres, by k-means, as part of the configuration.

A run keeps them in its config.yaml, so that neither a resume nor an evaluation reads the training labels for them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from atrc_exp.config import Config
from atrc_exp.data.codebook import training_pixels
from atrc_exp.data.readers.sample import Data
from atrc_exp.errors import UserError

_DIGITS = 6  # kept of a centre: sums differ in later ones with the number of threads


def fit_centres(values: np.ndarray, clusters: int) -> list[list[float]]:
    """Centres of the k-means clusters of values (n, C), in the order of their first channel; a function of the values.

    Raises:
        UserError: fewer distinct values than clusters.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(values, axis=0))
    if distinct < clusters:
        raise UserError(f"the training labels hold {distinct} distinct values, fewer than the {clusters} clusters")
    fitted = KMeans(clusters, n_init=1, random_state=0).fit(values.astype(np.float64))
    return sorted([float(f"{value:.{_DIGITS}g}") for value in centre] for centre in fitted.cluster_centers_)


def with_centres(config: Config, data: Data) -> Config:
    """The configuration with the centres of those tasks of the run that have clusters, fitted where they are missing.

    Raises:
        UserError: see `fit_centres`; the message names the task.
    """
    table = dict(config.dataset.task_table)
    for name in unfitted(config):
        pixels = training_pixels(data, [name], lambda values: np.isfinite(values).all(axis=1))
        try:
            centres = fit_centres(np.concatenate(list(pixels)), table[name].clusters or 0)
        except UserError as error:
            raise UserError(f"dataset.task_table.{name}.clusters={table[name].clusters}: {error}") from None
        table[name] = replace(table[name], centres=centres)
    return replace(config, dataset=replace(config.dataset, task_table=table))


def with_centres_of(config: Config, stored: Config) -> Config:
    """The configuration with the centres that a run has kept, for as many clusters."""
    table, kept = dict(config.dataset.task_table), stored.dataset.task_table
    for name in unfitted(config):
        if name in kept and kept[name].clusters == table[name].clusters:
            table[name] = replace(table[name], centres=kept[name].centres)
    return replace(config, dataset=replace(config.dataset, task_table=table))


def unfitted(config: Config) -> Sequence[str]:
    """Tasks of the run with clusters whose centres are not given."""
    table = config.dataset.task_table
    return [name for name in config.task_names if name in table and table[name].clusters and not table[name].centres]
