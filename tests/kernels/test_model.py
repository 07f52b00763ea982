"""The model of the kernels' times counts what the sources say, and bounds occupancy as CUDA does."""

import pytest
import torch

from atrc_exp.kernels import model
from atrc_exp.kernels.plan import Unsupported, make_plan

SHAPE = (8, 33, 107, 140)


def rows(dtype: torch.dtype) -> dict[str, dict]:
    try:
        return {row["kernel"]: row for row in model.estimate("A100", SHAPE, dtype)}
    except (Unsupported, RuntimeError, OSError) as error:
        pytest.skip(f"NVRTC or nvdisasm is not here: {error}")


def test_matrix_products_of_the_tensor_core_kernels():
    """A key row at 40 channels: 6 products over channels and 5 over pixels, of which dq and dkv take two each."""
    found = {kernel: row["classes"]["matrix"] for kernel, row in rows(torch.bfloat16).items()}
    assert found == {"forward": 10 * (6 + 5), "dq": 10 * (6 + 6 + 5), "dkv": 10 * (6 + 6 + 5 + 5)}


def test_multiply_adds_of_the_strip_kernels():
    """72 a channel for scores and for sums, of 36 channels with the padding of the last chunk."""
    found = {kernel: row["classes"]["fma"] for kernel, row in rows(torch.float32).items()}
    for kernel, products in {"forward": 2, "dq": 3, "dkv": 4}.items():
        assert 1 <= found[kernel] / (products * 72 * 36) < 1.1, kernel


def test_floor_is_that_of_the_notes():
    try:
        row = model.estimate("H200", SHAPE, torch.float32)[0]
    except (Unsupported, RuntimeError, OSError) as error:
        pytest.skip(f"NVRTC or nvdisasm is not here: {error}")
    assert row["floor_us"] == pytest.approx(19.1, abs=0.1) and row["bound_us"] > row["floor_us"]


def test_loops_count_once_a_chunk():
    listing = [("MOV", ""), ("", ".L_x_1"), ("FFMA", "R0"), ("BRA", "`(.L_x_1)"), ("BRA", "`(.L_x_2)"), ("LDS", "R1"),
               ("", ".L_x_2"), ("EXIT", ""), ("", ".L_x_3"), ("BRA", "`(.L_x_3)"), ("NOP", "")]  # fmt: skip
    assert model.count(listing, 9) == {"MOV": 1, "FFMA": 9, "BRA": 9 + 1 + 1, "LDS": 1, "EXIT": 1}


@pytest.mark.parametrize(
    ("registers", "device", "warps"),
    # 5 warps a block; 128 registers leave 4 warps a scheduler, 136 three; an RTX holds one block by shared memory.
    [(128, "H200", 15), (136, "H200", 10), (255, "H200", 5), (128, "A100", 10), (128, "RTX 4090", 5)],
)
def test_resident_warps(registers, device, warps):
    machine = model.DEVICES[device]
    plan = make_plan(torch.float32, 33, 9, 4, machine.shared_kib * 1024)
    assert model.resident_warps(plan, "forward", registers, machine) == warps


def test_halo_of_a_tile():
    assert model.halo(make_plan(torch.float32, 33, 9, 4, 227 * 1024)) == 16 * 24 / 128
