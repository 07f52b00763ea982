"""Drops, Δm and correlation by hand; what is missing is marked, never a number."""

import json
import math

import pytest

from atrc_exp.evaluation.importance import Importance
from atrc_exp.genotype import Genotype, agreement, vote, vote_agreement
from atrc_exp.metrics.delta import delta_m
from atrc_exp.models.contexts.maps import Block
from atrc_exp.report.figures import importance
from atrc_exp.report.results.aggregate import Statistic, find_baselines
from atrc_exp.runs.finished import Setting, read_runs
from atrc_exp.tasks import TASKS

PAIR = ("semseg", "depth")
GENOTYPE = Genotype(PAIR, {"semseg": {"semseg": "local", "depth": "slabel"},
                           "depth": {"semseg": "global", "depth": "none"}})  # fmt: skip
BASELINES = {"semseg": Statistic(0.4, 0.01, 2), "depth": Statistic(0.5, None, 1)}
MEASURED = Importance(
    headline={"semseg": 0.30, "depth": 0.6},
    permuted={
        Block("semseg", "semseg", "local"): [0.26, 0.22],
        Block("semseg", "depth", "slabel"): [0.30, 0.30],
        Block("depth", "semseg", "global"): [0.7, 0.65],
    },
)


def test_drops_by_hand():
    blocks = importance.block_entries(MEASURED, GENOTYPE, BASELINES)
    own = blocks["semseg"]["semseg"]
    assert own["permuted"] == [0.26, 0.22]
    assert own["drop"] == pytest.approx({"mean": 0.06, "std": math.sqrt(2 * 0.02**2)})
    # 100 % / 2 tasks of 0.04 / 0.4 and 0.08 / 0.4
    assert own["delta_m_drop"] == pytest.approx({"mean": 7.5, "std": 5 / math.sqrt(2)})
    assert blocks["semseg"]["depth"]["delta_m_drop"] == {"mean": 0, "std": 0}
    # lower is better: 100 % / 2 tasks of 0.1 / 0.5 and 0.05 / 0.5
    assert blocks["depth"]["semseg"]["delta_m_drop"]["mean"] == pytest.approx(7.5)
    assert blocks["depth"]["semseg"]["drop"]["mean"] == pytest.approx(0.075)
    assert blocks["depth"]["depth"] == {"context": "none", "permuted": [], "drop": None, "delta_m_drop": None}


def test_the_drop_is_the_difference_of_two_delta_m_over_all_tasks():
    rows, means = [TASKS[task] for task in PAIR], {task: b.mean for task, b in BASELINES.items()}
    whole = delta_m(MEASURED.headline, means, rows) - delta_m(MEASURED.headline | {"depth": 0.65}, means, rows)
    assert importance.delta_m_drops("depth", 0.6, [0.65], 0.5, 2) == pytest.approx([whole])


def test_a_missing_baseline_or_score_leaves_its_row_without_delta_m_alone():
    blocks = importance.block_entries(MEASURED, GENOTYPE, BASELINES | {"depth": None})
    assert blocks["depth"]["semseg"]["delta_m_drop"] is None and blocks["depth"]["semseg"]["drop"] is not None
    assert blocks["semseg"]["semseg"]["delta_m_drop"]["mean"] == pytest.approx(7.5)
    unscored = Importance({"depth": 0.6, "semseg": math.nan}, MEASURED.permuted)
    assert importance.block_entries(unscored, GENOTYPE, BASELINES)["semseg"]["semseg"]["drop"] is None


def test_baselines_are_those_of_the_tables(runs_dir, make_run):
    for seed, rmse in enumerate((0.5, 0.7)):
        make_run("single_depth", seed, {"depth": rmse})
    make_run("longer", 0, {"depth": 0.1}, iteration=80)
    make_run("multi", 0, {"depth": 0.4, "semseg": 0.2})
    setting = read_runs(runs_dir / "multi")[0].experiment.setting
    found = find_baselines(runs_dir)
    baseline, name = importance.baseline_of("depth", setting, found)
    assert baseline is not None and (baseline.mean, baseline.n, name) == (pytest.approx(0.6), 2, "single_depth")
    assert importance.baseline_of("semseg", setting, found)[0] is None
    make_run("second", 0, {"depth": 0.5})
    baseline, reason = importance.baseline_of("depth", setting, find_baselines(runs_dir))
    assert baseline is None and "depth: second, single_depth" in reason
    make_run("zero", 0, {"semseg": 0.0})
    assert "is 0" in importance.baseline_of("semseg", setting, find_baselines(runs_dir))[1]
    assert isinstance(setting, Setting)


def entries(*drops: float | None) -> dict:
    names = iter(drops)
    return {t: {s: {"delta_m_drop": None if (d := next(names)) is None else {"mean": d, "std": 0.0}} for s in PAIR}
            for t in PAIR}  # fmt: skip


def votes(*counts: dict[str, int]) -> dict:
    given = iter(counts)
    return {t: {s: next(given) for s in PAIR} for t in PAIR}


