"""The model of the kernels' times counts what the sources say, and bounds occupancy as CUDA does."""

import pytest
import torch

from atrc_exp.kernels import model
from atrc_exp.kernels.plan import Unsupported, make_plan, strip_plan

SHAPE = (8, 33, 107, 140)


def rows(device: str, dtype: torch.dtype) -> dict[str, dict]:
    try:
        return {row["kernel"]: row for row in model.estimate(device, SHAPE, dtype)}
    except (Unsupported, RuntimeError, OSError) as error:
        pytest.skip(f"NVRTC or nvdisasm is not here: {error}")


def test_matrix_products_of_the_tensor_core_kernels():
    """A key row at 40 channels: 6 products over channels and 5 over pixels, of which dq and dkv take two each."""
    found = {kernel: row["classes"]["matrix"] for kernel, row in rows("A100", torch.bfloat16).items()}
    assert found == {"forward": 10 * (6 + 5), "dq": 10 * (6 + 6 + 5), "dkv": 10 * (6 + 6 + 5 + 5)}


def test_matrix_products_of_float32():
    """Three for one: a key row takes 5 x 2 of 8 channels and 8 keys, and 2 x 5 of 8 keys and 8 channels."""
    found = {kernel: row["classes"]["matrix"] for kernel, row in rows("H200", torch.float32).items()}
    assert found == {"forward": 10 * 3 * (10 + 10), "dq": 10 * 3 * (20 + 10), "dkv": 10 * 3 * (20 + 20)}


def test_multiply_adds_of_the_strip_kernels():
    """72 a channel for scores and for sums, of 36 channels with the padding of the last chunk."""
    found = {kernel: row["classes"]["fma"] for kernel, row in rows("RTX 4090", torch.float32).items()}
    for kernel, products in {"forward": 2, "dq": 3, "dkv": 4}.items():
        assert 1 <= found[kernel] / (products * 72 * 36) < 1.1, kernel


def test_floor_is_that_of_the_notes():
    row = rows("H200", torch.float32)["forward"]
    assert row["floor_us"] == pytest.approx(19.1, abs=0.1) and row["bound_us"] > row["floor_us"]


def test_loops_count_once_a_chunk():
    listing = [("MOV", ""), ("", ".L_x_1"), ("FFMA", "R0"), ("BRA", "`(.L_x_1)"), ("BRA", "`(.L_x_2)"), ("LDS", "R1"),
               ("", ".L_x_2"), ("EXIT", ""), ("", ".L_x_3"), ("BRA", "`(.L_x_3)"), ("NOP", "")]  # fmt: skip
    assert model.count(listing, 9, 10) == {"MOV": 1, "FFMA": 9, "BRA": 9 + 1 + 1, "LDS": 1, "EXIT": 1}


def test_loops_with_matrix_products_count_once_a_group_of_key_rows():
    listing = [("", ".L_x_1"), ("HMMA.1688", "R0"), ("LDS", "R1"), ("BRA", "`(.L_x_1)")]
    assert model.count(listing, 9, 10) == {"HMMA.1688": 10, "LDS": 10, "BRA": 10}


@pytest.mark.parametrize(
    ("registers", "device", "warps"),
    # 5 warps a block; 128 registers leave 4 warps a scheduler, 136 three; an RTX holds one block by shared memory.
    [(128, "H200", 15), (136, "H200", 10), (255, "H200", 5), (128, "A100", 10), (128, "RTX 4090", 5)],
)
def test_resident_warps(registers, device, warps):
    machine = model.DEVICES[device]
    plan = strip_plan(torch.float32, 9, 4, machine.shared_kib * 1024)
    assert model.resident_warps(plan, "forward", registers, machine) == warps


@pytest.mark.parametrize(("warps", "factor"), [(2, 2), (4, 1), (5, 1.6), (15, 16 / 15), (16, 1)])
def test_imbalance_of_schedulers(warps, factor):
    assert model.imbalance(warps) == pytest.approx(factor)


def test_halo_of_a_tile():
    assert model.halo(make_plan(torch.float32, 33, 9, 4, 227 * 1024)) == 16 * 24 / 128
