"""The vote of a folder of searches: what is written, printed and refused (the rule itself belongs to genotypes)."""

import json
import shutil
from itertools import pairwise

import pytest

from atrc_exp import genotype
from atrc_exp.errors import UserError
from atrc_exp.report import votes

TASKS = "semseg depth"


@pytest.fixture
def searches(runs_dir, make_search):
    """Three searches: two blocks agree, one is 2 to 1, one is split three ways."""
    for seed, rows in enumerate(["ng tl", "ns tl", "nl gl"]):
        make_search("search", seed, TASKS, rows)
    return runs_dir / "search"


def test_file_holds_the_winners_and_how_they_won(searches):
    votes.vote_folder(searches)
    voted = genotype.load(searches)
    assert voted.blocks == {
        "semseg": {"semseg": "none", "depth": "global"},
        "depth": {"semseg": "tlabel", "depth": "local"},
    }
    details = voted.details
    assert details["votes"]["depth"]["semseg"] == {"none": 0, "global": 1, "local": 0, "tlabel": 2, "slabel": 0}
    # pairs of runs agree in 3, 2 and 2 of their 4 blocks
    assert details["agreement"] == pytest.approx(7 / 12)
    assert details["runs"] == 3
    assert details["sources"] == ["search/seed0", "search/seed1", "search/seed2"]
    assert [(tie["target"], tie["source"]) for tie in details["ties"]] == [("semseg", "depth")]


def test_vote_without_an_unfinished_search_is_marked(searches, make_search, capsys):
    (make_search("search", 3, TASKS, "nn nn") / "summary.json").unlink()
    voted = votes.vote_folder(searches)
    assert voted.details["runs"] == 3 and voted.details["unfinished"] == ["seed3"]
    votes.show(voted)
    assert "3 of 4 searches" in (printed := capsys.readouterr().out) and "seed3" in printed
    assert any("3 of 4 searches" in text.get_text() for text in votes.draw(voted).axes[0].texts)
    make_search("search", 3, TASKS, "nn nn")
    assert "unfinished" not in votes.vote_folder(searches).details


def test_later_seeds_renew_the_vote(searches, make_search):
    votes.vote_folder(searches)
    for seed in (3, 4, 5):
        make_search("search", seed, TASKS, "ns gl")
    assert votes.vote_folder(searches).blocks["semseg"]["depth"] == "slabel"


def test_a_unanimous_vote_shows_its_votes(runs_dir, make_search):
    """As boxes of the type's colour, one a search, on a ground that is not of that colour."""
    for seed in range(3):
        make_search("search", seed, TASKS, "ns tl")
    patches = votes.draw(votes.vote_folder(runs_dir / "search")).axes[0].patches
    blocks = [patches[start : start + 6] for start in range(0, len(patches), 6)]  # cell, frame, strip, three votes
    assert len(blocks) == 4
    for cell, _, strip, *boxes in blocks:
        assert {box.get_facecolor() for box in boxes} == {cell.get_facecolor()} != {strip.get_facecolor()}
        places = [box.get_x() for box in boxes]
        assert all(b - a > boxes[0].get_width() for a, b in pairwise(places))
        assert places[0] > strip.get_x()
        assert places[-1] + boxes[0].get_width() < strip.get_x() + strip.get_width()


def test_both_figure_formats_are_written(searches):
    votes.vote_folder(searches)
    assert (searches / "votes.png").read_bytes().startswith(b"\x89PNG")
    assert (searches / "votes.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name for path in searches.iterdir()} == {
        "seed0", "seed1", "seed2", "genotype.json", "votes.png", "votes.pdf"
    }  # fmt: skip


def test_figure_names_type_and_votes_of_every_block(searches):
    figure = votes.draw(votes.vote_folder(searches))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:8] == ["none", "3 of 3", "global", "1 of 3*", "T-label", "2 of 3", "local", "3 of 3"]
    assert "3 searches, agreement 58.3 %" in texts[8]


def test_command_prints_matrix_agreement_and_ties(searches, capsys):
    votes.main([str(searches)])
    printed = capsys.readouterr().out
    for expected in ("none 3/3", "tlabel 2/3", "global 1/3*", "agreement 58.3 %", "* tie at semseg ← depth"):
        assert expected in printed


def test_one_search_has_no_agreement(runs_dir, make_search, capsys):
    make_search("search", 0, TASKS, "ng tl")
    votes.main([str(runs_dir / "search")])
    assert "no agreement to measure" in capsys.readouterr().out
    assert json.loads((runs_dir / "search/genotype.json").read_text())["kappa"] is None


def test_searches_of_different_length_are_refused(searches, make_search):
    make_search("search", 3, TASKS, "ng tl", iteration=80)
    with pytest.raises(UserError, match="iterations is 40 in seed0 and 80 in seed3"):
        votes.vote_folder(searches)
    assert not (searches / "genotype.json").exists()


def test_other_stages_do_not_vote(runs_dir, make_run):
    make_run("multi", 0, {"depth": 1.0})
    with pytest.raises(UserError, match="stage retrain"):
        votes.vote_folder(runs_dir / "multi")


def test_nothing_to_vote_on_is_one_message(searches):
    for folder in searches.glob("seed*"):
        shutil.rmtree(folder)
    with pytest.raises(SystemExit, match=r"error: .*no finished search"):
        votes.main([str(searches)])
