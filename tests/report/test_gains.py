"""Search against retraining: gains worked by hand, read back from the bars, and the gaps."""

import shutil

import pytest

from atrc_exp.errors import UserError
from atrc_exp.report.figures import gains
from atrc_exp.report.results.aggregate import Statistic, find_baselines
from atrc_exp.report.results.tables import gather

SEARCHED = [{"semseg": 0.30, "depth": 1.10}, {"semseg": 0.34, "depth": 0.90}]
RETRAINED = [{"semseg": 0.20, "depth": 0.75}, {"semseg": 0.20, "depth": 0.85}]


@pytest.fixture
def study(runs_dir, make_run, make_search):
    """Two searches, two networks retrained from their vote, baselines with means of 0.25 and 1.0."""

    def make(rows="tl gn", **changes):
        for seed, (searched, retrained) in enumerate(zip(SEARCHED, RETRAINED, strict=True)):
            found = make_search("search", seed, "semseg depth", "tl gn", headline=searched, **changes)
            run = make_run("retrained", seed, retrained, distillation="atrc")
            kept = make_search("other", seed, "semseg depth", rows) if rows != "tl gn" else found
            shutil.copy(kept / "genotype.json", run)
        for seed, value in enumerate((0.2, 0.3)):
            make_run("single_semseg", seed, {"semseg": value})
            make_run("single_depth", seed, {"depth": 1.0})
        return runs_dir

    return make


def compare(runs_dir):
    rows = {row.name: row for row in gather(sorted(runs_dir.iterdir())).rows}
    return gains.compare(rows["search"], list(rows.values()), find_baselines(runs_dir), runs_dir)


def test_gains_are_signed_so_that_higher_is_better(study):
    searched, retrained = compare(study())
    # (0.32 - 0.25) / 0.25; deviation of 0.30 and 0.34 over 0.25
    assert searched.gains["semseg"].mean == pytest.approx(28)
    assert searched.gains["semseg"].std == pytest.approx(100 * 0.04 / 2**0.5 / 0.25)
    assert searched.gains["depth"].mean == pytest.approx(0, abs=1e-9)
    assert retrained.gains["semseg"].mean == pytest.approx(-20)
    assert retrained.gains["depth"].mean == pytest.approx(20)  # a lower error
    assert not searched.gaps and not retrained.gaps


def test_bars_stand_at_the_numbers_in_pairs_by_task(study):
    axes = gains.draw(compare(study())).axes[0]
    bars = {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() for bar in axes.patches}
    assert bars == pytest.approx({-0.2: 28, 0.8: 0, 0.2: -20, 1.2: 20}, abs=1e-9)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["SemSeg", "Depth"]
    spreads = [segment for lines in axes.collections for segment in lines.get_segments()]
    halves = sorted(float(upper - lower) / 2 for (_, lower), (_, upper) in spreads)
    assert halves == pytest.approx([0, 7.071, 11.314, 14.142], abs=1e-3)


def test_searches_of_another_length_are_a_marked_gap(study):
    bars = compare(study(iteration=80))
    assert not bars[0].gains and set(bars[0].gaps) == {"semseg", "depth"} and bars[1].gains
    axes = gains.draw(bars).axes[0]
    assert len(axes.patches) == 2 and [text.get_text() for text in axes.texts] == ["n/a", "n/a"]
    assert gains.notes(bars) == [
        "sampled from the supergraph, n = 2: no bar for SemSeg, Depth: "
        "no single-task runs of 80 iterations on the same data and backbone"
    ]


def test_one_run_has_a_bar_without_deviation_and_is_told(study):
    runs_dir = study()
    shutil.rmtree(runs_dir / "retrained" / "seed1")
    bars = compare(runs_dir)
    assert bars[1].gains["depth"].std is None and "one run has no deviation" in gains.notes(bars)[0]


def test_networks_of_another_genotype_are_not_the_searchs(study):
    with pytest.raises(UserError, match="no finished run was retrained from the vote"):
        compare(study(rows="nn nn"))


def test_without_any_baseline_there_is_no_figure(study):
    runs_dir = study()
    for name in ("single_semseg", "single_depth"):
        shutil.rmtree(runs_dir / name)
    with pytest.raises(UserError, match="single-task runs of 40 iterations"):
        compare(runs_dir)


def test_a_gain_of_zero_is_written():
    figure = gains.draw([gains.Bars("one", {"semseg": Statistic(0.0, None, 1), "depth": Statistic(2.0, None, 1)}, {})])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0"]
