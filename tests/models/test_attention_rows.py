"""A row of an attention matrix, applied to the values, is the block's output at the pixel."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from atrc_exp.genotype import CONTEXT_TYPES, CONTEXTS, Genotype, uniform
from atrc_exp.models import ATRC
from atrc_exp.models.contexts.attention_rows import AttentionRow, attention_row, region_sizes
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.contexts.regions import region_means
from atrc_exp.models.inspection import BlockView

TASKS = ("a", "b")
CHANNELS, SIZE, WINDOW = 8, (6, 9), 5
TYPES = {"a": {"a": "global", "b": "slabel"}, "b": {"a": "local", "b": "tlabel"}}
NEW = {name: uniform(TASKS, name).blocks for name in CONTEXT_TYPES if name not in CONTEXTS}
CELLS = [(0, 0), (3, 4), (5, 8), (0, 5)]
Types = Mapping[str, Mapping[str, str]]


class Stub:
    """As much of a network as a view reads."""

    def __init__(self, module: ATRC) -> None:
        self.distillation = module


def seen(
    border: str = "zero", types: Types = TYPES, **inputs: Tensor | dict[str, Tensor]
) -> tuple[BlockView, TaskMaps, dict[Block, Tensor]]:
    """A module with random statistics after one pass in evaluation, with its maps and outputs."""
    module = ATRC(Genotype(TASKS, types), CHANNELS, kernel_size=WINDOW, border=border, mask_padding="valid" in inputs)
    features = {task: 2 * torch.randn(1, CHANNELS, *SIZE) for task in TASKS}
    logits = {task: 3 * torch.randn(1, regions, *SIZE) for task, regions in (("a", 3), ("b", 4))}
    module({task: torch.randn(4, CHANNELS, *SIZE) for task in TASKS},
           {task: torch.randn(4, x.shape[1], *SIZE) for task, x in logits.items()})  # fmt: skip
    view = BlockView(Stub(module.eval()))  # type: ignore[arg-type]
    with view.watching() as look, torch.no_grad():
        module(features, logits, **inputs)
        (maps,), outputs = look()
        return view, maps, outputs


def row_of(view: BlockView, maps: TaskMaps, block: Block, cell: tuple[int, int]) -> AttentionRow:
    with torch.no_grad():
        return attention_row(view.context(block), block, maps, cell)


def check(view: BlockView, maps: TaskMaps, outputs: dict[Block, Tensor], present: float = 1.0) -> None:
    for block, cell in itertools.product(outputs, CELLS):
        row, context = row_of(view, maps, block, cell), view.context(block)
        source = maps.features[block.source]
        with torch.no_grad():
            if row.regions is None:
                pooled = torch.einsum("hw,chw->c", row.weights, context.value(source)[0])
            else:
                prototypes = region_means(source, maps.regions[block.regions])
                pooled = context.value(prototypes)[0, :, :, 0] @ row.regions
                # The weights of positions are linear in the densities, and so is the pooled source.
                assert torch.allclose(torch.einsum("hw,chw->c", row.weights, source[0]),
                                      prototypes[0, :, :, 0] @ row.regions, atol=1e-5)  # fmt: skip
        assert torch.allclose(pooled, outputs[block][0, :, cell[0], cell[1]], atol=1e-5), (block, cell)
        assert row.weights.shape == SIZE and float(row.weights.min()) >= 0
        assert float(row.weights.sum()) + row.beyond == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("border", ["zero", "mask"])
def test_rows_applied_to_values_are_the_outputs(border):
    check(*seen(border))


@pytest.mark.parametrize("name", NEW)
def test_rows_of_types_that_are_not_the_papers(name):
    check(*seen(types=NEW[name]))


@pytest.mark.parametrize("types", [TYPES, NEW["axial"]])
def test_padding_has_no_weight_where_it_is_masked(types):
    valid = torch.ones(1, 1, *SIZE, dtype=torch.bool)
    valid[..., 6:] = False
    view, maps, outputs = seen(types=types, valid=valid)
    check(view, maps, outputs)
    for block in outputs:
        weights = row_of(view, maps, block, (3, 4)).weights
        assert (block.context == "local") == bool(weights[:, 6:].any())


def test_regions_without_pixels_have_neither_weight_nor_size():
    regions = {"a": torch.randint(0, 3, (1, *SIZE)), "b": torch.randint(0, 3, (1, *SIZE))}
    counts = {"a": 3, "b": 4}
    masks = {task: torch.stack([regions[task] == r for r in range(counts[task])], 1).float() for task in TASKS}
    densities = {task: m / m.sum((2, 3), keepdim=True).clamp(min=1) for task, m in masks.items()}
    view, maps, outputs = seen(densities=densities)
    check(view, maps, outputs)
    row = row_of(view, maps, Block("a", "b", "slabel"), (3, 4))
    assert row.regions is not None and row.sizes is not None
    assert row.regions[3] == row.sizes[3] == 0
    assert torch.allclose(row.sizes, masks["b"][0].mean((1, 2)))


def test_local_rows_see_their_window_alone_and_lose_weight_at_the_border():
    view, maps, _ = seen("zero")
    block = Block("b", "a", "local")
    weights = row_of(view, maps, block, (3, 4)).weights
    assert row_of(view, maps, block, (3, 4)).window == (slice(1, 6), slice(2, 7))
    assert bool((weights[1:6, 2:7] > 0).all()) and float(weights[1:6, 2:7].sum()) == pytest.approx(1, abs=1e-6)
    corner = row_of(view, maps, block, (0, 0))
    assert int((corner.weights > 0).sum()) == 9 and corner.beyond > 0
    assert row_of(*seen("mask")[:2], block, (0, 0)).beyond == 0


def test_region_sizes_by_hand():
    even, one = torch.full((2, 3), 1 / 6), torch.zeros(2, 3)
    one[1, 2] = 1
    half = torch.tensor([[0.75, 0.25, 0], [0, 0, 0]])  # 1 / (6 (9 + 1) / 16)
    sizes = region_sizes(torch.stack([even, one, half, torch.zeros(2, 3)]))
    assert torch.allclose(sizes, torch.tensor([1, 1 / 6, 16 / 60, 0]))
