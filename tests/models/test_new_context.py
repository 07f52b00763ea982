"""A type that the package has never heard of needs its class and its entry: it is searched, stored, voted and built."""

import pytest
import torch
from block_oracle import training_step, with_shared_work
from matplotlib.colors import to_hex
from torch import Tensor

from atrc_exp.genotype import CONTEXT_TYPES, ContextType, load, save, uniform, vote
from atrc_exp.models import ATRC, SearchATRC
from atrc_exp.models.contexts.attention_rows import attention_row
from atrc_exp.models.contexts.base import KeyWeights, RelationalContext
from atrc_exp.models.contexts.maps import Block, task_maps
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.report import votes
from atrc_exp.report.figures import proportions

TASKS, C = ("semseg", "depth"), 6


class PixelContext(RelationalContext):
    """A pixel takes as much of the source pixel below it as a sigmoid of their similarity says."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query * key).sum(1, keepdim=True).sigmoid() * value

    def row(self, query: Tensor, key: Tensor, cell: tuple[int, int]) -> KeyWeights:
        weights = key.new_zeros(key.shape[1:])
        weights[cell] = (query @ key[:, cell[0], cell[1]]).sigmoid()
        return KeyWeights(weights, beyond=1 - float(weights.sum()))


@pytest.fixture(autouse=True)
def _entry(monkeypatch):
    home = f"{__name__}.{PixelContext.__name__}"
    monkeypatch.setitem(CONTEXT_TYPES, "pixel", ContextType("pixel", "pixel", "p", "#123456", "#654321", "here", home))


def inputs():
    features = {task: torch.randn(2, C, 4, 5, dtype=torch.float64) for task in TASKS}
    return features, {task: torch.randn(2, 3, 4, 5, dtype=torch.float64) for task in TASKS}


def test_it_is_searched_stored_voted_and_built(tmp_path):
    search = SearchATRC(TASKS, C, kernel_size=3, types=["none", "pixel", "slabel"]).double()
    features, logits = inputs()
    sample = ArchSample(0.7, gumbel_noise(4, 0, 0, len(search.types)))
    shared, plain = (training_step(with_shared_work(search, how), features, logits, sample) for how in (True, False))
    torch.testing.assert_close(shared[0], plain[0])
    with torch.no_grad():
        search.arch[:, search.types.index("pixel")] = 1.0
    save(search.genotype(), tmp_path / "genotype.json")
    found = vote([load(tmp_path)] * 2)
    assert found == uniform(TASKS, "pixel")
    assert found.details["votes"]["depth"]["semseg"] == {"none": 0, "slabel": 0, "pixel": 2}
    module = ATRC(found, C, dropout=0.0).double()
    assert module.label_tasks == () and "blocks.depth.semseg.pixel.query.0.weight" in module.state_dict()
    shared, plain = (training_step(with_shared_work(module, how), features, {}) for how in (True, False))
    torch.testing.assert_close(shared[0], plain[0])


def test_its_attention_row_is_its_output():
    module, (features, _) = ATRC(uniform(TASKS, "pixel"), C).double().eval(), inputs()
    block, maps = Block("depth", "semseg", "pixel"), task_maps(features, {}, None)
    context = module.blocks["depth"]["semseg"]["pixel"]
    with torch.no_grad():
        row = attention_row(context, block, maps, (1, 2))
        pooled = torch.einsum("hw,chw->c", row.weights, context.value(features["semseg"])[0])
        torch.testing.assert_close(pooled, module.blocks([block], maps)[block][0, :, 1, 2])


def test_figures_show_it():
    voted = vote([uniform(TASKS, "pixel")])
    colours = {to_hex(patch.get_facecolor()) for patch in votes.draw(voted).axes[0].patches}
    assert "#123456" in colours
    bars = proportions.draw([proportions.proportions("run", [voted])]).axes[0].patches
    assert [bar.get_width() for bar in bars if to_hex(bar.get_facecolor()) == "#123456"] == [100]
