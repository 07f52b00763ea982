"""Genotypes: rules of the matrix, files, vote, ties and agreement."""

import json
import warnings

import pytest

from atrc_exp.errors import UserError
from atrc_exp.genotype import (
    CONTEXT_TYPES,
    CONTEXTS,
    PUBLISHED_GENOTYPES,
    Genotype,
    agreement,
    candidates,
    cohen_kappa,
    light_kappa,
    load,
    save,
    uniform,
    vote,
    voting,
)

TASKS = ("semseg", "depth")


def pair(*types, **details):
    """Genotype of two tasks from its four blocks, row by row."""
    rows = iter(types)
    return Genotype(TASKS, {t: {s: next(rows) for s in TASKS} for t in TASKS}, details)


# --- the matrix


def test_diagonal_blocks_have_four_candidates():
    assert candidates("depth", "depth") == ("none", "global", "local", "tlabel")
    assert candidates("depth", "edge") == CONTEXTS == ("none", "global", "local", "tlabel", "slabel")


def test_candidates_among_named_types_stand_in_the_order_of_the_table():
    assert candidates("depth", "edge", ["axial", "slabel", "none"]) == ("none", "slabel", "axial")
    assert candidates("depth", "depth", ["axial", "slabel", "none"]) == ("none", "axial")


def test_types_of_the_table_are_told_apart_and_the_published_codes_stay():
    for field in ("title", "symbol", "colour", "line_colour"):
        assert len({getattr(each, field) for each in CONTEXT_TYPES.values()}) == len(CONTEXT_TYPES)
    assert "".join(each.symbol for each in CONTEXT_TYPES.values())[:5] == "-glts"
    assert all(each.same_on_diagonal in {None, *CONTEXT_TYPES} - {name} for name, each in CONTEXT_TYPES.items())


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"semseg": {"semseg": "none"}}, "missing depth<-depth; missing depth<-semseg; missing semseg<-depth"),
        ({t: dict.fromkeys((*TASKS, "sal"), "none") for t in TASKS}, "surplus depth<-sal"),
        (
            {t: dict.fromkeys(TASKS, "slabel") for t in TASKS},
            "semseg<-semseg is 'slabel'; allowed: none, global, local, tl",
        ),
        ({t: dict.fromkeys(TASKS, "Global") for t in TASKS}, "is 'Global'; allowed"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(blocks, message):
    with pytest.raises(UserError, match=message):
        Genotype(TASKS, blocks)


@pytest.mark.parametrize("tasks", [(), ("depth", "depth")])
def test_tasks_are_distinct_and_not_empty(tasks):
    with pytest.raises(UserError, match="distinct and not empty"):
        uniform(tasks, "none")


def test_uniform_puts_tlabel_on_the_diagonal_of_slabel():
    assert uniform(TASKS, "slabel") == pair("tlabel", "slabel", "slabel", "tlabel")
    assert uniform(TASKS, "local") == pair("local", "local", "local", "local")


def test_changed_replaces_blocks_and_says_so():
    before = pair("none", "local", "global", "tlabel", step=7)
    after = before.changed({"depth": {"semseg": "slabel"}})
    assert after == pair("none", "local", "slabel", "tlabel")
    assert after.details == {"step": 7, "changed": {"depth": {"semseg": "slabel"}}}
    assert before.blocks["depth"]["semseg"] == "global"
    assert before.changed({}).details == before.details


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"sal": {"semseg": "local"}}, "no block sal<-semseg"),
        ({"depth": {"sal": "local"}}, "no block depth<-sal"),
        ({"semseg@0": {"depth": "local"}}, "no block semseg@0<-depth"),
        ({"depth": {"depth": "slabel"}}, "depth<-depth is 'slabel'"),
    ],
)
def test_changed_refuses_blocks_that_do_not_exist(blocks, message):
    with pytest.raises(UserError, match=message):
        uniform(TASKS, "none").changed(blocks)


