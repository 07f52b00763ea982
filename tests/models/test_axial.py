"""The axial context against loops over the cross of every pixel, its mask, and its attention row."""

import math

import pytest
import torch
from context_oracle import C, D, as_map, dot, mix, pixels, project, random_norms, relu, softmax

from atrc_exp.models.contexts.attention_rows import attention_row
from atrc_exp.models.contexts.axial import AxialContext
from atrc_exp.models.contexts.maps import Block, TaskMaps

SIZES = [(4, 5), (3, 3), (1, 7), (6, 1), (1, 1)]


def cross(cell: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Positions in the row and the column of a cell, which itself is there once."""
    return [(y, x) for y in range(size[0]) for x in range(size[1]) if y == cell[0] or x == cell[1]]


def random_mask(size: tuple[int, int]) -> torch.Tensor:
    """Half of the positions are padding; one row and one column wholly, so that their crossing has no key."""
    mask = torch.rand(2, 1, *size) > 0.5
    mask[0, 0, 0], mask[0, 0, :, 0] = False, False
    return mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_axial_context_is_softmax_over_row_and_column(size, masked):
    target, source = (torch.randn(2, C, *size, dtype=torch.float64) for _ in range(2))
    context = random_norms(AxialContext(C, D))
    mask = random_mask(size) if masked else None
    result = context(target, source, mask)
    height, width = size
    for b in range(2):
        q = [project(context.query, p, relu) for p in pixels(target[b])]
        k = [project(context.key, p, relu) for p in pixels(source[b])]
        v = [project(context.value, p, relu) for p in pixels(source[b])]
        rows = []
        for cell in ((i, j) for i in range(height) for j in range(width)):
            keys = [y * width + x for y, x in cross(cell, size) if mask is None or mask[b, 0, y, x]]
            scores = [dot(q[cell[0] * width + cell[1]], k[n]) / math.sqrt(D) for n in keys]
            rows.append(mix(softmax(scores) if scores else [], [v[n] for n in keys]))
        torch.testing.assert_close(result[b], as_map(rows, size), rtol=1e-10, atol=1e-12)
    assert not masked or not result[0, :, 0, 0].any()  # no key was left


def test_the_cross_has_one_position_less_than_rows_and_columns():
    """Even scores give every position the weight 1 / (h + w - 1), the pixel itself among them."""
    value = torch.eye(20, dtype=torch.float64).view(1, 20, 4, 5)
    weights = AxialContext(C, D).attend(*torch.zeros(2, 1, D, 4, 5, dtype=torch.float64), value)[0, :, 1, 3]
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for position in cross((1, 3), (4, 5)):
        expected[position] = 1 / 8
    torch.testing.assert_close(weights.view(4, 5), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_the_weights_that_one_hot_values_show(masked):
    size, block = (4, 5), Block("a", "b", "axial")
    features = {task: torch.randn(2, C, *size, dtype=torch.float64) for task in "ab"}
    mask = random_mask(size) if masked else None
    context = random_norms(AxialContext(C, D))
    one_hot = torch.eye(20, dtype=torch.float64).view(1, 20, *size).repeat(2, 1, 1, 1)
    shown = context.attend(context.query(features["a"]), context.key(features["b"]), one_hot, mask)[0]
    for cell in ((0, 0), (1, 3), (3, 4)):
        row = attention_row(context, block, TaskMaps(features, {}, mask, {}), cell)
        torch.testing.assert_close(row.weights, shown[:, cell[0], cell[1]].view(size))
        left = any(mask is None or mask[0, 0, y, x] for y, x in cross(cell, size))
        assert float(row.weights.sum()) == pytest.approx(float(left)) and row.beyond == 0
        assert row.regions is row.sizes is row.window is None


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_gradients_are_finite_where_no_key_is_left(dtype):
    context, mask = AxialContext(C, D), torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    mask[1] = True
    source = (10 * torch.randn(2, C, 4, 5)).requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        result = context(source, source, mask)
    assert not result[0].any() and result[1].any()
    result.float().square().sum().backward()
    assert source.grad.isfinite().all() and all(p.grad.isfinite().all() for p in context.parameters())
