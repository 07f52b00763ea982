"""Two gloo processes against one: the same losses and weights at the same global batch."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import command_line as cli
import pytest
import tiny_engine as tiny
import torch
import torch.distributed as dist

from atrc_exp.errors import RankError, UserError
from atrc_exp.files import read_json
from atrc_exp.processes.ranks import Ranks, take_gpu

TESTS = Path(__file__).parents[1]


def start_two(*arguments: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                   "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, str(TESTS / "rank_of_two.py"), *arguments],
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
            output, _ = process.communicate(timeout=900)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_collectives_of_two_ranks() -> None:
    wait(start_two("collectives"))


@pytest.mark.slow
def test_boundary_scores_of_two_ranks_are_those_of_all_images() -> None:
    wait(start_two("boundaries"))


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    """Batch statistics held, no dropout, five steps with a block freezing on the way; then a NaN on one rank."""
    torch.set_num_threads(1)
    wait(start_two("training", str(tmp_path / "two")))
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        for kind, strategy in tiny.EXACT_RUNS:
            folders = (tmp_path / name / str(dtype) / strategy for name in ("one", "two"))
            configs = [tiny.exact_config(folder, kind, strategy) for folder in folders]
            tiny.run_training(configs[0], hold_bn=True, dtype=dtype)
            one, two = map(tiny.folder, configs)
            compare_runs(one, two, tolerance)
            if (kind, strategy) == ("search", "gumbel"):
                frozen = [record["frozen"] for record in cli.records(two, "search")]
                assert frozen[0] == 0 and frozen[-1] > 0


@pytest.mark.slow
def test_two_ranks_weigh_gradients_as_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torchjd")
    torch.set_num_threads(1)
    wait(start_two("weighing", str(tmp_path / "two")))
    one, two = (tiny.weighing_config(tmp_path / name) for name in ("one", "two"))
    tiny.run_training(one, hold_bn=True, dtype=torch.float64)
    compare_runs(tiny.folder(one), tiny.folder(two), 1e-9)
    factors = [record["factor/semseg"] for record in cli.records(tiny.folder(two), "train")]
    assert len(set(factors)) == len(factors)


def compare_runs(one: Path, two: Path, tolerance: float) -> None:
    """Records and last weights."""
    compare_records(cli.records(one), cli.records(two), tolerance)
    weights = [cli.last(folder)["network"] for folder in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=tolerance)


def compare_records(one: list[dict], two: list[dict], tolerance: float) -> None:
    assert len(one) == len(two) > 0
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, float):
                assert right[key] == pytest.approx(value, rel=tolerance, abs=tolerance), (
                    left["kind"],
                    left["step"],
                    key,
                )


@pytest.mark.slow
def test_rank_that_dies_takes_the_other_down_with_a_message(tmp_path: Path) -> None:
    survivor, killed = start_two("dying", str(tmp_path))
    killed.communicate(timeout=900)
    assert killed.returncode == -signal.SIGKILL
    began = time.monotonic()
    output, _ = survivor.communicate(timeout=60)
    assert time.monotonic() - began < 60 and survivor.returncode == 1
    assert "RankError: rank 0 has lost another rank" in output, output


@pytest.mark.slow
def test_signal_to_one_rank_stops_both_after_the_same_step(tmp_path: Path) -> None:
    wait(start_two("interrupted", str(tmp_path / "cut")))
    config = tiny.config(tmp_path / "cut", kind="atrc")
    assert len(read_json(tiny.folder(config) / "environment.json")["starts"]) == 2
    whole = tiny.folder(tiny.config(tmp_path / "cut" / "whole", kind="atrc"))
    assert [record["step"] for record in cli.records(whole, "train")] == [2, 4, 6, 8, 10, 12]
    assert cli.records(tiny.folder(config)) == cli.records(whole), "that of step 6 spans the two starts"
    assert cli.same(cli.last(tiny.folder(config)), cli.last(whole))


def test_error_of_one_rank_is_its_own_to_print() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UserError("a damaged file")

    alone = Ranks().alone(items())
    assert next(alone) == 1
    with pytest.raises(UserError, match=r"^a damaged file") as error:
        next(alone)
    assert not isinstance(error.value, RankError)
    with pytest.raises(RankError, match=r"^rank 1: a damaged file"):
        list(Ranks(rank=1, world=2).alone(items()))


def test_defects_are_no_lost_ranks() -> None:
    for ranks, message in ((Ranks(world=2), "shapes differ"), (Ranks(), "gloo: connection closed")):
        with pytest.raises(RuntimeError, match=message) as error, ranks.together():
            raise RuntimeError(message)
        assert not isinstance(error.value, RankError)


def test_device_goes_by_the_rank_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two hosts with two devices each."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "init_process_group", lambda *_: None)
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks.start()
    assert (ranks.rank, ranks.world, ranks.device) == (3, 4, torch.device("cuda", 1))
    assert chosen == [torch.device("cuda", 1)]


@pytest.mark.parametrize(
    ("visible", "workers", "expected"),
    [(None, [0, 1, 2, 3], ["0", "1", "2", "0"]), ("4,6", [0, 1, 2], ["4", "6", "4"]), ("", [0], [""])],
)
def test_workers_of_a_sweep_take_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, workers: list[int], expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    taken = []
    for worker in workers:
        with monkeypatch.context() as process:
            process.setenv("CUDA_VISIBLE_DEVICES", visible or "")  # remembered, and so as before at the end
            if visible is None:
                process.delenv("CUDA_VISIBLE_DEVICES")
            take_gpu(worker)
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == expected


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
