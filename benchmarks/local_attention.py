"""`python benchmarks/local_attention.py`: local attention against its rivals, in time and memory.

Prints a table and writes the raw numbers as JSON. On a GPU: time of the device alone with warm and cold L2
cache, wall time of an eager call, and peak memory. Without one it times the CPU path, on one image and in few
repeats.
"""

import argparse
import datetime
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from local_attention_rivals import CPU_RIVALS, RIVALS, Attention
from timing import device_times, peak_memory, wall_times
from torch import Tensor

from atrc_exp.files import write_json
from atrc_exp.kernels.build import check, further_options, load_nvrtc
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.runs.environment import describe_environment

KERNEL_SIZE = 9
GPU_SHAPES = [(8, 33, 107, 140), (8, 33, 128, 128), (8, 90, 107, 140), (8, 64, 107, 140)]
CPU_SHAPES = [(1, 33, 107, 140)]
WARM_UP = 5
# Bytes/s of memory, FLOP/s in float32 and in 16 bits; the floor of a call is what the slowest of them allows.
PEAKS = {"H200": (4.3e12, 67e12, 790e12)}


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--repeats", type=int, help="measured calls of each kind (default: 50; on a CPU 5)")
    parser.add_argument(
        "--only", nargs="*", choices=list(RIVALS), metavar="NAME", help="rows to measure (default: all)"
    )
    parser.add_argument("--output", type=Path, default=Path("local_attention_benchmark.json"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    further_options.append("-lineinfo")  # a profiler then shows lines of the sources
    names = arguments.only or (RIVALS if on_gpu else CPU_RIVALS)
    repeats = arguments.repeats or (50 if on_gpu else 5)
    result: dict[str, Any] = {"environment": environment(device), "repeats": repeats, "rows": []}
    print("  ".join(f"{key}: {value}" for key, value in result["environment"].items()))
    if not on_gpu:
        print("No GPU: these are times of the PyTorch path on the CPU, for one image.")
        print(f"Left out on a CPU: {', '.join(name for name in RIVALS if name not in CPU_RIVALS)}.")
    for shape in GPU_SHAPES if on_gpu else CPU_SHAPES:
        for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
            rows = measure_all(shape, dtype, device, repeats, names)
            result["rows"] += rows
            print_table(shape, dtype, rows)
            write_json(arguments.output, result)
    print(f"\nraw numbers: {arguments.output}")


def environment(device: torch.device) -> dict[str, Any]:
    """What a time depends on: what a run depends on, threads, driver and compiler."""
    found = {
        "date": datetime.date.today().isoformat(),
        **describe_environment(device),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        from cuda.bindings import driver

        found["driver"] = str(check(driver.cuDriverGetVersion()))
    try:
        found["nvrtc"] = ".".join(map(str, check(load_nvrtc().nvrtcVersion())))
    except (Unsupported, RuntimeError) as error:
        found["nvrtc"] = f"none ({error})"
    return found


def measure_all(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    repeats: int,
    names: Iterable[str],
) -> list[dict[str, Any]]:
    """One row a rival; those that cannot run say why in "failed"."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4))
    expected = RIVALS["ours"](q.shape, KERNEL_SIZE, device)(q, k, v)
    floors = floor(shape, dtype, device)
    rows = []
    for name in names:
        row: dict[str, Any] = {"name": name, "shape": shape, "dtype": str(dtype).removeprefix("torch.")}
        try:
            attention = RIVALS[name](q.shape, KERNEL_SIZE, device)
            row["difference"] = (attention(q, k, v) - expected).abs().max().item()
            row |= measure(attention, (q, k, v), g, repeats)
        except Exception as error:  # a rival may fail in any way, and that is a result
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        row["floor_us"] = floors
        rows.append(row)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def measure(attention: Attention, inputs: tuple[Tensor, ...], g: Tensor, repeats: int) -> dict[str, Any]:
    """Forward and backward: times in microseconds and, on a GPU, the peak memory of both in bytes."""
    q, k, v = (x.detach().requires_grad_() for x in inputs)
    out = attention(q, k, v)

    def forward() -> Tensor:
        return attention(q, k, v)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, (q, k, v), g, retain_graph=True)

    result: dict[str, Any] = {}
    for name, call in (("forward", forward), ("backward", backward)):
        for _ in range(WARM_UP if q.is_cuda else 1):
            call()
        wall = wall_times(call, q.device, repeats)
        result[name] = {"wall": asdict(wall)}
        if q.is_cuda:
            for key, cold in (("warm", False), ("cold", True)):
                result[name][key] = asdict(device_times(call, wall, repeats, cold))
    if q.is_cuda:
        result["peak_bytes"] = peak_memory(lambda: torch.autograd.grad(attention(q, k, v), (q, k, v), g))
    return result


def floor(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> dict[str, float] | None:
    """Least microseconds that memory and arithmetic allow; None for a device without peaks in the table.

    Bytes: every input and output once. FLOPs a pixel: 4 C K^2 forward; 14 C K^2 backward, as two gathers.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    for model, (memory, single, half) in PEAKS.items():
        if model in name:
            batch, channels, height, width = shape
            pixels = batch * height * width
            work = channels * KERNEL_SIZE**2 * pixels / (single if dtype == torch.float32 else half)
            moved = pixels * channels * dtype.itemsize / memory
            statistics = pixels * 4 / memory
            return {
                "forward": 1e6 * max(4 * work, 4 * moved + statistics),
                "backward": 1e6 * max(14 * work, 8 * moved + statistics),
            }
    return None


def print_table(shape: tuple[int, ...], dtype: torch.dtype, rows: list[dict[str, Any]]) -> None:
    """Medians in microseconds; ratios compare forward + backward with ours and with the floor."""
    kinds = [kind for kind in ("warm", "cold", "wall") if kind in rows[0].get("forward", {"wall": None})]
    print(f"\n(B, C, H, W) = {shape}, {str(dtype).removeprefix('torch.')}, K = {KERNEL_SIZE}")
    columns = [f"{part} {kind}" for kind in kinds for part in ("forward", "backward")]
    print(f"{'microseconds':26}" + "".join(f"{c:>15}" for c in [*columns, "x ours", "x floor", "peak MiB"]))
    for row in rows:
        if "failed" in row:
            print(f"{row['name']:26}{row['failed'][:120]}")
            continue
        total = row["forward"][kinds[0]]["median"] + row["backward"][kinds[0]]["median"]
        cells = [f"{row[part][kind]['median']:.1f}" for kind in kinds for part in ("forward", "backward")]
        if "failed" in rows[0]:
            cells.append("-")
        else:
            cells.append(f"{total / sum(rows[0][p][kinds[0]]['median'] for p in ('forward', 'backward')):.2f}")
        cells.append(f"{total / sum(row['floor_us'].values()):.2f}" if row["floor_us"] else "-")
        cells.append(f"{row['peak_bytes'] / 2**20:.1f}" if "peak_bytes" in row else "-")
        print(f"{row['name']:26}" + "".join(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