def test_label_tasks_are_targets_of_tlabel_and_sources_of_slabel():
    names = ("semseg", "depth", "edge")
    empty = uniform(names, "global")
    assert empty.label_tasks() == ()
    assert empty.changed({"semseg": {"edge": "slabel"}}).label_tasks() == ("edge",)
    assert empty.changed({"semseg": {"edge": "tlabel"}}).label_tasks() == ("semseg",)
    both = empty.changed({"edge": {"depth": "slabel"}, "semseg": {"edge": "tlabel"}})
    assert both.label_tasks() == ("semseg", "depth")


# --- files


def test_saved_genotypes_come_back_from_file_and_folder(tmp_path):
    written = pair("none", "local", "slabel", "tlabel", votes={"semseg": 1}, kappa=0.5)
    save(written, tmp_path / "genotype.json")
    content = json.loads((tmp_path / "genotype.json").read_text())
    assert content["version"] == 1
    assert content["tasks"] == ["semseg", "depth"]
    assert content["blocks"]["depth"]["semseg"] == "slabel"
    for source in (tmp_path / "genotype.json", str(tmp_path / "genotype.json"), tmp_path):
        read = load(source)
        assert read == written
        assert read.details == {"votes": {"semseg": 1}, "kappa": 0.5}


def test_published_integer_files_are_read(tmp_path):
    """Codes 0-4 are none, global, local, T-label, S-label; rows are targets."""
    data = {"semseg": {"semseg": 4, "depth": 0}, "depth": {"semseg": 4, "depth": 2}}
    (tmp_path / "published.json").write_text(json.dumps({"data": data, "step": 39_999}))
    read = load(tmp_path / "published.json")
    assert read == pair("tlabel", "none", "slabel", "local")
    assert read.details == {"step": 39_999}


def test_published_genotypes_by_name():
    nyud = load("published/nyud_hrnet18")
    assert nyud.tasks == ("semseg", "depth", "normals", "edge")
    assert nyud.blocks["edge"] == {"semseg": "tlabel", "depth": "tlabel", "normals": "global", "edge": "tlabel"}
    assert nyud.blocks["depth"] == {"semseg": "slabel", "depth": "tlabel", "normals": "slabel", "edge": "slabel"}
    assert load("published/nyud_hrnet48").blocks["semseg"]["depth"] == "none"
    pascal = load("published/pascal_hrnet18")
    assert pascal.tasks == ("semseg", "human_parts", "sal", "normals", "edge")
    assert pascal.blocks["semseg"]["normals"] == "none"
    assert pascal.blocks["human_parts"]["sal"] == "slabel"
    with pytest.raises(UserError, match=r"'nyud'.*published/nyud_hrnet18"):
        load("published/nyud")


def test_every_published_genotype_survives_a_file(tmp_path):
    for name, published in PUBLISHED_GENOTYPES.items():
        save(published, tmp_path / f"{name}.json")
        assert load(tmp_path / f"{name}.json") == published


GOOD = {"version": 1, "tasks": ["depth"], "blocks": {"depth": {"depth": "local"}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSONDecodeError"),
        ("\x00\xff", "cannot be read as JSON"),
        (json.dumps([1, 2]), "must hold a JSON object"),
        (json.dumps({**GOOD, "version": 3}), "version 3 is unknown"),
        (json.dumps({"blocks": {}}), "version None is unknown"),
        (json.dumps({"version": 1, "tasks": ["depth"]}), "KeyError: 'blocks'"),
        (json.dumps({**GOOD, "blocks": []}), "cannot be read as a genotype"),
        (json.dumps({**GOOD, "tasks": ["depth", "edge"]}), "missing depth<-edge"),
        (json.dumps({**GOOD, "tasks": [], "blocks": {}}), "not empty"),
        (json.dumps({"data": {"depth": {"depth": 5}}}), "depth<-depth has code 5; allowed: 0 none, 1 global"),
        (json.dumps({"data": {"depth": {"depth": -1}}}), "has code -1"),
        (json.dumps({"data": {"depth": {"depth": "local"}}}), "has code 'local'"),
        (json.dumps({"data": {"depth": {"edge": 1}}}), "does not fit the tasks depth"),
        (json.dumps({"data": 3}), "cannot be read as a genotype"),
    ],
)
def test_bad_files_are_one_message_with_the_path(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_choices(tmp_path):
    for source in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match=r"genotype\.json, .* published/nyud_hrnet18"):
            load(source)


