"""Two gloo processes against one: the same losses and weights at the same global batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch

from atrc_exp.engine import checkpoint
from atrc_exp.engine.distributed import Ranks
from atrc_exp.errors import UserError
from atrc_exp.logging.jsonl import read

HERE = Path(__file__).parent


def start_two(*arguments: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                   "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "rank_of_two.py"), *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def wait(processes: list[subprocess.Popen]) -> None:
    try:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()


def test_collectives_of_two_ranks() -> None:
    wait(start_two("collectives"))


@pytest.mark.slow
def test_boundary_scores_of_two_ranks_are_those_of_all_images() -> None:
    wait(start_two("boundaries"))


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    """Float64, batch statistics held, no dropout: 1e-9, with a block freezing on the way; then a NaN on one rank."""
    torch.set_num_threads(1)
    wait(start_two("training", str(tmp_path / "two")))
    for kind in ("search", "atrc"):
        tiny.run_training(tiny.exact_config(tmp_path / "one", kind), hold_bn=True, dtype=torch.float64)
    for kind in ("search", "atrc"):
        one, two = (tiny.folder(tiny.exact_config(tmp_path / name, kind)) for name in ("one", "two"))
        compare_records(read(one / "metrics.jsonl"), read(two / "metrics.jsonl"))
        weights = [checkpoint.load(where / "checkpoints" / "last.pt")["network"] for where in (one, two)]
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-9)
    frozen = [record["frozen"] for record in read(two.parents[1] / "tiny_search" / "seed0" / "metrics.jsonl")
              if record["kind"] == "search"]  # fmt: skip
    assert frozen[0] == 0 and frozen[-1] > 0


def compare_records(one: list[dict], two: list[dict]) -> None:
    assert len(one) == len(two) > 0
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, float) and key not in ("seconds_per_step", "memory_mib"):
                assert right[key] == pytest.approx(value, rel=1e-9, abs=1e-9), (left["kind"], left["step"], key)


def test_single_process_needs_no_group() -> None:
    ranks = Ranks.start("cpu")
    assert (ranks.rank, ranks.world, ranks.is_main) == (0, 1, True)
    assert ranks.gather(3) == [3] and ranks.on_main(lambda: 4) == 4
    module = torch.nn.Linear(1, 1)
    assert ranks.wrap(module, find_unused=True) is module


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_missing_cuda_is_one_message() -> None:
    with pytest.raises(UserError, match=r"engine\.device=cuda: .*set engine\.device=cpu"):
        Ranks.start("cuda")
