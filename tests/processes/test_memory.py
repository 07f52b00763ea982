"""What a process takes, and what is free within the limits it is under."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from atrc_exp.processes import memory


def write_group(folder: Path, limit: str, usage: int, names: tuple[str, str], cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_limits_of_control_groups(tmp_path: Path) -> None:
    two, one = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write_group(tmp_path / "fs" / "slurm" / "job", "1000", 300, two, cached=50)
    write_group(tmp_path / "fs" / "slurm", "max", 300, two)
    write_group(tmp_path / "fs" / "memory" / "job", "5000", 1000, one)
    (tmp_path / "cgroup").write_text("0::/slurm/job\n4:memory:/job\n2:cpu:/job\n")
    assert sorted(memory._cgroup_free(tmp_path / "cgroup", tmp_path / "fs")) == [750, 4000]


@pytest.mark.slow
def test_peak_is_not_that_of_the_process_that_started_this_one():
    held = torch.ones(2**28)  # 1 GiB
    code = "import torch; from atrc_exp.processes.memory import peak_mib; print(peak_mib(torch.device('cpu')))"
    peak = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert memory.peak_mib(torch.device("cpu")) > held.nbytes / 2**20 > peak


def test_memory_of_a_pass_is_that_of_the_tensors_that_live_together() -> None:
    maps, weight = torch.rand(4, 1000), torch.rand(2000, 1000)

    def forward() -> Tensor:
        hidden = maps.exp() + 1  # the two exist for a moment, beside nothing else
        hidden = hidden.relu_()
        return (hidden @ weight.t()).sum()  # a view of the weights is no new memory; 4 x 2000 beside 4 x 1000

    with torch.inference_mode():
        assert memory.inference_bytes(forward) == pytest.approx(memory._SCRATCH * 4 * (4 * 2000 + 4 * 1000), rel=0.01)
        assert memory.inference_bytes(lambda: weight.view(-1)[:5]) == 0


def test_free_memory_of_the_cpu_is_known_where_the_system_tells_it() -> None:
    assert memory.free_bytes(torch.device("cpu")) is None or memory.free_bytes(torch.device("cpu")) > 2**20
    assert memory.free_bytes(torch.device("meta")) is None
