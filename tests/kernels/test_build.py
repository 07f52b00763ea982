"""Compiling at run time: targets, and a cache that may be shared, unwritable or corrupt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atrc_exp.kernels import build
from atrc_exp.kernels.plan import Unsupported, make_plan, strip_plan

HOPPER, HOPPER_SHARED = (9, 0), 227 * 1024
PLAN = strip_plan(torch.float32, 9, 1, HOPPER_SHARED)


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    """Stand-ins for the sources that compile in no time."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in build.HEADERS:
        (folder / name).write_text("")
    (folder / PLAN.source).write_text('extern "C" __global__ void f(float* x) { *x = VECTOR; }')
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


@pytest.fixture
def nvrtc():
    try:
        module = build.load_nvrtc()
        module.nvrtcVersion()
    except (Unsupported, RuntimeError, OSError) as error:
        pytest.skip(f"NVRTC is not here: {error}")
    return module


def cached_files(cache_home: Path) -> list[Path]:
    return [path for path in cache_home.rglob("*") if path.is_file()]


def test_second_time_comes_from_the_cache(nvrtc, cache_home, monkeypatch):
    code = build.machine_code(PLAN, HOPPER)
    assert code.startswith(b"\x7fELF") and len(cached_files(cache_home)) == 1
    monkeypatch.setattr(build, "compile_plan", None)
    assert build.machine_code(PLAN, HOPPER) == code


def test_other_source_constants_or_device_are_other_entries(nvrtc, cache_home, sources):
    build.machine_code(PLAN, HOPPER)
    build.machine_code(PLAN, (8, 0))
    build.machine_code(strip_plan(torch.float32, 9, 2, HOPPER_SHARED), HOPPER)
    (sources / build.HEADERS[0]).write_text("// changed")
    build.machine_code(PLAN, HOPPER)
    assert len(cached_files(cache_home)) == 4


def test_another_nvrtc_is_another_entry(nvrtc, cache_home, monkeypatch):
    """Its code may be better, or right where that of the old one was wrong."""
    build.machine_code(PLAN, HOPPER)
    success, major, minor = nvrtc.nvrtcVersion()
    monkeypatch.setattr(nvrtc, "nvrtcVersion", lambda: (success, major, minor + 1))
    build.machine_code(PLAN, HOPPER)
    assert len(cached_files(cache_home)) == 2


@pytest.mark.parametrize("damage", [b"", b"short", "flip"])
def test_corrupt_entry_is_compiled_again(nvrtc, cache_home, damage):
    code = build.machine_code(PLAN, HOPPER)
    (entry,) = cached_files(cache_home)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage == "flip" else damage)
    assert build.machine_code(PLAN, HOPPER) == code
    assert entry.read_bytes() == whole


