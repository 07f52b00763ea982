"""Genotypes whose blocks have several contexts: their form, files, vote and agreement."""

import json
from collections import Counter

import pytest
from hydra import compose, initialize_config_dir

from atrc_exp.config.compose import CONF, typed
from atrc_exp.config.derived import genotype_of
from atrc_exp.errors import UserError
from atrc_exp.genotype import (
    Genotype,
    agreement,
    cohen_kappa,
    light_kappa,
    load,
    save,
    vote,
    vote_agreement,
)

TASKS = ("semseg", "depth")


def pair(*blocks, **details):
    """Genotype of two tasks from its four blocks, row by row."""
    rows = iter(blocks)
    return Genotype(TASKS, {t: {s: next(rows) for s in TASKS} for t in TASKS}, details)


def one(block):
    """Genotype with this first block."""
    return pair(block, "none", "local", "none")


# --- form and files


def test_a_set_has_one_form_whatever_its_order():
    found = pair("tlabel+local", "slabel+global+tlabel", "none", "local")
    assert found == pair("local+tlabel", "global+tlabel+slabel", "none", "local")
    assert found.blocks["semseg"] == {"semseg": "local+tlabel", "depth": "global+tlabel+slabel"}
    assert [found.types(t, s) for t, s in found.pairs()] == [
        ("local", "tlabel"), ("global", "tlabel", "slabel"), (), ("local",),
    ]  # fmt: skip
    assert pair("none", "none", "none", "none").changed({"depth": {"semseg": "tlabel+local"}}).blocks["depth"] == {
        "semseg": "local+tlabel", "depth": "none",
    }  # fmt: skip


@pytest.mark.parametrize("block", ["none+local", "local+local", "local+", "+", "local+Global", "tlabel+slabel"])
def test_what_is_no_set_is_refused(block):
    """The last one: T-label stands for S-label in a block from a task to itself."""
    with pytest.raises(UserError, match="semseg<-semseg") as caught:
        one(block)
    assert f"'{block}'" in str(caught.value) and "\n" not in str(caught.value)


def test_regions_of_all_contexts_of_a_block_are_read():
    both = pair("none", "tlabel+slabel", "local+global", "none")
    assert both.label_tasks() == TASKS


def test_files_with_sets_have_version_two_and_those_without_version_one(tmp_path):
    path = tmp_path / "genotype.json"
    for written, version in ((pair("none", "local", "slabel", "tlabel", step=3), 1),
                             (pair("none", "tlabel+local", "slabel", "tlabel", step=3), 2)):  # fmt: skip
        save(written, path)
        content = json.loads(path.read_text())
        assert content["version"] == version
        assert load(path) == written and load(path).details == {"step": 3}
        content["blocks"]["semseg"]["depth"] = "slabel+local+global"
        path.write_text(json.dumps(content | {"version": 2}))
        assert load(path).types("semseg", "depth") == ("global", "local", "slabel")


def test_blocks_of_the_command_line_come_in_any_order():
    def given(block):
        with initialize_config_dir(str(CONF), version_base=None):
            return typed(compose("config", ["+experiment=rooms_lite_atrc", f"+genotype_blocks.depth.semseg={block}"]))

    assert genotype_of(given("tlabel+local")).blocks["depth"]["semseg"] == "local+tlabel"
    with pytest.raises(UserError, match=r"genotype_blocks\.depth\.semseg=tlabel\+locl"):
        given("tlabel+locl")


# --- vote, by type: what more than half of the searches have, or else what most have


@pytest.mark.parametrize(
    ("chosen", "voted"),
    [
        (("local+tlabel", "global+local", "global+tlabel"), "global+local+tlabel"),  # two of three each
        (("local+tlabel", "local+tlabel", "local", "global", "none"), "local"),  # local 3 of 5, T-label 2
        (("local+tlabel", "local+tlabel", "local+slabel", "tlabel"), "local+tlabel"),  # 3 of 4 both
        (("local+tlabel", "local", "none", "none", "none"), "none"),
        (("local+tlabel", "global+local", "slabel", "none", "none", "local"), "local"),  # 3 of 6, the most
        (("local+tlabel",), "local+tlabel"),
    ],
)
def test_searches_vote_by_type(chosen, voted):
    found = vote([pair("none", block, "local", "none") for block in chosen])
    assert found.blocks["semseg"]["depth"] == voted
    assert found.details["ties"] == []
    counted = {name: n for name, n in found.details["votes"]["semseg"]["depth"].items() if n}
    assert counted == Counter(chosen)


def test_types_that_tie_below_half_are_told_apart_as_those_of_single_contexts():
    """Local and none have two of four searches, so neither more than half; without probabilities the table decides."""
    found = vote([one(block) for block in ("local+tlabel", "global+local", "none", "none")])
    (tie,) = found.details["ties"]
    assert tie["tied"] == ["none", "local"] and tie["chosen"] == found.blocks["semseg"]["semseg"] == "none"


# --- agreement: the Jaccard index of two sets in place of 1 for equal types


def test_agreement_and_kappa_of_worked_sets():
    """The blocks overlap by 1/2, 1, 1 and 0. Of the 16 pairs of a block of each run, local+tlabel overlaps by 1/2 with
    two local and with one tlabel, local with two local and none with one none: 4.5 in all."""
    runs = [pair("local+tlabel", "local", "none", "global"), pair("local", "local", "none", "tlabel")]
    assert agreement(runs) == 5 / 8
    assert light_kappa(runs) == pytest.approx((5 / 8 - 9 / 32) / (1 - 9 / 32))
    assert cohen_kappa(["local+tlabel", "none"], ["local+tlabel", "none"]) == 1


def test_agreement_on_the_blocks_has_the_agreement_of_the_runs_as_mean():
    runs = [pair("local+tlabel", "none", "local+global", "tlabel"), pair("local", "none", "local", "global+tlabel"),
            pair("local+tlabel", "local", "global", "none")]  # fmt: skip
    votes = vote(runs).details["votes"]
    blocks = [vote_agreement(votes[t][s]) for t, s in runs[0].pairs()]
    assert None not in blocks and sum(blocks) / 4 == pytest.approx(agreement(runs))
