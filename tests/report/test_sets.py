"""Searches whose blocks have several contexts, in the vote, the figures, the table of agreement and the Explorer."""

import pytest
from matplotlib.colors import to_rgb

from atrc_exp.evaluation.panels import genotype_map
from atrc_exp.genotype import CONTEXT_TYPES, Genotype, load, save
from atrc_exp.report import votes
from atrc_exp.report.figures import proportions
from atrc_exp.report.page import explorer
from atrc_exp.report.results import overview
from atrc_exp.report.results.reliability import chance

TASKS = ("semseg", "depth")


@pytest.fixture
def searches(runs_dir, make_search):
    """Three searches that agree but for semseg <- depth: twice local and T-label, once local."""
    for seed, block in enumerate(("tlabel+local", "local+tlabel", "local")):
        run = make_search("search", seed, " ".join(TASKS), "nl tl")
        save(load(run).changed({"semseg": {"depth": block}}), run / "genotype.json")
    return runs_dir / "search"


def test_table_and_figure_show_how_many_searches_have_each_type(searches, capsys):
    voted = votes.vote_folder(searches)
    assert load(searches).blocks["semseg"]["depth"] == voted.blocks["semseg"]["depth"] == "local+tlabel"
    votes.show(voted)
    assert "local+tlabel 3+2/3" in capsys.readouterr().out
    axes = votes.draw(voted).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[2:4] == ["local\nT-label", "3+2 of 3"] and texts[4:6] == ["T-label", "3 of 3"]

    cell, _, strip, *boxes = axes.patches[6 : 6 + 8]  # behind the block before, with three votes
    columns = {}
    for box in boxes:
        columns.setdefault(round(box.get_x(), 6), []).append(box)
    assert [len(column) for column in columns.values()] == [1, 2, 2]
    local, tlabel = (to_rgb(CONTEXT_TYPES[name].colour) for name in ("local", "tlabel"))
    for column in columns.values():
        assert sum(box.get_height() for box in column) == pytest.approx(boxes[0].get_height())
        assert [box.get_facecolor()[:3] for box in column] == [local, tlabel][: len(column)]
    mean = [(a + b) / 2 for a, b in zip(local, tlabel, strict=True)]
    assert cell.get_facecolor()[:3] == pytest.approx(mean, abs=1 / 255) and strip.get_facecolor()[:3] == (1, 1, 1)


def test_a_block_counts_in_equal_parts_for_its_contexts(searches):
    found = proportions.proportions("search", [load(searches / f"seed{seed}") for seed in range(3)])
    assert found.shares == pytest.approx({"none": 3 / 12, "global": 0, "local": 5 / 12, "tlabel": 4 / 12, "slabel": 0})


def test_chance_is_the_mean_overlap_of_all_pairs_of_blocks():
    """16 pairs of a block of each: local+tlabel overlaps by 1/2 with three, the others are equal in three."""
    first, second = ("local+tlabel", "local", "none", "global"), ("local", "local", "none", "tlabel")
    runs = [
        Genotype(TASKS, {t: dict(zip(TASKS, row[2 * i : 2 * i + 2], strict=True)) for i, t in enumerate(TASKS)})
        for row in (first, second)
    ]
    found = chance(runs)
    assert found.agreement == pytest.approx(4.5 / 16, abs=0.01)


def test_the_explorer_knows_every_set_and_counts_by_type(searches, runs_dir):
    data = explorer.collect(overview.read(runs_dir))
    (search,) = data["searches"]
    block = search["vote"]["blocks"]["semseg"]["depth"]
    assert block["chosen"] == "local+tlabel" == search["seeds"][1]["chosen"]["semseg"]["depth"]
    assert {name: count for name, count in block["votes"].items() if count} == {"local": 3, "tlabel": 2}
    assert block["agreement"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    looks = data["types"]
    assert looks["local"]["title"] in looks["local+tlabel"]["title"] and looks["local+tlabel"]["fill"] != "#cccccc"


def test_the_map_of_a_search_shows_the_probability_of_every_context(searches):
    texts = [text.get_text() for text in genotype_map(load(searches / "seed0")).axes[0].texts]
    assert texts[1] == "local+tlabel\n0.60 + 0.10"
