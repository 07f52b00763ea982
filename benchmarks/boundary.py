"""Times of the boundary scores on synthetic maps: `python -m atrc_exp.metrics.boundary_benchmark`."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from atrc_exp.metrics import boundary_fallback, boundary_kernels
from atrc_exp.metrics.boundary import (
    PROTOCOLS,
    Backend,
    ImageCounts,
    count,
    evaluate,
    nms,
    partition_to_boundary,
    score,
)


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


def _median(function: Callable[..., Any], items: list[tuple]) -> float:
    """Median milliseconds of `function(*item)`."""
    times = []
    for item in items:
        begin = time.perf_counter()
        function(*item)
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 1)


def _stages(pairs: list[tuple], max_dist: float, protocol: str, backend: Backend) -> dict[str, float]:
    """Median milliseconds an image: all thresholds by maximum matching, then the exact scores."""
    counts: list[tuple[ImageCounts]] = []

    def counted(prediction: NDArray, truth: NDArray) -> None:
        counts.append((count(prediction, truth, max_dist=max_dist, protocol=protocol, backend=backend),))

    return {
        "count": _median(counted, pairs),
        "exact": _median(lambda c: score([c], backend=backend, workers=1), counts),
    }


def main() -> None:
    """Print one JSON object; progress goes nowhere, so that the output can be piped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24, help="images of the whole evaluation")
    parser.add_argument("--compared", type=int, default=3, help="images for SciPy, which is slow")
    parser.add_argument("--distinct", type=int, default=12, help="different images, repeated up to --images")
    parser.add_argument("--shape", type=int, nargs=2, default=(425, 560), metavar=("H", "W"))
    parser.add_argument("--max-dist", type=float, default=0.011)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="seism")
    arguments = parser.parse_args()
    for name in ("images", "compared", "distinct"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: must be >= 1")
    max_dist, protocol = arguments.max_dist, arguments.protocol

    distinct = [synthetic_pair(seed, tuple(arguments.shape)) for seed in range(arguments.distinct)]
    few = distinct[: arguments.compared]
    result: dict[str, Any] = {"arguments": vars(arguments), "cores": len(os.sched_getaffinity(0))}
    result["ms_an_image"] = {
        "nms": _median(lambda p, t: nms(p / np.float32(255)), distinct),
        "thin_truth_numba": _median(lambda p, t: boundary_kernels.thin(t), distinct),
        "thin_truth_scipy": _median(lambda p, t: boundary_fallback.thin(t), few),
        "numba": _stages(distinct, max_dist, protocol, "numba"),
        "scipy": _stages(few, max_dist, protocol, "scipy"),
    }
    begin, cpu = time.perf_counter(), time.process_time()
    scores = evaluate(
        *zip(*(distinct[i % len(distinct)] for i in range(arguments.images)), strict=True),
        max_dist=max_dist,
        protocol=protocol,
        workers=arguments.workers,
        keep_curve=False,
    )
    result["evaluate"] = {
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "load_average": round(os.getloadavg()[0], 2),
        "scores": scores.as_dict(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
