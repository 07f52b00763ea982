"""The study's page shows what its committed results say, and the README a part of the page."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from atrc_exp.config.compose import CONF, typed
from atrc_exp.files import read_json
from atrc_exp.genotype import NONE, agreement, light_kappa, load
from atrc_exp.models.profile import profile_of
from atrc_exp.report.paper import document
from atrc_exp.report.results import reliability, tables

REPOSITORY = Path(__file__).parents[2]
STUDY = REPOSITORY / "docs" / "study"
PAGE = REPOSITORY / "docs" / "study.md"
STRATEGIES = ("gumbel_st", "darts", "bilevel", "spos", "random")


def test_the_tables_of_the_page_follow_from_the_committed_results() -> None:
    made = document.sheets(STUDY / "results", "rooms", backbone="lite")
    page = PAGE.read_text(encoding="utf-8")
    assert made[0].name == "table_1_rooms_lite"
    for sheet in made:
        assert sheet.to_markdown() in page, f"{sheet.name}: python -m atrc_exp.report.paper docs/study/results"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("study", ("multi_task_1200", "atrc_1200", "single_task_semseg_1200")),
        ("beyond", ("multi_task", "atrc", "atrc_static", "atrc_gate")),
        ("beyond", ("multi_task", "atrc", "atrc_cost0.02", "atrc_cost0.1")),
        ("beyond", ("multi_task", "fpm_multi_task", "mti_net", "fpm_atrc_separate")),
        (
            "beyond",
            ("multi_task", "atrc", *(f"atrc_{name}" for name in ("gumbel_st", "darts", "bilevel", "spos", "random"))),
        ),
        ("beyond", ("multi_task", *(f"multi_task_{name}" for name in ("uncertainty", "dwa", "upgrad", "boundary_f")))),
    ],
)
def test_the_other_tables_follow_from_the_committed_results(page: str, names: tuple[str, ...]) -> None:
    """All rows but those against the single-task networks, which beyond.md leaves out."""
    written = (STUDY.parent / f"{page}.md").read_text(encoding="utf-8").splitlines()
    made = tables.to_markdown(tables.collect(STUDY / "results" / f"rooms_lite_{name}" for name in names))
    rows = [line for line in made.splitlines() if line.startswith("|") and "| single-task networks |" not in line]
    assert len(rows) > 2 * len(names)
    for row in rows:
        assert row in written


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("gumbel", "search"),
        *((name, f"search_{name}") for name in STRATEGIES),
        ("0", "search"),
        *((weight, f"search_cost{weight}") for weight in ("0.02", "0.1")),
    ],
)
def test_the_agreement_of_other_searches_follows_from_their_genotypes(name: str, folder: str) -> None:
    searches = [load(STUDY / "results" / f"rooms_lite_{folder}" / f"seed{seed}") for seed in range(5)]
    by_chance = reliability.chance(searches)
    assert by_chance is not None
    figures = f"{100 * agreement(searches):.1f} | {100 * by_chance.agreement:.1f} | {by_chance.p:.4f}"
    blocks = sum(context != NONE for each in searches for row in each.blocks.values() for context in row.values()) / 5
    row = f"| {name} | 5 | {figures} | {light_kappa(searches):.2f} | {blocks:.1f} | "
    assert row in (STUDY.parent / "beyond.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight", "folder"), [("0", "search"), ("0.02", "search_cost0.02"), ("0.1", "search_cost0.1")]
)
def test_the_costs_of_searches_and_votes_follow_from_their_genotypes(weight: str, folder: str) -> None:
    searches = STUDY / "results" / f"rooms_lite_{folder}"
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = typed(compose("config", overrides=["+experiment=rooms_lite_atrc", f"genotype={searches}"]))
    networks = [replace(config, genotype=str(searches / f"seed{seed}")) for seed in range(5)]
    costs = [profile_of(network).total.multiply_adds / 1e6 for network in (*networks, config)]
    row = f" | {sum(costs[:5]) / 5:.1f} | {costs[5]:.1f} |"
    page = (STUDY.parent / "beyond.md").read_text(encoding="utf-8")
    assert any(line.startswith(f"| {weight} | 5 |") and line.endswith(row) for line in page.splitlines())


def test_the_rows_in_the_readme_are_rows_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- study:table -->")[2].partition("<!-- /study:table -->")[0].strip().splitlines()
    assert len(table) >= 2 + 5
    for line in table:
        assert line in page


@pytest.mark.parametrize("name", ["multi_task", "atrc", "search", "tlabel", "atrc_gate", "search_cost0.1", "atrc_spos"])
def test_every_row_has_five_seeds_of_one_configuration(name: str) -> None:
    summaries = [read_json(path) for path in sorted((STUDY / "results" / f"rooms_lite_{name}").glob("*/summary.json"))]
    assert [summary["seed"] for summary in summaries] == [0, 1, 2, 3, 4]
    assert len({(s["iteration"], s["dataset"]["fingerprint"], s["backbone"]) for s in summaries}) == 1
