"""The codebook of unit normals whose nearest entry is a pixel's auxiliary class (App. A).

How the published codebooks were made is only known as "k-means"; here it is spherical k-means on the training labels.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrc_exp.config import Config
from atrc_exp.data.cache import cache_dir
from atrc_exp.data.readers.sample import Data
from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.tasks import CODEWORDS

log = logging.getLogger(__name__)
_PIXELS = 100_000  # sampled over all images; 2500 a codeword
_ITERATIONS = 200


def fit_codebook(normals: Iterable[np.ndarray], *, codewords: int = CODEWORDS) -> np.ndarray:
    """Spherical k-means: unit vectors that maximise the mean cosine between a normal and its nearest one.

    Lloyd's loop is our own, since scikit-learn's KMeans has centres inside the sphere, which moves the borders between
    clusters, and sums in an order that depends on the number of threads. Its k-means++ makes the start.

    Args:
        normals: arrays (..., 3); zero and non-finite vectors are left out, the others are normalised.

    Returns:
        (codewords, 3) float64 unit vectors.

    Raises:
        UserError: fewer distinct normals than codewords.
    """
    from sklearn.cluster import kmeans_plusplus

    points = np.concatenate(
        [np.asarray(array, dtype=np.float64).reshape(-1, 3) for array in normals] or [np.empty((0, 3))]
    )
    points = points[np.isfinite(points).all(axis=1) & points.any(axis=1)]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    distinct = len(np.unique(points, axis=0))
    if distinct < codewords:
        raise UserError(
            f"the training normals hold {distinct} distinct directions, fewer than the {codewords} codewords; "
            "give a codebook by dataset.codebook"
        )
    centres, _ = kmeans_plusplus(points, codewords, random_state=0)
    previous = np.empty(0)
    for _ in range(_ITERATIONS):
        cosines = points @ centres.T
        nearest = cosines.argmax(axis=1)
        if np.array_equal(nearest, previous):
            break
        previous = nearest
        centres = _means(points, nearest, cosines.max(axis=1), codewords)
    return centres


def codebook_for(config: Config, data: Data) -> Tensor:
    """The codebook (40, 3) float32 of a run: the given file, or fitted on the training labels and cached.

    All tasks whose label regions are codewords share it.

    The fit does not depend on the run's seed. In a distributed run rank 0 calls this and hands the result on.

    Raises:
        UserError: a given file that is no codebook.
    """
    if config.dataset.codebook is not None:
        return torch.from_numpy(_given(Path(config.dataset.codebook).expanduser())).float()
    rows = config.dataset.rows
    tasks = [task for task in config.task_names if rows[task].kind.coded]
    path = cache_dir(config.dataset) / f"{'-'.join(tasks)}-{CODEWORDS}-{data.info.fingerprint}.npy"
    try:
        codebook = _given(path)
    except UserError:  # not there, or not whole
        codebook = fit_codebook(training_pixels(data, tasks, lambda normals: np.asarray(normals.any(axis=1))))
        _keep(codebook, path)
    return torch.from_numpy(codebook).float()


def _means(points: np.ndarray, nearest: np.ndarray, cosine: np.ndarray, codewords: int) -> np.ndarray:
    """Unit means (codewords, 3) of the clusters; an empty one restarts at the point worst represented."""
    sums = np.stack([np.bincount(nearest, weights=axis, minlength=codewords) for axis in points.T], axis=1)
    lengths = np.linalg.norm(sums, axis=1)
    empty = np.flatnonzero(lengths < 1e-9)
    sums[empty] = points[np.argsort(cosine, kind="stable")[: len(empty)]]
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def training_pixels(
    data: Data, tasks: Sequence[str], valid: Callable[[np.ndarray], np.ndarray]
) -> Iterable[np.ndarray]:
    """Random pixels (n, C) of every training image and task, equally many of each, 100,000 in all.

    Args:
        valid: tells which pixels (n, C) have a label.
    """
    draw = np.random.default_rng(0)
    share = -(-_PIXELS // len(data.train))
    for index in range(len(data.train)):
        for label in data.train.load(index, tasks).labels.values():
            pixels = label.reshape(label.shape[0] * label.shape[1], -1)
            labelled = np.flatnonzero(valid(pixels))
            yield pixels[draw.choice(labelled, min(share, len(labelled)), replace=False)]


def _given(path: Path) -> np.ndarray:
    rule = f"must be a .npy file of {CODEWORDS} x 3 unit vectors; null fits one on the training labels"
    try:
        codebook = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"dataset.codebook={path}: cannot be read ({error}); {rule}") from error
    if not isinstance(codebook, np.ndarray) or codebook.shape != (CODEWORDS, 3) or codebook.dtype.kind != "f":
        found = f"{codebook.dtype} {codebook.shape}" if isinstance(codebook, np.ndarray) else "no single array"
        raise UserError(f"dataset.codebook={path}: holds {found}; {rule}")
    if not np.all(np.abs(np.linalg.norm(codebook, axis=1) - 1) <= 1e-3):  # false for NaN, too
        raise UserError(f"dataset.codebook={path}: holds vectors that are not of length 1 within 0.001; {rule}")
    return codebook.astype(np.float64)


def _keep(codebook: np.ndarray, path: Path) -> None:
    try:
        with replacing(path) as temporary:
            np.save(temporary, codebook)
    except OSError as error:
        log.warning("The normals codebook is not kept in %s (%s); the next run fits it again", path.parent, error)
