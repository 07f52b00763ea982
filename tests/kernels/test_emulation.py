"""The CUDA sources, run on the CPU under address, undefined and thread sanitizers, against the oracle."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from emulator import ADDRESS, THREAD, build, oracle, results, run

from atrc_exp.kernels.build import SOURCES
from atrc_exp.kernels.plan import Plan, strip_plan, tensor_core_plan

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
HOPPER = 227 * 1024  # bytes of shared memory a block
SIZES = [(1, 1), (1, 40), (2, 5), (3, 3), (8, 16), (9, 17), (16, 16)]
ORDER = re.compile(r"__syncthreads\(\);|__syncwarp\(\);|copy_wait<\d>\(\);")
TENSOR_CORE = (tensor_core_plan(BF16, 11, 9, 4, (8, 16), HOPPER), BF16, (1, 11, 9, 20))
TF32 = (tensor_core_plan(F32, 11, 9, 4, (8, 16), HOPPER), F32, (1, 11, 9, 20))
STRIP = (strip_plan(F32, 9, 4, HOPPER), F32, (1, 11, 9, 20))  # an odd number of chunks: buffers meet themselves


def kernel_size_of(plan: Plan) -> int:
    return int(dict(plan.definitions)["KERNEL_SIZE"])


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD], ids=["address", "thread"])
@pytest.mark.slow
@pytest.mark.parametrize(("plan", "dtype", "shape"), [TENSOR_CORE, TF32, STRIP], ids=["tensor_core", "tf32", "strip"])
def test_kernels_are_right_and_clean(plan, dtype, shape, sanitizer, tmp_path):
    program = build(plan, sanitizer, tmp_path)
    for border in ("zero", "mask"):
        finished = run(program, shape, dtype, 9, border)
        assert finished.returncode == 0, finished.stderr[:3000]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "dtype", "shape"),
    [TENSOR_CORE, TF32, STRIP],
    ids=["tensor_core", "tf32", "strip"],
)
def test_images_beyond_31_bits_and_several_tiles_each_way(plan, dtype, shape, tmp_path):
    """The images are the last ones of a batch of over 2^31 elements, 3 x 3 tiles each; the others do not exist."""
    shape = (1, 7, 17, 36)
    first_image = 2**31 // (7 * 17 * 36) + 1
    finished = run(build(plan_for(plan, dtype, 7), ADDRESS, tmp_path), shape, dtype, 9, "zero", first_image=first_image)
    assert finished.returncode == 0, finished.stderr[:3000]


def plan_for(plan: Plan, dtype: torch.dtype, channels: int) -> Plan:
    return plan if plan.source == "strip.cu" else tensor_core_plan(dtype, channels, 9, 4, (8, 16), HOPPER)


def orders(source: str) -> list[tuple[str, re.Match[str]]]:
    """(file, match) of all barriers and waits of a source and the header it is made of."""
    files = (source, source.replace(".cu", ".cuh"))
    return [(file, match) for file in files for match in ORDER.finditer((SOURCES / file).read_text())]


def remove_order(source: str, index: int, folder: Path) -> str:
    """Copy the sources to `folder` less the `index`-th barrier or wait of `source`; return where that was."""
    for path in (*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh")):
        shutil.copy(path, folder)
    file, match = orders(source)[index]
    text = (folder / file).read_text()
    (folder / file).write_text(text[: match.start()] + text[match.end() :])
    return f"{file}:{text.count(chr(10), 0, match.start()) + 1} {match[0]}"


@pytest.mark.parametrize(
    ("case", "index"),
    [pytest.param(STRIP, 0)]
    + [pytest.param(STRIP, i, marks=pytest.mark.exhaustive) for i in range(1, len(orders("strip.cu")))]
    + [pytest.param(TENSOR_CORE, i, marks=pytest.mark.exhaustive) for i in range(len(orders("tensor_core.cu")))],
)
def test_every_missing_barrier_is_noticed(case, index, tmp_path):
    plan, dtype, shape = case
    where = remove_order(plan.source, index, tmp_path)
    program = build(plan, THREAD, tmp_path, tmp_path)
    try:
        finished = run(program, shape, dtype, 9, "zero")
    except AssertionError:
        return  # wrong numbers are noticed too
    assert finished.returncode != 0, where


VARIANTS = [
    *((tensor_core_plan(BF16, c, 9, 1, (8, 16), HOPPER), BF16, c) for c in (1, 8, 31, 33, 64, 90)),
    (tensor_core_plan(F16, 33, 9, 2, (8, 16), HOPPER), F16, 33),
    (tensor_core_plan(BF16, 96, 9, 4, (4, 8), HOPPER), BF16, 96),
    (tensor_core_plan(F16, 128, 9, 4, (8, 8), HOPPER), F16, 128),
    *((tensor_core_plan(BF16, 16, k, 2, (8, 8), HOPPER), BF16, 16) for k in (1, 3, 5, 7)),
    *((tensor_core_plan(F32, c, 9, 1, (8, 16), HOPPER), F32, c) for c in (1, 33)),
    (tensor_core_plan(F32, 48, 9, 2, (8, 8), HOPPER), F32, 48),
    *((tensor_core_plan(F32, 16, k, 4, (8, 8), HOPPER), F32, 16) for k in (1, 3, 5, 7)),
    *((strip_plan(F32, k, 1, HOPPER), F32, 5) for k in (1, 3, 5, 7, 9, 11, 13, 15)),
    (strip_plan(F32, 9, 2, HOPPER), F32, 33),
    (strip_plan(F32, 15, 4, HOPPER), F32, 6),
    (strip_plan(BF16, 11, 1, HOPPER), BF16, 9),
    (strip_plan(F16, 9, 1, HOPPER), F16, 90),
]


def variant_name(value: object) -> str:
    return "-".join(str(x) for _, x in value.definitions[:-7]) if isinstance(value, Plan) else str(value)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("plan", "dtype", "channels"), VARIANTS, ids=variant_name)
def test_every_specialisation_and_size(plan, dtype, channels, tmp_path):
    program = build(plan, ADDRESS, tmp_path)
    vector = int(dict(plan.definitions)["VECTOR"])
    for height, width in SIZES:
        width += -width % vector
        for border in ("zero", "mask"):
            finished = run(program, (2, channels, height, width), dtype, kernel_size_of(plan), border)
            assert finished.returncode == 0, (height, width, finished.stderr[:3000])


@pytest.mark.slow
def test_products_of_tf32_are_as_exact_as_float32(tmp_path):
    """Root mean squares of errors against float64; the emulated tensor cores cut every sum, as real ones may."""
    generator = torch.Generator().manual_seed(0)
    maps = {name: torch.randn((1, 33, 9, 20), generator=generator) for name in "qkvg"}
    q, k, v = (maps[name].double().requires_grad_() for name in "qkv")
    out, lse = oracle(q, k, v, 9, "zero", 33**-0.5)
    gradients = torch.autograd.grad(out, (q, k, v), maps["g"].double())
    out, lse = out.detach(), lse.detach()
    right = dict(zip(("out", "lse", "dq", "dk", "dv"), (out, lse, *gradients), strict=True))

    def errors(plan: Plan) -> dict[str, float]:
        (folder := tmp_path / plan.source).mkdir()
        found = results(build(plan, (), folder), maps, "zero", 33**-0.5)
        return {name: float((found[name] - x).norm() / x.norm()) for name, x in right.items()}

    of_tf32, of_float32 = errors(plan_for(TF32[0], F32, 33)), errors(STRIP[0])
    assert all(of_tf32[name] <= 2 * of_float32[name] for name in right), (of_tf32, of_float32)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("plan", "dtype", "shape"), [TENSOR_CORE, TF32, STRIP], ids=["tensor_core", "tf32", "strip"])
@pytest.mark.parametrize("scale", [0.0, -0.5, 6.0])
def test_any_scale(plan, dtype, shape, scale, tmp_path):
    program = build(plan, ADDRESS, tmp_path)
    for border in ("zero", "mask"):
        finished = run(program, shape, dtype, 9, border, scale)
        assert finished.returncode == 0, finished.stderr[:3000]
