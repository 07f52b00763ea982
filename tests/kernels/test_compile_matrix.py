"""All kernels compile for all architectures, within shared memory and, where it matters, without spills."""

import re

import pytest
import torch

from atrc_exp.kernels.build import compile_plan, load_nvrtc
from atrc_exp.kernels.plan import Unsupported, make_plan

# KiB of shared memory that a block may ask for (CUDA C++ Programming Guide, "Technical Specifications").
SHARED_LIMITS = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99, 121: 99}
# Bytes stored and loaded by channels of tensor_core.cu. At 48 two blocks leave a thread 128 registers in 16 bits, and
# some compilers park up to four of them, once a thread and outside the products.
ALLOWED_SPILLS = {16: 0, 33: 0, 48: 32}
FUNCTION = re.compile(r"Compiling entry function 'local_attention_(\w+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
EXHAUSTIVE = pytest.mark.exhaustive


def resources(log: str) -> dict[str, dict[str, int]]:
    """Registers a thread and spilled bytes of each kernel, from the log of the compiler."""
    found: dict[str, dict[str, int]] = {}
    for line in log.splitlines():
        if match := FUNCTION.search(line):
            entry = found.setdefault(match[1], {})
        elif match := SPILLS.search(line):
            entry["spilled"] = int(match[1]) + int(match[2])
        elif match := REGISTERS.search(line):
            entry["registers"] = int(match[1])
    return found


def compile_or_skip(plan, target):
    try:
        _, supported = load_nvrtc().nvrtcGetSupportedArchs()
    except (Unsupported, RuntimeError, OSError) as error:
        pytest.skip(f"NVRTC is not here: {error}")
    if int(target.removeprefix("sm_")) not in supported:
        pytest.skip(f"this NVRTC does not know {target}")
    return compile_plan(plan, target)


@pytest.mark.parametrize("arch", [80, 90, 100, 120, *(pytest.param(a, marks=EXHAUSTIVE) for a in (86, 89, 103, 121))])
@pytest.mark.parametrize(
    ("dtype", "channels"),
    [
        (torch.float32, 33),
        (torch.float32, 90),
        *(pytest.param(torch.float32, c, marks=EXHAUSTIVE) for c in (16, 48)),
        (torch.bfloat16, 33),
        *(pytest.param(torch.bfloat16, c, marks=EXHAUSTIVE) for c in (16, 48, 64, 90, 128)),
        *(pytest.param(torch.float16, c, marks=EXHAUSTIVE) for c in (16, 33, 48, 64, 90)),
    ],
)
def test_compiles_without_spills_and_within_shared_memory(arch, dtype, channels):
    plan = make_plan(dtype, channels, 9, 4, SHARED_LIMITS[arch] * 1024)
    _, log = compile_or_skip(plan, f"sm_{arch}")
    used = resources(log)
    assert set(used) == {"forward", "dq", "dkv"} == set(plan.shared_bytes)
    print(arch, dtype, channels, plan.source, plan.tile, used, plan.shared_bytes)
    for name, numbers in used.items():
        assert plan.shared_bytes[name] <= SHARED_LIMITS[arch] * 1024
        assert numbers["registers"] * plan.threads <= 65536
        if plan.source == "strip.cu":
            assert numbers["spilled"] == 0, name
        elif channels in ALLOWED_SPILLS:
            assert numbers["spilled"] <= ALLOWED_SPILLS[channels], name


@pytest.mark.exhaustive
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 11, 13, 15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vector", [1, 2])
def test_other_kernel_sizes_and_widths_compile(kernel_size, dtype, vector):
    plan = make_plan(dtype, 33, kernel_size, vector, SHARED_LIMITS[80] * 1024)
    code, _ = compile_or_skip(plan, "sm_80")
    assert code.startswith(b"\x7fELF")
