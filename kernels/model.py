"""`python -m atrc_exp.kernels.model`: what bounds each kernel, estimated from its machine code. No GPU is needed.

For every kernel and device it prints the warps that a multiprocessor holds, the instructions of a thread by class, and
least times in microseconds: of issue slots, of the units for multiply-adds, exponentials and matrix products, of shared
memory, of the traffic with halos through the L2 cache, and of memory. The first four are those of the busiest
scheduler: a fifth warp makes one of four work twice as long. The largest time bounds the kernel from below, if nothing
has to wait; it is for comparing variants, and no measured time. Instructions in a loop count for as many passes as
there are chunks of channels (strip.cu), channels a warp fetches, or groups of key rows (tensor_core.cu): too often
where the compiler has unrolled a loop further. Both sides of a branch count. The floor of float32 is that of multiply-
adds, which three products of TF32 on tensor cores can undercut.

NVRTC comes with PyTorch, nvdisasm with Triton.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atrc_exp.files import write_json
from atrc_exp.kernels.build import compile_plan
from atrc_exp.kernels.plan import RESERVED_BYTES, Plan, make_plan

KERNEL_SIZE = 9
SHAPES = ((8, 33, 107, 140), (8, 90, 107, 140))
# Classes of instructions by the beginning of their names.
CLASSES = {"matrix": "HMMA", "fma": "FFMA", "add": "FMUL|FADD", "exp": "MUFU", "shared": "LDS|STS", "global": "LDG|STG",
           "spill": "LDL|STL"}  # fmt: skip
# Maps with and without halo that a block reads or writes, and numbers a pixel.
PRODUCTS = {"forward": 2, "dq": 3, "dkv": 4}  # sums over channels or neighbours, of C * K * K multiply-adds a pixel
TRAFFIC = {"forward": (2, 2), "dq": (2, 4), "dkv": (2, 4)}
BYTES_A_CLOCK = 128  # of a multiprocessor's shared memory


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet; `l2` is a guess of what the cache serves, between two and four times the memory's rate.

    `fma`, `exp`, `matrix`: instructions of a warp that a multiprocessor ends in a clock; matrix products are 16x8x16 of
    16-bit elements by `mma.sync`, which reaches about 0.6 of what Hopper's own instructions do.
    """

    arch: int
    multiprocessors: int
    hertz: float
    shared_kib: int
    memory: float
    l2: float
    fma: float
    matrix: float
    exp: float = 0.5


DEVICES = {
    "A100": Device(80, 108, 1.41e9, 163, 1.56e12, 4e12, fma=2, matrix=0.5),
    "RTX 4090": Device(89, 128, 2.52e9, 99, 1.0e12, 4e12, fma=4, matrix=0.125),
    "H200": Device(90, 132, 1.98e9, 227, 4.3e12, 5.5e12, fma=4, matrix=0.6),
    "B200": Device(100, 148, 1.85e9, 227, 7.7e12, 10e12, fma=4, matrix=0.5),
    "RTX 5090": Device(120, 170, 2.41e9, 99, 1.79e12, 6e12, fma=4, matrix=0.125),
}
_SECTION = re.compile(r"\s*\.section\s+\.text\.local_attention_(\w+)")
_LABEL = re.compile(r"(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)")
_REGISTERS = re.compile(r"function 'local_attention_(\w+)'(?:.*\n)*?.*Used (\d+) registers")


