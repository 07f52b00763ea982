"""CPU time of the boundary score, next to that of pyEdgeEval where an environment for it is given.

    python benchmarks/boundary.py --images 20 --peer DIR

makes a virtual environment in DIR if there is none, installs pyEdgeEval into it, and scores the same synthetic maps of
425 x 560 by the same protocol (bsds after non-maximum suppression: 99 thresholds, >=, thinning) on one thread with
both, image by image in turn. `--worst` times maps that are hard to match instead: noise and checkerboards. Prints one
JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from atrc_exp.metrics.boundary import PROTOCOLS, count, nms, score
from atrc_exp.metrics.boundary.kernels.thinning import thin

REPOSITORY = Path(__file__).resolve().parents[1]
PEER = (
    "pyEdgeEval==0.2.8", "numpy<2", "scipy<1.15", "scikit-image", "opencv-python-headless", "matplotlib", "prettytable"
)  # fmt: skip
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SCORE_ONE = """
import json, sys, time
import numpy as np
from pyEdgeEval.common.binary_label.evaluate_boundaries import evaluate_boundaries_threshold
thresholds = np.array([i / 100 for i in range(1, 100)])
for line in sys.stdin:
    path = line.strip()
    maps = np.load(path)
    begin = time.process_time()
    found = evaluate_boundaries_threshold(thresholds, maps["prediction"], maps["truth"], float(maps["max_dist"]))
    seconds = time.process_time() - begin
    print(json.dumps({"seconds": seconds, "counts": [np.asarray(c).tolist() for c in found]}), flush=True)
"""


def peer_python(folder: Path) -> Path:
    """The interpreter of the peer's environment, made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True)
    return python


def worst_cases(shape: tuple[int, int], max_dist: float) -> dict[str, dict[str, float]]:
    """CPU seconds of dense maps by protocol."""
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    y, x = np.indices(shape)
    cases = {
        f"noise, {share:.0%}": (noise, np.random.default_rng(1).random(shape) < share)
        for share in (0.05, 0.15, 0.4, 0.5, 0.7)
    }
    for side in (1, 2):
        board = (y // side + x // side) % 2 == 1
        cases[f"checkerboard of {side}x{side}"] = (255 * board.astype(np.uint8), ~board)
    seconds: dict[str, dict[str, float]] = {}
    for name, (prediction, truth) in cases.items():
        for protocol in PROTOCOLS:
            begin = time.process_time()
            count(prediction, truth, max_dist=max_dist, protocol=protocol)
            seconds.setdefault(name, {})[protocol] = round(time.process_time() - begin, 2)
    return seconds


def main() -> None:
    """Print one JSON object; progress goes to the error output."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from small_boundaries import synthetic_pair

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--peer", type=Path, metavar="DIR", help="environment of pyEdgeEval; without it ours alone")
    parser.add_argument("--shape", type=int, nargs=2, default=(425, 560), metavar=("H", "W"))
    parser.add_argument("--max-dist", type=float, default=0.011)
    parser.add_argument("--worst", action="store_true", help="time maps that are hard to match instead")
    arguments = parser.parse_args()
    if arguments.images < 1:
        parser.error(f"--images {arguments.images}: must be >= 1")
    max_dist, shape = arguments.max_dist, tuple(arguments.shape)

    count(*synthetic_pair(0, (40, 50)), max_dist=0.02)  # loads the compiled code
    if arguments.worst:
        print(json.dumps({"shape": shape, "max_dist": max_dist, "seconds": worst_cases(shape, max_dist)}, indent=2))
        return
    peer = None
    if arguments.peer is not None:
        command = [peer_python(arguments.peer), "-c", SCORE_ONE]
        peer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        )
    ours, theirs, lost, published, seism = [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.images):
            prediction, truth = synthetic_pair(seed, shape)
            truth = thin(truth)
            begin = time.process_time()
            seism.append(count(prediction, truth, max_dist=max_dist))
            published.append(time.process_time() - begin)
            suppressed = nms(prediction / np.float32(255)).astype(np.float64)
            begin = time.process_time()
            counts = count(suppressed, truth, max_dist=max_dist, protocol=replace(PROTOCOLS["bsds"], quantize=False))
            ours.append(time.process_time() - begin)
            if peer is None:
                continue
            path = Path(folder) / "maps.npz"
            np.savez(path, prediction=suppressed, truth=truth, max_dist=max_dist)
            print(path, file=peer.stdin, flush=True)
            found = json.loads(next(line for line in peer.stdout if line.startswith("{")))  # it warns there, too
            theirs.append(found["seconds"])
            lost.append((counts.matched - np.array(found["counts"][0], int)).tolist())
            print(f"{seed + 1}/{arguments.images}: {ours[-1]:.3f} s, {theirs[-1]:.1f} s", file=sys.stderr, flush=True)
    if peer is not None:
        peer.stdin.close()
        peer.wait()
    result = {
        "images": arguments.images,
        "shape": shape,
        "max_dist": max_dist,
        "load_average": round(os.getloadavg()[0], 2),
        "seism_seconds": round(statistics.mean(published), 4),
        "bsds_seconds": round(statistics.mean(ours), 4),
        "odsF_seism": score(seism).odsF,
    }
    if theirs:
        result |= {
            "peer_seconds": round(statistics.mean(theirs), 2),
            "ratio": round(statistics.mean(theirs) / statistics.mean(ours), 1),
            "pairs_lost_by_the_peer": {
                "least": int(np.min(lost)),
                "mean": float(np.mean(lost)),
                "most": int(np.max(lost)),
            },
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
