"""What the Explorer collects from run folders: worked numbers, thinning, links between runs, damage and escaping."""

import json
import math
import re

import pytest
from PIL import Image

from atrc_exp.files import write_json
from atrc_exp.genotype import CONTEXTS, Genotype, candidates, load, save
from atrc_exp.report.page import dynamics, explorer, page
from atrc_exp.report.results import overview

TASKS = ("semseg", "depth")


def probabilities(tasks=TASKS, **block):
    """Equal ones, but for those of semseg <- depth where given."""
    found = {t: {s: {c: 1 / len(candidates(t, s)) for c in candidates(t, s)} for s in tasks} for t in tasks}
    if block:
        found["semseg"]["depth"] = block
    return found


OPEN = {"none": 0.2, "global": 0.2, "local": 0.3, "tlabel": 0.2, "slabel": 0.1}
CONVERGED = {"none": 0.1, "global": 0.1, "local": 0.5, "tlabel": 0.2, "slabel": 0.1}
COURSE = [(step, OPEN if step < 60 else CONVERGED) for step in range(10, 110, 10)]
"""Ten records; semseg <- depth shows a gap of 0.3 from the sixth."""


def write_course(run, course=COURSE):
    lines = [
        {"step": step, "kind": "search", "entropy": 1.5 - step / 100, "temperature": 0.5, "frozen": int(step >= 60),
         "probabilities": probabilities(**block)}
        for step, block in course
    ]  # fmt: skip
    lines.insert(1, {"step": 10, "kind": "train", "loss": 1.0})
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.yaml").write_text("search:\n  freeze_gap: 0.3\n")
    return run


@pytest.fixture
def sweep(make_search):
    """Three searches; the first two froze semseg <- depth to local, and the third differs there and in one more."""
    for seed, rows in enumerate(("tl gn", "tl gn", "tg ln")):
        run = write_course(make_search("rooms_search", seed, " ".join(TASKS), rows))
        found = load(run)
        frozen = {t: {s: seed < 2 and (t, s) == ("semseg", "depth") for s in TASKS} for t in TASKS}
        save(Genotype(found.tasks, found.blocks, {**found.details, "frozen": frozen}), run / "genotype.json")
    return run.parent


def collect(runs_dir):
    data = explorer.collect(overview.read(runs_dir))
    json.dumps(data, allow_nan=False)
    return data


@pytest.mark.parametrize(
    ("count", "kept", "most", "indices"),
    [(10, (), 4, [0, 3, 6, 9]), (10, (4, 5), 4, [0, 3, 4, 5, 6, 9]), (3, (1,), 4, [0, 1, 2]), (0, (), 4, []),
     (2_001, (1_999,), 2, [0, 1_999, 2_000])],
)  # fmt: skip
def test_thinning_keeps_the_ends_and_what_has_to_stay(count, kept, most, indices):
    assert dynamics.thin(count, kept, most) == indices


def test_curves_are_thinned_but_not_around_the_freezing(sweep, runs_dir, monkeypatch):
    monkeypatch.setattr(explorer, "STEPS", (2, 2))
    (search,) = collect(runs_dir)["searches"]
    first, _, third = search["seeds"]
    assert first["steps"] == [10, 50, 60, 100]  # the ends, the last open record, the first frozen one
    assert third["steps"] == [10, 100]
    block = first["blocks"]["semseg"]["depth"]
    assert block["frozen"] == 2
    assert block["p"] == {"none": [200, 200, 0, 0], "global": [200, 200, 0, 0], "local": [300, 300, 1000, 1000],
                          "tlabel": [200, 200, 0, 0], "slabel": [100, 100, 0, 0]}  # fmt: skip
    assert third["blocks"]["semseg"]["depth"] == {
        "p": {"none": [200, 100], "global": [200, 100], "local": [300, 500], "tlabel": [200, 200],
              "slabel": [100, 100]},
        "frozen": None,
    }  # fmt: skip
    assert first["blocks"]["depth"]["depth"]["p"].keys() == set(CONTEXTS) - {"slabel"}
    assert first["entropy"] == [1.4, 1.0, 0.9, 0.5] and first["frozen"] == [0, 0, 1, 1]
    assert [seed["state"] for seed in search["seeds"]] == ["finished"] * 3
    assert third["chosen"] == {"semseg": {"semseg": "tlabel", "depth": "global"},
                               "depth": {"semseg": "local", "depth": "none"}}  # fmt: skip


