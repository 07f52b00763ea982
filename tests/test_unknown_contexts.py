"""A context type that the table does not have is an error wherever a name of one is taken; nothing stands in for it."""

import pytest
import torch
from small_rooms import as_typed

from atrc_exp.config import DistillationConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, NONE, Genotype, candidates, context_type, in_order, uniform
from atrc_exp.models import SearchATRC
from atrc_exp.models.contexts import LocalContext, build_context, shared
from atrc_exp.models.contexts.attention_rows import attention_row
from atrc_exp.models.contexts.maps import Block, TaskMaps
from atrc_exp.models.distillation import build_distillation
from atrc_exp.report.figures import drawing

BLOCK = Block("a", "a", "locl")
CONTEXT, MAPS = LocalContext(4, 2).eval(), TaskMaps({"a": torch.zeros(1, 4, 3, 3)}, {}, None, {})
TAKERS = {
    "table": lambda: context_type("locl"),
    "order": lambda: in_order(["local", "locl"]),
    "candidates": lambda: candidates("a", "b", ["none", "locl"]),
    "uniform": lambda: uniform(["a"], "locl"),
    "genotype": lambda: Genotype(("a",), {"a": {"a": "locl"}}),
    "changed": lambda: uniform(["a"], NONE).changed({"a": {"a": "locl"}}),
    "module": lambda: build_context("locl", 4, 2),
    "no module": lambda: build_context(NONE, 4, 2),
    "block": lambda: BLOCK.regions,
    "shared work": lambda: shared.attend({BLOCK: CONTEXT}, MAPS),
    "attention row": lambda: attention_row(CONTEXT, BLOCK, MAPS, (0, 0)),
    "search": lambda: SearchATRC(("a",), 4, types=["none", "locl"]),
    "distillation": lambda: build_distillation(DistillationConfig(name="locl"), ("a",), 4),
    "figure's title": lambda: drawing.title("locl"),
    "figure's colour": lambda: drawing.fill("locl"),
    "curve": lambda: drawing.curve("locl"),
    "marker": lambda: drawing.marker("locl"),
    "genotype_blocks": lambda: as_typed("+experiment=rooms_hrnet18_atrc", "+genotype_blocks.depth.semseg=locl"),
    "search.candidates": lambda: as_typed("search.candidates=[none,locl]"),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_an_unknown_type_is_an_error(taker):
    with pytest.raises(UserError) as caught:
        TAKERS[taker]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "given"),
    [
        (["search.candidates=[none,local,none]"], "[none,local,none]"),
        (["search.candidates=[local]"], "[local]"),
        (["search.candidates=[]"], "[]"),
        (["search.candidates=[local,axial]", "distillation.self_attention=false"], "[local,axial]"),
    ],
)
def test_candidates_that_are_no_choice_are_refused(overrides, given):
    with pytest.raises(UserError, match=r"^search\.candidates=") as caught:
        as_typed(*overrides)
    assert given in str(caught.value).replace("'", "").replace(" ", "") and "\n" not in str(caught.value)


def test_candidates_reach_the_network_whatever_their_order():
    config = DistillationConfig(name="search")
    assert build_distillation(config, ("a", "b"), 4, None, ["axial", "none"]).types == ("none", "axial")
    assert build_distillation(config, ("a", "b"), 4).types == CONTEXTS