# --- vote


def test_the_most_frequent_type_wins_in_every_block():
    runs = [
        pair("tlabel", "local", "none", "global"),
        pair("tlabel", "slabel", "none", "local"),
        pair("none", "slabel", "none", "local"),
    ]
    voted = vote(runs, ["a", "b", "c"])
    assert voted == pair("tlabel", "slabel", "none", "local")
    assert voted.details["votes"]["semseg"]["semseg"] == {"none": 1, "global": 0, "local": 0, "tlabel": 2}
    assert voted.details["votes"]["semseg"]["depth"] == {"none": 0, "global": 0, "local": 1, "tlabel": 0, "slabel": 2}
    assert voted.details["ties"] == []
    assert voted.details["runs"] == 3
    assert voted.details["sources"] == ["a", "b", "c"]
    assert voted.details["agreement"] == agreement(runs)
    assert voted.details["kappa"] == light_kappa(runs)


def probabilities(**first_block):
    flat = {"none": 0.2, "global": 0.2, "local": 0.2, "tlabel": 0.2, "slabel": 0.2}
    return {t: {s: {**flat, **(first_block if t == s == "semseg" else {})} for s in TASKS} for t in TASKS}


def tie(first, second):
    """Two runs that differ in the first block only, where one chose global and the other tlabel."""
    voted = vote([pair("global", "none", "none", "none", **first), pair("tlabel", "none", "none", "none", **second)])
    (note,) = voted.details["ties"]
    assert (note["target"], note["source"], note["tied"]) == ("semseg", "semseg", ["global", "tlabel"])
    assert note["chosen"] == voted.blocks["semseg"]["semseg"]
    return note["chosen"], note["by"]


def test_a_tie_goes_to_the_larger_mean_probability():
    first = {"probabilities": probabilities(**{"global": 0.4, "tlabel": 0.3})}
    second = {"probabilities": probabilities(**{"global": 0.1, "tlabel": 0.6})}
    assert tie(first, second) == ("tlabel", "larger mean architecture probability over the runs")


def test_a_tie_without_a_difference_goes_to_the_first_context():
    equal = {"probabilities": probabilities()}
    assert tie(equal, equal) == ("global", "order of the context types (equal mean probability)")
    chosen, reason = tie(equal, {})
    assert chosen == "global"
    assert "no probabilities" in reason


def test_only_the_most_frequent_types_are_tied():
    runs = [pair(first, "none", "none", "none") for first in ("local", "local", "tlabel", "tlabel", "none")]
    assert vote(runs).details["ties"][0]["tied"] == ["local", "tlabel"]


def test_a_vote_shows_the_types_that_were_searched():
    chances = {t: {s: {"none": 0.2, "local": 0.3, "axial": 0.5} for s in TASKS} for t in TASKS}
    runs = [pair("none", "local", "axial", "axial", probabilities=chances),
            pair("none", "axial", "local", "axial", probabilities=chances)]  # fmt: skip
    voted = vote(runs)
    assert voted == pair("none", "axial", "axial", "axial")  # ties go to the larger probability
    assert voted.details["votes"]["depth"]["semseg"] == {"none": 0, "local": 1, "axial": 1}


def test_searches_over_different_candidates_do_not_vote_together():
    few = {t: {s: {"none": 0.5, "axial": 0.5} for s in TASKS} for t in TASKS}
    runs = [uniform(TASKS, "none"), pair("none", "none", "none", "axial", probabilities=few)]
    assert vote(runs)  # the first does not tell what it was searched among
    with pytest.raises(UserError, match="different candidates"):
        vote([*runs, pair("none", "none", "none", "none", probabilities=probabilities())])


def test_a_vote_of_one_run_is_that_run_without_agreement():
    voted = vote([pair("none", "local", "slabel", "tlabel")])
    assert voted == pair("none", "local", "slabel", "tlabel")
    assert voted.details["agreement"] is voted.details["kappa"] is None


def test_runs_may_list_the_same_tasks_in_another_order():
    other = Genotype(TASKS[::-1], pair("none", "local", "slabel", "tlabel").blocks)
    runs = [pair("none", "local", "slabel", "tlabel"), other]
    assert vote(runs) == runs[0]
    assert agreement(runs) == 1