def test_vote_with_its_agreement(sweep, runs_dir):
    vote = collect(runs_dir)["searches"][0]["vote"]
    assert vote["runs"] == 3
    block = vote["blocks"]["semseg"]["depth"]
    assert block["chosen"] == "local" and block["votes"]["local"] == 2 and block["votes"]["global"] == 1
    assert block["agreement"] == pytest.approx(1 / 3)
    assert vote["agreement"] == pytest.approx((4 + 2 + 2) / 12)  # of four blocks, by pair of searches


def test_a_search_that_runs_freezes_by_the_rule(runs_dir):
    write_course(runs_dir / "rooms_search" / "seed0", COURSE[:7])
    (search,) = collect(runs_dir)["searches"]
    (seed,) = search["seeds"]
    assert search["tasks"] == list(TASKS) and search["vote"] is None and seed["chosen"] is None
    assert seed["state"] == "not finished"
    assert seed["steps"][seed["blocks"]["semseg"]["depth"]["frozen"]] == 60
    assert seed["blocks"]["semseg"]["depth"]["p"]["local"] == [300] * 5 + [1000] * 2
    assert seed["blocks"]["depth"]["semseg"]["frozen"] is None
    assert any("no vote" in note for note in search["notes"])


def test_runs_are_linked_by_their_genotype(sweep, make_run, runs_dir):
    voted = load(sweep / "seed0")
    linked, other = (make_run(name, 0, dict.fromkeys(TASKS, 0.5), distillation="atrc") for name in ("ours", "other"))
    save(voted, linked / "genotype.json")
    save(voted.changed({"depth": {"depth": "global"}}), other / "genotype.json")
    drop = {"context": "local", "drop": {"mean": 0.01, "std": None}, "delta_m_drop": None}
    for run in (linked, other):
        write_json(run / "importance.json", {"blocks": {t: dict.fromkeys(TASKS, drop) for t in TASKS}})
        (run / "attention" / "kitchen_4_6").mkdir(parents=True)
        Image.new("RGB", (1500, 300), "navy").save(run / "attention" / "kitchen_4_6" / "depth.png")
    cost = {"parameters": 7, "multiply_adds": 5, "multiply_adds_with_local_attention": 6, "multiply_adds_paper": 8}
    blocks = {t: {s: {"local": cost} for s in TASKS} for t in TASKS}
    write_json(sweep / "profile.json", {"input": [1, 3, 64, 96], "blocks": blocks})
    (search,) = collect(runs_dir)["searches"]
    (found,) = search["importance"]
    assert found["run"] == "ours/seed0" and found["basis"] == "the vote"
    assert found["blocks"]["depth"]["semseg"] == {"drop": [0.01, None], "delta_m_drop": None}
    (picture,) = search["attention"]
    assert (picture["run"], picture["target"], picture["place"]) == ("ours/seed0", "depth", "kitchen_4_6")
    assert picture["uri"].startswith("data:image/webp;base64,")
    assert search["costs"]["size"] == [64, 96] and search["costs"]["blocks"]["depth"]["semseg"] == {"local": [6, 7]}
    assert not search["notes"]


def test_panels_beyond_the_size_limit_are_counted(sweep, runs_dir, monkeypatch):
    monkeypatch.setattr(explorer, "PANEL_BYTES", 3_000)
    for target in TASKS:
        for place in ("a", "b"):
            path = sweep / "seed0" / "attention" / place / f"{target}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((64, 40), 60).convert("RGB").save(path)
    (search,) = collect(runs_dir)["searches"]
    shown = [picture["target"] for picture in search["attention"]]
    assert 0 < sum(len(picture["uri"]) for picture in search["attention"]) <= 3_000
    assert 0 < len(shown) < 4 and len(set(shown)) == min(2, len(shown))
    assert any(note.startswith(f"attention panels left out for the size of this page: {4 - len(shown)}")
               for note in search["notes"])  # fmt: skip