def test_cache_that_cannot_be_written_is_harmless(nvrtc, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build.machine_code(PLAN, HOPPER).startswith(b"\x7fELF")


@pytest.mark.slow
def test_two_processes_fill_the_cache_at_once(nvrtc, cache_home, sources):
    program = (
        "import sys, pathlib, torch; from atrc_exp.kernels import build, plan\n"
        "build.SOURCES = pathlib.Path(sys.argv[1])\n"
        "print(len(build.machine_code(plan.strip_plan(torch.float32, 9, 1, 2**17), (9, 0))))"
    )
    command = [sys.executable, "-c", program, str(sources)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    sizes = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (entry,) = cached_files(cache_home)
    assert sizes == {str(entry.stat().st_size - build.DIGEST_BYTES)}


def test_missing_binding_is_unsupported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(Unsupported, match=r"cuda\.bindings cannot be imported"):
        build.machine_code(PLAN, HOPPER)


def test_missing_library_is_unsupported(nvrtc, monkeypatch):
    def missing():
        raise RuntimeError("libnvrtc.so was not found")

    monkeypatch.setattr(nvrtc, "nvrtcGetSupportedArchs", missing)
    with pytest.raises(Unsupported, match=r"libnvrtc\.so was not found"):
        build.machine_code(PLAN, HOPPER)


def test_source_that_does_not_compile_is_unsupported(nvrtc, sources):
    (sources / PLAN.source).write_text("this is no C++")
    with pytest.raises(Unsupported, match=r"strip\.cu does not compile for sm_90[\s\S]*error"):
        build.machine_code(PLAN, HOPPER)


@pytest.mark.parametrize(
    ("capability", "target"),
    [((8, 0), "sm_80"), ((9, 0), "sm_90"), ((12, 0), "compute_100"), ((8, 6), "compute_80")],
)
def test_target_is_the_device_or_the_next_older(capability, target):
    assert build.choose_target(capability, [75, 80, 90, 100]) == target


@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_device_without_a_target_is_unsupported(capability):
    with pytest.raises(Unsupported, match=f"compute capability {capability[0]}.{capability[1]}"):
        build.choose_target(capability, [75, 90])


def test_ptx_for_devices_that_nvrtc_does_not_know(nvrtc):
    code, _ = build.compile_plan(PLAN, "compute_80")
    assert b".target sm_80" in code
    assert bytes([32])[0] == 32  # an empty log is one byte long, and bytes of length 1 are shared by all of Python


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.float64, 8, 9, 1, 2**17), "dtype torch.float64"),
        ((torch.float32, 129, 9, 1, 2**17), "129 channels"),
        ((torch.float32, 8, 17, 1, 2**17), "kernel size 17"),
        ((torch.bfloat16, 8, 9, 1, 1000), "1000 bytes of shared memory"),
    ],
)
def test_plans_have_limits(arguments, message):
    with pytest.raises(Unsupported, match=message):
        make_plan(*arguments)


def test_plans_take_what_fits():
    hopper, ada = HOPPER_SHARED, 99 * 1024
    assert make_plan(torch.bfloat16, 90, 9, 4, hopper).tile == (8, 16)
    assert make_plan(torch.bfloat16, 90, 9, 4, ada).tile == (4, 8)
    assert make_plan(torch.bfloat16, 128, 9, 4, ada).source == "strip.cu"
    assert make_plan(torch.bfloat16, 16, 11, 4, hopper).source == "strip.cu"
    assert make_plan(torch.float32, 49, 9, 2, hopper).source == "strip.cu"
    assert dict(make_plan(torch.bfloat16, 33, 9, 2, hopper).definitions)["VECTOR"] == 2
    for dtype in (torch.float32, torch.float16):
        for kernel_size in range(1, 16, 2):
            for channels in (1, 128):
                make_plan(dtype, channels, kernel_size, 1, ada)


@pytest.mark.parametrize(
    ("dtype", "channels", "kernel_size", "shared_kib", "blocks"),
    # Of a multiprocessor with 1 KiB more, a block takes 1 KiB more than its own: in float32 by strips at K = 9 65 KiB
    # (dkv 68.5) and 5 warps of the 16 (backward 8), at K = 15 15 warps; in bfloat16 72.9, 84.5 and 86.5 KiB and 8 warps
    # of 16; in float32 on tensor cores 144.8, 167 and 169 KiB, and in the tile that fits 163 KiB 94.8, 106.5 and 108.
    [
        (torch.float32, 64, 9, 227, (3, 1, 1)),
        (torch.float32, 64, 9, 163, (2, 1, 1)),
        (torch.float32, 33, 9, 99, (1, 1, 1)),
        (torch.float32, 33, 15, 227, (1, 1, 1)),
        (torch.float32, 33, 9, 227, (1, 1, 1)),
        (torch.float32, 33, 9, 163, (1, 1, 1)),
        (torch.bfloat16, 33, 9, 227, (2, 2, 2)),
        (torch.bfloat16, 33, 9, 163, (2, 1, 1)),
    ],
    ids=str,
)
def test_blocks_that_share_a_multiprocessor(dtype, channels, kernel_size, shared_kib, blocks):
    constants = dict(make_plan(dtype, channels, kernel_size, 4, shared_kib * 1024).definitions)
    assert tuple(constants[f"{name}_BLOCKS"] for name in ("FORWARD", "DQ", "DKV")) == blocks