def test_a_vote_needs_genotypes_of_the_same_tasks():
    with pytest.raises(UserError, match="no genotype to vote on"):
        vote([])
    runs = [uniform(TASKS, "none"), uniform(("semseg", "edge"), "none")]
    with pytest.raises(UserError, match=r"semseg, depth and semseg, edge \(seed1\)"):
        vote(runs, ["seed0", "seed1"])
    for score in (agreement, light_kappa):
        with pytest.raises(UserError, match="different tasks"):
            score(runs)


# --- agreement of repeated searches

WORKED = ("GLNGGS", "GLNGLS", "GNNGGT")


def test_cohens_kappa_of_the_worked_pairs():
    first, second, third = WORKED
    assert cohen_kappa(first, second) == pytest.approx(10 / 13)
    assert cohen_kappa(first, third) == pytest.approx(13 / 25)
    assert cohen_kappa(second, third) == pytest.approx(5 / 14)


def test_lights_kappa_and_agreement_of_the_worked_runs(monkeypatch):
    monkeypatch.setattr(voting, "_ratings", list)  # six blocks are no square matrix of tasks
    assert light_kappa(WORKED) == pytest.approx(2497 / 4550)
    assert agreement(WORKED) == pytest.approx(2 / 3)


def test_agreement_and_kappa_of_whole_genotypes():
    """Three of four blocks agree; chance is 1/2 * 1/4 (none) + 1/2 * 3/4 (local)."""
    runs = [pair("none", "none", "local", "local"), pair("none", "local", "local", "local")]
    assert agreement(runs) == 3 / 4
    assert light_kappa(runs) == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


def test_perfect_agreement_and_disagreement():
    assert cohen_kappa("GLNG", "GLNG") == 1
    assert cohen_kappa("GL", "LG") == -1


def test_two_constant_equal_runs_have_kappa_one_with_a_warning():
    with pytest.warns(UserWarning, match="kappa is undefined"):
        assert cohen_kappa("GGG", "GGG") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cohen_kappa("GGG", "LLL") == 0


def scaled(*names: str) -> Genotype:
    """Tasks a and b at as many scales as there are names, each with one type in every block."""
    rows = {f"{t}@{i}": {"a": name, "b": name} for i, name in enumerate(names) for t in ("a", "b")}
    return Genotype(("a", "b"), rows)


def test_genotype_of_several_scales_is_written_read_and_taken_apart(tmp_path):
    genotype = scaled("local", "none", "global")
    assert genotype.scales == 3 and genotype.rows == ("a@0", "b@0", "a@1", "b@1", "a@2", "b@2")
    save(genotype, tmp_path / "genotype.json")
    assert load(tmp_path) == genotype
    assert json.loads((tmp_path / "genotype.json").read_text())["version"] == 2
    assert genotype.at(2) == uniform(("a", "b"), "global") and uniform(("a", "b"), "local").on(1) == scaled("local")
    alone = genotype.without_self_attention()
    assert alone.blocks["b@0"] == {"a": "local", "b": "none"} and alone.blocks["a@2"] == {"a": "none", "b": "global"}


def test_scales_vote_each_for_itself_and_only_with_the_same_scales():
    voted = vote([scaled("local", "none"), scaled("local", "global"), scaled("none", "global")])
    assert voted == scaled("local", "global") and voted.details["votes"]["b@1"]["a"]["global"] == 2
    assert voted.details["agreement"] == pytest.approx(1 / 3)
    for other in (uniform(("a", "b"), "local"), scaled("local")):
        with pytest.raises(UserError, match="cannot be compared"):
            vote([scaled("local", "none"), other])


@pytest.mark.parametrize("blocks", [
    {"a@0": {"a": "local"}, "a@2": {"a": "local"}},
    {"a@0": {"a": "local"}, "a": {"a": "local"}},
    {"a@0": {"a": "slabel"}},
])  # fmt: skip
def test_rows_that_are_not_all_of_some_scales_are_refused(blocks):
    with pytest.raises(UserError, match="a@"):
        Genotype(("a",), blocks)