def main() -> None:
    """Compile, disassemble, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="*", default=list(DEVICES), choices=list(DEVICES), metavar="NAME")
    parser.add_argument("--output", type=Path, help="JSON file of the same numbers")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.devices:
        for shape in SHAPES:
            for dtype in (torch.float32, torch.bfloat16):
                for row in estimate(name, shape, dtype):
                    rows.append(row)
                    print(line(row), flush=True)
    if arguments.output:
        write_json(arguments.output, {"kernel_size": KERNEL_SIZE, "rows": rows})


def estimate(name: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[dict[str, Any]]:
    """One row a kernel: registers, warps, instructions a thread, bounds in microseconds and the largest of them.

    `floor_us` is what any kernel needs: its multiply-adds at the device's rate, or each map read or written once.

    Raises:
        Unsupported: NVRTC is missing or does not know the device.
        FileNotFoundError: nvdisasm is missing.
    """
    device, (batch, channels, height, width) = DEVICES[name], shape
    plan = make_plan(dtype, channels, KERNEL_SIZE, 4, device.shared_kib * 1024)
    code, log = compile_plan(plan, f"sm_{device.arch}")
    registers = {kernel: int(count) for kernel, count in _REGISTERS.findall(log)}
    chunks = -(-channels // 4) if plan.source == "strip.cu" else -(-(-(-channels // 8) * 8) // (plan.threads // 32))
    rows = []
    listings = disassemble(code)
    for kernel in plan.shared_bytes:
        executed = count(listings[kernel], chunks, 2 if kernel == "forward" else KERNEL_SIZE + 1)
        classes = {key: sum(n for op, n in executed.items() if re.match(start, op)) for key, start in CLASSES.items()}
        work = -(-plan.threads // 32) * plan.blocks(batch, height, width) / device.multiprocessors / device.hertz * 1e6
        warps = resident_warps(plan, kernel, registers[kernel], device)
        busiest = work * imbalance(warps)
        pixels, element = batch * height * width, dtype.itemsize
        wide, narrow = TRAFFIC[kernel]
        bounds = {
            "issue": sum(executed.values()) / 4 * busiest,
            **{key: classes[key] / getattr(device, key) * busiest for key in ("fma", "exp", "matrix")},
            "shared": sum(n * clocks(op) for op, n in executed.items()) * work,
            "l2": 1e6 * pixels * channels * element * (wide * halo(plan) + narrow) / device.l2,
            "memory": 1e6 * pixels * (channels * element * (wide + narrow) + 4) / device.memory,
        }
        rate = (device.fma * 32 if dtype == torch.float32 else device.matrix * 16 * 8 * 16) * device.multiprocessors
        products = 1e6 * PRODUCTS[kernel] * channels * KERNEL_SIZE**2 * pixels / rate / device.hertz
        rows.append({
            "device": name, "shape": shape, "dtype": str(dtype).removeprefix("torch."), "kernel": kernel,
            "tile": plan.tile, "registers": registers[kernel],
            "warps": warps, "instructions": sum(executed.values()),
            "classes": classes, "bounds_us": bounds, "bound_us": max(bounds.values()),
            "floor_us": max(products, bounds["memory"]),
        })  # fmt: skip
    return rows


def disassemble(code: bytes) -> dict[str, list[tuple[str, str]]]:
    """(operation, operands) of each kernel in order; a label stands as ("", label)."""
    found: dict[str, list[tuple[str, str]]] = {}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        text = subprocess.run([_nvdisasm(), "-c", file.name], capture_output=True, text=True, check=True).stdout
    listing: list[tuple[str, str]] = []
    for entry in text.splitlines():
        if match := _SECTION.match(entry):
            listing = found.setdefault(match[1], [])
        elif match := _LABEL.match(entry):
            listing.append(("", match[1]))
        elif match := _INSTRUCTION.match(entry):
            listing.append((match[1], match[2]))
    return found


def count(listing: list[tuple[str, str]], chunks: int, groups: int) -> Counter[str]:
    """Instructions by operation: in a loop once a chunk of channels, in a loop inside it twice a chunk.

    A loop is what lies between a label and a branch back to it; one with matrix products runs once a group of key rows.
    """
    places = {text: at for at, (operation, text) in enumerate(listing) if not operation}
    loops: dict[int, int] = {}  # first and last place
    for at, (operation, text) in enumerate(listing):
        target = re.search(r"\.L_x_\d+", text) if operation.startswith("BRA") else None
        if target and places[target[0]] < at - 1:  # not the trap after the end, which branches to itself
            loops[places[target[0]]] = at
    passes = {
        first: groups if any(operation.startswith("HMMA") for operation, _ in listing[first:last]) else chunks
        for first, last in loops.items()
    }
    executed: Counter[str] = Counter()
    for at, (operation, _) in enumerate(listing):
        if operation and operation != "NOP":
            around = [passes[first] for first, last in loops.items() if first < at <= last]
            executed[operation] += max(around, default=1) * (2 if len(around) > 1 else 1)
    return executed


def clocks(operation: str) -> float:
    """Clocks for which an instruction of a warp takes the whole of shared memory."""
    if operation.startswith("LDSM"):
        return 512 / BYTES_A_CLOCK if operation.endswith(".4") else 256 / BYTES_A_CLOCK
    if re.match("LDS|STS", operation):
        width = re.search(r"\.(64|128)\b", operation)
        return 32 * (int(width[1]) if width else 32) / 8 / BYTES_A_CLOCK
    return 0


def halo(plan: Plan) -> float:
    """Pixels of a haloed map that a block reads, over those of its tile."""
    (rows, columns), kernel_size = plan.tile, int(dict(plan.definitions)["KERNEL_SIZE"])
    margin = -(-(kernel_size // 2) // 4) * 4
    return (rows + kernel_size - 1) * (columns + 2 * margin) / (rows * columns)


def resident_warps(plan: Plan, kernel: str, registers: int, device: Device) -> int:
    """Warps that a multiprocessor holds by its registers, a quarter of them for each scheduler, and shared memory."""
    warps = -(-plan.threads // 32)
    by_registers = 4 * (16384 // (-(-registers // 8) * 8 * 32)) // warps
    by_shared = (device.shared_kib * 1024 + RESERVED_BYTES) // (plan.shared_bytes[kernel] + RESERVED_BYTES)
    return warps * min(by_registers, by_shared)


def imbalance(warps: int) -> float:
    """Work of the busiest of a multiprocessor's four schedulers over their mean."""
    return -(-warps // 4) / (warps / 4)


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    bounds = "  ".join(f"{name} {value:.1f}" for name, value in row["bounds_us"].items())
    classes = " ".join(f"{name} {n}" for name, n in row["classes"].items())
    where = f"{row['device']:9}{row['dtype']:9} C={row['shape'][1]:<3} {row['kernel']:8}"
    held = f"tile {row['tile']}  {row['registers']} registers  {row['warps']:2} warps"
    times = f">= {row['bound_us']:6.1f} us  floor {row['floor_us']:5.1f}  ({bounds})"
    return f"{where} {held}  {times}  {row['instructions']} instructions ({classes})"


def _nvdisasm() -> str:
    triton = importlib.util.find_spec("triton")
    folders = (
        [Path(path) / "backends/nvidia/bin" for path in (triton.submodule_search_locations or ())] if triton else []
    )
    for folder in folders:
        if (folder / "nvdisasm").exists():
            return str(folder / "nvdisasm")
    found = shutil.which("nvdisasm")
    if found is None:
        raise FileNotFoundError("nvdisasm is in neither Triton's package nor the PATH; `pip install triton` brings it")
    return found


if __name__ == "__main__":
    main()