def test_types_and_tasks_that_this_build_does_not_know(make_run, runs_dir):
    run = make_run("rooms_search", 0, {"depth": 0.5}, stage="search")
    one = {"heat": {"heat": {"none": 0.4, "spiral": 0.6}}}
    (run / "metrics.jsonl").write_text(json.dumps({"step": 5, "kind": "search", "probabilities": one}) + "\n")
    write_json(run / "genotype.json", {"version": 1, "tasks": ["heat"], "blocks": {"heat": {"heat": "spiral"}}})
    data = collect(runs_dir)
    (search,) = data["searches"]
    assert data["types"]["spiral"]["title"] == "spiral" and data["tasks"]["heat"]["title"] == "heat"
    assert search["seeds"][0]["blocks"]["heat"]["heat"]["p"] == {"none": [400], "spiral": [600]}
    assert search["seeds"][0]["chosen"] == {"heat": {"heat": "spiral"}}
    assert search["vote"] is None and any("spiral" in note for note in search["notes"])


GAP = {"step": 30, "kind": "search", "probabilities": probabilities(none=None, local=0.3)}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"tasks": 3, "blocks": [1]}', json.dumps(GAP) + "\n"])
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.yaml", "genotype.json", "importance.json", "summary.json", "../profile.json"]
)
def test_damage_is_told_and_the_rest_is_shown(sweep, runs_dir, name, content):
    (sweep / "seed0" / name).write_text(content)
    (search,) = collect(runs_dir)["searches"]
    assert search["seeds"][1]["steps"] == [step for step, _ in COURSE]
    told = [*search["notes"], *(seed["state"] for seed in search["seeds"])]
    said = any(name.removeprefix("../") in text or "left out" in text for text in told)
    assert said, told
    assert all(math.isfinite(value) for seed in search["seeds"] for value in seed["entropy"])


def test_names_and_messages_cannot_leave_their_script():
    hostile = "</script><script>alert(1)</script><!-- & \u2028 'quoted'"
    data = {"searches": [{"name": hostile}]}
    text = explorer.render(hostile, data)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None and json.loads(found[1]) == data
    assert text.count("<script") == text.count("</script>") == 2  # the data, and the page's own
    assert "alert(1)</script>" not in text and "<!--" not in text.partition("<body>")[2]
    assert not re.search(r"\b(src|href)=\"(?!index\.html)|url\(|@import|https?://(?!www\.w3\.org)", text)


@pytest.mark.parametrize(("tasks", "searches"), [("abcd", 25), ("abcdef", 5)])
def test_searches_of_40_000_iterations_stay_under_two_megabytes(tasks, searches):
    """Of 16 blocks five names with five seeds each, of 36 blocks one name; every block freezes at a step of its own."""
    shape = {t: {s: candidates(t, s) for s in tasks} for t in tasks}

    def now(index, place, types):
        frozen = index > 50 * place
        return {c: (0.7 if c == "none" else 0.075) if frozen else 0.123456 for c in types}

    records = [
        {"step": 20 * (index + 1), "entropy": 1.2345, "temperature": 0.1234, "frozen": 3, "probabilities": {
            t: {s: now(index, len(tasks) * y + x, types) for x, (s, types) in enumerate(row.items())}
            for y, (t, row) in enumerate(shape.items())}}
        for index in range(2_000)
    ]  # fmt: skip
    course = dynamics.Course(records, shape, None, 0.3, False, ())
    curves = searches * sum(len(types) for row in shape.values() for types in row.values())
    one = dynamics.as_dict(course, explorer.steps_of(curves))
    assert sum(block["frozen"] is not None for row in one["blocks"].values() for block in row.values()) > 12
    assert searches * len(json.dumps(one, separators=(",", ":"))) < 2_100_000


@pytest.mark.slow
def test_page_links_the_explorer_only_where_there_are_searches(sweep, make_run, runs_dir, tmp_path):
    written, _ = page.write(runs_dir)
    assert f'href="{explorer.FILE_NAME}"' in written.read_text()
    assert "rooms_search" in (written.parent / explorer.FILE_NAME).read_text()
    for path in list(runs_dir.iterdir()):
        if path.name != page.FOLDER:
            path.rename(tmp_path / path.name)
    make_run("rooms_multi_task", 0, {"semseg": 0.3})
    written, _ = page.write(runs_dir)
    assert explorer.FILE_NAME not in written.read_text()
    assert not (written.parent / explorer.FILE_NAME).exists()
