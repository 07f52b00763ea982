"""Proportions of context types: shares counted by hand, and the segments drawn."""

import pytest

from atrc_exp.report.figures import proportions
from atrc_exp.report.results.tables import gather


@pytest.fixture
def sweeps(runs_dir, make_search):
    """Two sweeps on the same tasks and one on others."""
    for seed, rows in enumerate(("tl gn", "tt gl")):
        make_search("rooms_search", seed, "semseg depth", rows)
    make_search("rooms_search_aspp", 0, "semseg depth", "ll ll", neck="aspp")
    make_search("rooms_pair", 0, "semseg edge", "nn nn")
    return proportions.groups(gather(sorted(runs_dir.iterdir())).rows), runs_dir


def test_sweeps_over_the_same_tasks_stand_together(sweeps):
    groups, _ = sweeps
    assert [[row.name for row in group] for group in groups] == [
        ["rooms_pair"],
        ["rooms_search", "rooms_search_aspp"],
    ]


def test_shares_are_of_all_blocks_of_all_searches(sweeps):
    groups, runs_dir = sweeps
    found = proportions.read(groups[1][0], runs_dir)
    assert (found.searches, found.blocks) == (2, 4)
    assert found.shares == {"none": 1 / 8, "global": 2 / 8, "local": 2 / 8, "tlabel": 3 / 8, "slabel": 0}


def test_segments_follow_one_another_with_their_numbers(sweeps):
    groups, runs_dir = sweeps
    axes = proportions.draw([proportions.read(row, runs_dir) for row in groups[1]]).axes[0]
    segments = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert segments[:5] == [(0, 12.5), (12.5, 25), (37.5, 25), (62.5, 37.5), (100, 0)]
    assert segments[5:] == [(0, 0), (0, 0), (0, 100), (100, 0), (100, 0)]
    assert [text.get_text() for text in axes.texts] == ["12.5", "25.0", "25.0", "37.5", "100.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["search\n2 searches", "search_aspp\n1 search"]