SPLIT = votes({"local": 4}, {"local": 2, "none": 2}, {"global": 3, "none": 1}, {"none": 4})  # 1, 1/3, 1/2, 1


def test_pearson_by_hand():
    found = importance.correlation(entries(3.0, 1.0, 2.0, None), SPLIT)
    # deviations (1, -1, 0) and (7, -5, -2) / 18: 12 / sqrt(2 * 78)
    assert found["pearson"] == pytest.approx(12 / math.sqrt(2 * 78)) and found["blocks"] == 3
    assert found["agreement"]["semseg"] == {"semseg": 1.0, "depth": pytest.approx(1 / 3)}
    assert found["reason"] is None


@pytest.mark.parametrize(
    ("drops", "counts", "reason"),
    [
        ((3.0, 1.0, 2.0, 4.0), {}, "no votes of two or more searches"),
        ((3.0, 1.0, 2.0, 4.0), votes(*[{"local": 1}] * 4), "no votes of two or more searches"),
        ((3.0, None, None, 4.0), SPLIT, "2 blocks with both"),
        ((None,) * 4, SPLIT, "0 blocks with both"),
        ((2.0,) * 4, SPLIT, "the drops of Δm are all equal"),
        ((3.0, 1.0, 2.0, 4.0), votes(*[{"local": 4}] * 4), "the agreements are all equal"),
    ],
)
def test_an_undefined_correlation_has_a_reason(drops, counts, reason):
    found = importance.correlation(entries(*drops), counts)
    assert found["pearson"] is None and reason in found["reason"]
    assert reason in importance.correlation_text(found)


def test_agreements_of_the_blocks_average_to_that_of_the_searches():
    other = GENOTYPE.changed({"semseg": {"depth": "none"}, "depth": {"depth": "global"}})
    third = GENOTYPE.changed({"semseg": {"depth": "none"}})
    voted = vote([GENOTYPE, other, third])
    shares = [vote_agreement(counts) for row in voted.details["votes"].values() for counts in row.values()]
    assert sum(shares) / 4 == pytest.approx(agreement([GENOTYPE, other, third]))


def record(baselines: dict) -> dict:
    blocks = importance.block_entries(MEASURED, GENOTYPE, baselines)
    return {"source": {"run": "runs/atrc/seed0", "iteration": 60}, "images": 40, "permutations": 2, "tasks": list(PAIR),
            "blocks": blocks, "correlation": importance.correlation(blocks, SPLIT),
            "notes": ["no Δm for depth: gone"]}  # fmt: skip


def test_table_figure_and_file_say_the_same(tmp_path, capsys):
    importance.write(tmp_path, record(BASELINES | {"depth": None}))
    shown = capsys.readouterr().out
    assert "7.50 ± 3.54" in shown and "6.00 ± 2.83" in shown and "0.0750 ± 0.0354" in shown
    assert "no Δm for depth: gone" in shown and "undefined, 2 blocks with both" in shown
    stored = json.loads((tmp_path / "importance.json").read_text())
    assert stored["blocks"]["semseg"]["semseg"]["delta_m_drop"]["mean"] == pytest.approx(7.5)
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "importance.pdf").read_bytes().startswith(b"%PDF")
    texts = [text.get_text() for text in importance.draw(stored).axes[0].texts]
    assert texts[:3] == ["local", "7.50 ± 3.54", "6.00 ± 2.83"]
    assert texts[6:9] == ["global", "0.0750 ± 0.0354", "none"]


def test_darker_means_more_important():
    figure = importance.draw(record(BASELINES | {"depth": Statistic(1.5, None, 1)}))  # 2.5 instead of 7.5 points
    own, ignored, other, none = [sum(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    assert own < other < ignored < none == 3


def test_without_baselines_the_drops_of_the_metrics_are_shown():
    """Each target has a scale of its own, since metres and per cent cannot be compared."""
    figure = importance.draw(record(dict.fromkeys(PAIR)))
    texts = figure.axes[0].texts
    shown = {text.get_text(): text.get_fontweight() for text in texts}
    assert {shown[drop] for drop in ("6.00 ± 2.83", "0.00 ± 0.00", "0.0750 ± 0.0354")} == {"bold"}
    own, ignored, other, none = [sum(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    assert own == other < ignored == none == 3
    partly = importance.draw(record(BASELINES | {"depth": None})).axes[0]
    colours = [patch.get_facecolor()[:3] for patch in partly.patches]
    assert [len(set(colour)) == 1 for colour in colours] == [False, False, True, True]  # grey where there is no Δm


def test_one_permutation_has_no_spread(tmp_path, capsys):
    single = Importance(MEASURED.headline, {block: scores[:1] for block, scores in MEASURED.permuted.items()})
    blocks = importance.block_entries(single, GENOTYPE, BASELINES)
    assert blocks["semseg"]["semseg"]["drop"] == {"mean": pytest.approx(0.04), "std": None}
    importance.write(tmp_path, record(BASELINES) | {"blocks": blocks})
    assert "5.00" in capsys.readouterr().out
