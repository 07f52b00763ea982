"""Boundary maps that look like those of a trained network, for tests."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from atrc_exp.metrics.boundary import partition_to_boundary


def synthetic_pair(
    seed: int, shape: tuple[int, int] = (425, 560), regions: int = 40, shift: float = 2.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An 8-bit prediction and a ground truth, both (H, W), that look like those of a trained network.

    The truth bounds `regions` wavy cells. The prediction is a ridge around boundaries that lie about `shift`
    pixels off, of a strength that varies along them, on top of weak false ridges.
    """
    rng = np.random.default_rng(seed)

    def noise(scale: float) -> NDArray[np.float64]:
        smooth = gaussian_filter(rng.standard_normal(shape), scale, mode="wrap")
        return smooth / smooth.std()

    grid = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    wavy = grid + 6 * np.stack([noise(12), noise(12)])
    centres = rng.uniform(0, 1, (regions, 2)) * shape
    nearest = np.full(shape, np.inf)
    cells = np.zeros(shape, np.int64)
    for k, (y, x) in enumerate(centres):
        distance = (wavy[0] - y) ** 2 + (wavy[1] - x) ** 2
        cells[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
    truth = partition_to_boundary(cells)
    moved = grid + shift * np.stack([noise(15), noise(15)])
    there = map_coordinates(cells, moved, order=0, mode="nearest")
    off = distance_transform_edt(~partition_to_boundary(there))
    strength = 1 / (1 + np.exp(-1.0 - 1.5 * noise(20)))
    false = 0.25 * np.exp(-((noise(5) / 0.1) ** 2)) * (noise(25) > 0)
    response = np.maximum(strength * np.exp(-((off / 2.5) ** 2)), false) + 0.02 * np.abs(noise(1))
    return (255 * np.clip(response, 0, 1)).astype(np.uint8), truth
