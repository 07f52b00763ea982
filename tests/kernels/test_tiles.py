"""Which kernels and tiles are chosen, by worked numbers of shared memory.

A map of the tensor-core kernels takes (pixels + 8) elements for each of its channels, padded to a multiple of 8; a
block of dkv, the largest, two maps with halo, two without, and 8 bytes for each pixel of a halo. At kernel size 9 a
tile of 8 x 16 has 384 pixels with halo, 8 x 8 has 256, 4 x 8 has 192.
"""

import pytest
import torch

from atrc_exp.kernels.plan import make_plan

HOPPER, AMPERE, CONSUMER = 232448, 166912, 101376  # bytes that a block may ask for: compute capability 9.0, 8.0, 8.9
F32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("dtype", "channels", "limit", "tile", "largest"),
    [
        (BF16, 33, HOPPER, (8, 16), 2 * 40 * (2 * 392 + 2 * 136) + 8 * 384),
        (BF16, 90, HOPPER, (8, 16), 2 * 96 * (2 * 392 + 2 * 136) + 8 * 384),
        (BF16, 90, AMPERE, (8, 8), 2 * 96 * (2 * 264 + 2 * 72) + 8 * 256),  # 205824 do not fit
        (BF16, 90, CONSUMER, (4, 8), 2 * 96 * (2 * 200 + 2 * 40) + 8 * 192),
        (F32, 33, HOPPER, (8, 16), 4 * 40 * (2 * 392 + 2 * 136) + 8 * 384),
        (F32, 48, HOPPER, (8, 16), 4 * 48 * (2 * 392 + 2 * 136) + 8 * 384),
        (F32, 33, AMPERE, (8, 8), 4 * 40 * (2 * 264 + 2 * 72) + 8 * 256),  # 172032 do not fit
    ],
)
def test_tensor_cores_take_the_largest_tile_that_fits(dtype, channels, limit, tile, largest):
    plan = make_plan(dtype, channels, 9, 4, limit)
    assert (plan.source, plan.tile, plan.shared_bytes["dkv"]) == ("tensor_core.cu", tile, largest)
    assert max(plan.shared_bytes.values()) == largest <= limit


@pytest.mark.parametrize(
    ("dtype", "channels", "kernel_size", "limit"),
    [
        (F32, 49, 9, HOPPER),  # the parts of a map would not fit the registers
        (F32, 33, 9, CONSUMER),  # slow TF32
        (F32, 33, 11, HOPPER),
        (BF16, 33, 11, HOPPER),
        (BF16, 128, 9, CONSUMER),  # 124416 bytes for a tile of 4 x 8
    ],
)
def test_strips_take_the_rest(dtype, channels, kernel_size, limit):
    plan = make_plan(dtype, channels, kernel_size, 4, limit)
    assert plan.source == "strip.cu" and max(plan.shared_bytes.values()) <= limit
