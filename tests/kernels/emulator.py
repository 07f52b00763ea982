"""Compiles the CUDA sources for the CPU (emulation.h) and compares their results with the float64 oracle."""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from atrc_exp.kernels.build import SOURCES
from atrc_exp.kernels.plan import Plan

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "ops"))
from local_attention_oracle import oracle  # noqa: E402

ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-fsanitize=thread",)
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
# max |error| / max |value| of (out, gradients): twice the largest of a rounding model of this arithmetic.
TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (6e-3, 1e-2), torch.float16: (8e-4, 1.4e-3)}
SMALLEST_SCALE = 0.5  # few pixels have small maxima, and gradients that cancel none


@cache
def problem_with_compiler(sanitizer: tuple[str, ...]) -> str:
    """Why g++, or this sanitizer's run-time library, does not work here; empty if it does."""
    if shutil.which("g++") is None:
        return "g++ is not installed"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        command = ["g++", "-std=c++20", *sanitizer, "-x", "c++", "-", "-o", str(program)]
        built = subprocess.run(command, input="int main() {}", text=True, capture_output=True)
        if built.returncode == 0 and subprocess.run([program], capture_output=True).returncode == 0:
            return ""
    return f"g++ {' '.join(sanitizer)} does not work here: {built.stderr[:200]}"


def build(plan: Plan, sanitizer: tuple[str, ...], folder: Path, sources: Path = SOURCES) -> Path:
    """An executable of the plan's kernels, whose source files lie in `sources`."""
    if problem := problem_with_compiler(sanitizer):
        pytest.skip(problem)
    program = folder / "kernels"
    command = ["g++", "-std=c++20", "-O1", "-g1", "-Wall", "-Wno-unknown-pragmas", "-DATRC_EMULATION"]
    command += [f'-DSOURCE="{sources / plan.source}"', f"-I{sources}", f"-I{HERE}", *sanitizer]
    command += [f"-D{name}={value}" for name, value in plan.definitions]
    subprocess.run([*command, str(HERE / "emulation.cpp"), "-o", str(program)], check=True)
    return program


def run(
    program: Path,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    kernel_size: int,
    border: str,
    scale: float | None = None,
    first_image: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run on random maps; raise AssertionError if a result is off. The return code is the sanitizers'."""
    generator = torch.Generator().manual_seed(0)
    maps = {name: torch.randn(shape, generator=generator).to(dtype) for name in "qkvg"}
    scale = shape[1] ** -0.5 if scale is None else scale
    finished = _execute(program, maps, border, scale, first_image)
    if finished.returncode == 0:
        _compare(_read(program.parent, maps["q"]), maps, kernel_size, border, scale)
    return finished


def results(program: Path, maps: dict[str, torch.Tensor], border: str, scale: float) -> dict[str, torch.Tensor]:
    """out, lse, dq, dk and dv of the kernels for q, k, v and g."""
    finished = _execute(program, maps, border, scale, 0)
    assert finished.returncode == 0, finished.stderr[:3000]
    return _read(program.parent, maps["q"])


def _execute(
    program: Path, maps: dict[str, torch.Tensor], border: str, scale: float, first_image: int
) -> subprocess.CompletedProcess[str]:
    folder = program.parent
    for name, value in maps.items():
        (folder / name).write_bytes(value.contiguous().view(torch.uint8).numpy().tobytes())
    shape = maps["q"].shape
    arguments = [str(folder), *map(str, shape), str(scale), str(int(border == "zero")), str(first_image)]
    return subprocess.run([program, *arguments], text=True, capture_output=True, env=ENVIRONMENT)


def _read(folder: Path, like: torch.Tensor) -> dict[str, torch.Tensor]:
    def array(name: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.frombuffer(bytearray((folder / name).read_bytes()), dtype=dtype)

    found = {name: array(name, like.dtype).view(like.shape) for name in ("out", "dq", "dk", "dv")}
    batch, _, height, width = like.shape
    return found | {"lse": array("lse", torch.float32).view(batch, height, width)}


def _compare(
    found: dict[str, torch.Tensor],
    maps: dict[str, torch.Tensor],
    kernel_size: int,
    border: str,
    scale: float,
) -> None:
    q, k, v = (maps[name].double().requires_grad_() for name in "qkv")
    out, lse = oracle(q, k, v, kernel_size, border, scale)
    dq, dk, dv = torch.autograd.grad(out, (q, k, v), maps["g"].double())
    tolerance, gradient_tolerance = TOLERANCE[maps["q"].dtype]
    if out.shape[1] == 1:  # the terms of dq and dk nearly cancel, and only the rounding of `out` and dS is left
        gradient_tolerance *= 4
    expected = {"out": (out, tolerance)} | {
        name: (value, gradient_tolerance) for name, value in (("dq", dq), ("dk", dk), ("dv", dv))
    }
    for name, (reference, allowed) in expected.items():
        error = (found[name].double() - reference).abs().max() / reference.abs().max().clamp_min(SMALLEST_SCALE)
        assert error <= allowed, f"{name}: relative error {error:.1e}"  # also false for NaN
    assert (found["lse"] - lse).abs().max() <= 2e-6 * max(1, lse.abs().max()), "lse"
