"""The benchmark's rivals compute what they are compared with, and its output keeps every row."""

import json

import local_attention as benchmark
import local_attention_rivals as rivals
import pytest
import torch
from torch import Tensor

from atrc_exp.ops import local_attention


@pytest.mark.parametrize(
    "name",
    [
        *rivals.CPU_RIVALS,
        "SDPA, dense mask",
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("shift loop, compiled", "flex_attention, compiled")),
    ],
)
def test_rivals_compute_the_same(name):
    q, k, v = (torch.randn(2, 16, 6, 7) for _ in range(3))
    attention = rivals.RIVALS[name](q.shape, 5, q.device)
    torch.testing.assert_close(attention(q, k, v), local_attention(q, k, v, 5), rtol=1e-4, atol=1e-5)


def test_table_and_json_keep_rivals_that_fail(monkeypatch, tmp_path, capsys):
    def broken(shape: torch.Size, kernel_size: int, device: torch.device) -> rivals.Attention:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("out of memory")

        return attend

    monkeypatch.setitem(rivals.RIVALS, "unfold", broken)
    monkeypatch.setattr(benchmark, "CPU_SHAPES", [(1, 2, 4, 5)])
    output = tmp_path / "times.json"
    monkeypatch.setattr("sys.argv", ["benchmark", "--device", "cpu", "--repeats", "2", "--output", str(output)])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "PyTorch path on the CPU" in printed and "OutOfMemoryError: out of memory" in printed
    rows = {row["name"]: row for row in json.loads(output.read_text())["rows"]}
    assert set(rows) == set(rivals.CPU_RIVALS)
    assert rows["unfold"]["failed"] and "forward" not in rows["unfold"]
    assert rows["ours"]["forward"]["wall"]["median"] > 0 and rows["three steps"]["difference"] < 1e-5


def test_floor_of_a_known_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    cuda = torch.device("cuda")
    single = benchmark.floor((8, 33, 107, 140), torch.float32, cuda)
    half = benchmark.floor((8, 33, 107, 140), torch.bfloat16, cuda)
    assert single == pytest.approx({"forward": 19.1, "backward": 66.9}, abs=0.1)
    assert half == pytest.approx({"forward": 7.5, "backward": 14.9}, abs=0.1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another")
    assert benchmark.floor((8, 33, 107, 140), torch.float32, cuda) is None
