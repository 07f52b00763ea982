"""Forms of local attention on the CPU, forward and backward together, in turns: prints JSON.

python tests/ops/benchmark_local_attention_cpu.py > docs/benchmark_attention_cpu.json
"""

import json
import statistics
import sys
import time

import shift_loop
import torch

from atrc_exp.ops import local_attention_cpu, local_attention_torch
from atrc_exp.runs.environment import describe_environment

FORMS = {"shift loop": shift_loop, "tiles": local_attention_torch, "compiled": local_attention_cpu}
SIZES = [(32, 33, 16, 24), (64, 33, 16, 24), (32, 33, 40, 56), (8, 33, 107, 140)]
KERNEL_SIZE = 9


def seconds(form, q, k, v, g, zero_border: bool) -> float:
    scale = q.shape[1] ** -0.5
    start = time.perf_counter()
    out, lse = form.forward(q, k, v, KERNEL_SIZE, scale, zero_border)
    form.backward(g, q, k, v, out, lse, KERNEL_SIZE, scale)
    return time.perf_counter() - start


def row(size: tuple[int, ...], threads: int, border: str, turns: int) -> dict:
    torch.set_num_threads(threads)
    inputs = torch.randn(4, *size).unbind()
    times: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(turns + 1):
        for name, form in FORMS.items():
            times[name].append(seconds(form, *inputs, border == "zero"))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first turn warms up
    return {
        "B, C, H, W": size,
        "threads": threads,
        "border": border,
        "median ms": {name: round(1000 * value, 1) for name, value in medians.items()},
        "times as fast": {
            f"compiled as {name}": round(medians[name] / medians["compiled"], 2) for name in list(FORMS)[:-1]
        },
    }


def main(turns: int = 7) -> None:
    rows = [row(size, threads, border, turns) for threads in (1, 2) for border in ("zero", "mask") for size in SIZES]
    print(json.dumps({**describe_environment(torch.device("cpu")), "rows": rows}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
