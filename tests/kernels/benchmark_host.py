"""Time of the host alone, forward and backward of one small call with gradients: prints JSON.

python tests/kernels/benchmark_host.py

The driver is the stub of the tests, and PyTorch's device guard and stream look-up cost nothing here: on a GPU they and
the driver's own launches are added.
"""

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import stub_driver
import torch

from atrc_exp.ops import local_attention, registration

CALLS, CALLS_A_RECORD = 1000, 50


def microseconds(call: Callable[[], object], machine: stub_driver.StubMachine) -> dict[str, float]:
    times = []
    for turn in range(CALLS):
        if turn % CALLS_A_RECORD == 0:
            machine.stub.stub_clear()
        start = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - start))
    return {"median": round(statistics.median(times), 1), "tenth": round(sorted(times)[CALLS // 10], 1)}


def main() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        machine = stub_driver.StubMachine(stub_driver.build(Path(folder)), monkeypatch)
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
        stream = SimpleNamespace(cuda_stream=0)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
        # Tensors of the CPU take the way of CUDA tensors.
        operators = torch.library.Library("atrc_exp", "IMPL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operators.impl("local_attention_fwd", registration._forward_cuda, "CPU", allow_override=True)
            operators.impl("local_attention_bwd", registration._backward_cuda, "CPU", allow_override=True)
        q, k, v = (torch.zeros(1, 33, 16, 16, requires_grad=True) for _ in range(3))
        out = local_attention(q, k, v)
        g = torch.zeros_like(out)
        forward = microseconds(lambda: local_attention(q, k, v), machine)
        backward = microseconds(lambda: torch.autograd.grad(out, (q, k, v), g, retain_graph=True), machine)
    print(json.dumps({"torch": torch.__version__, "forward_us": forward, "backward_us": backward}))


if __name__ == "__main__":
    main()
