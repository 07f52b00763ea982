"""The report page: the numbers of the runs, their gaps in words, and a document that needs nothing beside itself."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from atrc_exp.files import write_json
from atrc_exp.report.page import page
from atrc_exp.report.page.sections import Note, Picture, Section
from atrc_exp.stages import run_stage

VOID = ("meta", "img", "br", "link", "hr", "input")


class Document(HTMLParser):
    """Open elements by rule, and what the tests look at."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.addresses, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def report(runs_dir, make_run, make_search, capsys):
    """Sweeps of two searches, of a module with a failed seed, of baselines, and one that cannot be read."""
    from small_rooms import as_typed

    for seed, (semseg, depth) in enumerate([(0.30, 1.00), (0.32, 1.10)]):
        make_run("rooms_multi_task", seed, {"semseg": semseg, "depth": depth})
        make_run("rooms_single_semseg", seed, {"semseg": 0.25})
        make_search("rooms_search", seed, "semseg depth", ("tl gn", "ts gl")[seed])
    make_run("rooms_single_depth", 0, {"depth": 1.05})
    write_json(runs_dir / "rooms_multi_task" / "seed2" / "status.json", {"error": "<b>disk full</b>"})
    (make_run("rooms_broken", 0, {"semseg": 0.3}) / "summary.json").write_text("{}")
    panels = runs_dir / "rooms_multi_task" / "seed0" / "predicted" / "panels"
    panels.mkdir(parents=True)
    Image.new("RGB", (2000, 500), "navy").save(panels / "kitchen.png")
    for place in ("importance.png", "attention/kitchen_40_60/depth.png"):
        path = runs_dir / "rooms_multi_task" / "seed1" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50)).save(path)
    run_stage(as_typed("stage=report", f"runs_dir={runs_dir}"))
    return (runs_dir / "report" / "index.html").read_text(encoding="utf-8"), capsys.readouterr().out


def test_page_of_a_folder_of_runs(report, runs_dir):
    text, printed = report
    document = Document(text)
    # Numbers: mean and deviation, Δm, seeds.
    words = " ".join("".join(document.text).split())
    assert "31.00 ± 1.41" in words and "1.0500 ± 0.0707" in words and "+12.00" in words
    # Gaps are told in the page and on the console.
    for gap in ("seed2: failed: <b>disk full</b>", "rooms_broken/seed0/summary.json is not a summary",
                "one finished run has no deviation: rooms_single_depth",
                "no finished run was retrained from the vote", "no evaluation.json with threshold curves",
                "rooms_multi_task: no run has logged anything yet"):  # fmt: skip
        assert gap in words and gap in " ".join(printed.split()), gap
    assert "<b>disk full" not in text  # escaped
    # Self-contained and accessible.
    assert all(a.startswith(("data:", "#")) or a == "explorer.html" for a in document.addresses)
    assert not re.search(r"url\(|@import|https?://", text.replace("http://www.w3.org", ""))
    assert len(set(document.ids)) == len(document.ids)
    assert {address[1:] for address in document.addresses if address.startswith("#")} <= set(document.ids)
    assert all(image.get("alt") for image in document.images)
    for place in ("seed0/predicted/panels/kitchen", "seed1/importance", "seed1/attention/kitchen_40_60/depth"):
        shown = [image["src"] for image in document.images if f"rooms_multi_task/{place}.png" in image["alt"]]
        assert len(shown) == 1 and shown[0].startswith("data:image/webp"), place
    # Files beside it.
    names = {path.name for path in (runs_dir / "report" / "figures").iterdir()}
    assert {"votes_rooms_search.png", "votes_rooms_search.pdf", "proportions.png", "proportions.pdf"} <= names
    assert "31.0" in (runs_dir / "report" / "tables" / "results_1.csv").read_text()


RECORD = '{"step": 10, "kind": "train", "semseg": 3.0, "loss": 3.0, "seconds_per_step": 1.0}\n'
WHOLE = {
    "metrics.jsonl": RECORD + '{"step": 20, "kind": "train", "semseg": 2.0}\n',
    "config.yaml": "engine:\n  batch_size: 8\nsearch:\n  freeze_gap: 0.3\n",
    "environment.json": '{"starts": []}',
    "evaluation.json": '{"dataset": {"fingerprint": "a"}, "rules": {}, "curves": {}}',
    "genotype.json": None,
    "summary.json": None,
    "predicted/panels/kitchen.png": None,
}
"""Content of the files of a run; None where the fixtures have written it."""


@pytest.mark.parametrize("damage", ["", "[]", RECORD + '{"step": "ten", "kind": 3}\n' + RECORD])
def test_damaged_files_are_named_and_the_rest_is_made(runs_dir, make_search, damage):
    """Every seed of a sweep has another file damaged; a genotype stands apart, since a vote needs all of them."""
    damaged = {name: f"rooms_search/seed{seed}" for seed, name in enumerate(WHOLE)}
    damaged["genotype.json"] = "third_search/seed0"
    for place in (*damaged.values(), "other_search/seed0"):
        name, seed = place.split("/seed")
        run = make_search(name, int(seed), "semseg depth", "tl gn", headline={"semseg": 0.25, "depth": 1.5})
        for path, content in WHOLE.items():
            if content is not None:
                (run / path).write_text(content)
    for name, place in damaged.items():
        (runs_dir / place / name).parent.mkdir(parents=True, exist_ok=True)
        (runs_dir / place / name).write_text(damage)
    page.write(runs_dir)
    words = " ".join("".join(Document((runs_dir / "report" / "index.html").read_text()).text).split())
    for name, place in damaged.items():
        cut_short = name == "metrics.jsonl" and damage.count("\n") < 2  # as a kill leaves it
        assert cut_short or f"{place}/{name}" in words, name
    assert "25.00" in words and "1.5000" in words
    drawn = {path.stem for path in (runs_dir / "report" / "figures").glob("*.png")}
    assert {"votes_other_search", "votes_rooms_search", "training_rooms_search", "proportions"} <= drawn


def test_what_comes_from_files_is_escaped():
    picture = Picture('a "quoted" <title>', "caption & more", "data:image/png;base64,AA==")
    text = page.render("<runs>", [Section("one", "One", [picture, Note("<script>alert(1)</script>")])])
    document = Document(text)
    assert text.count("<script>") == 1  # the page's own
    assert document.images[0]["alt"] == 'a "quoted" <title>. caption & more'
    assert "<script>alert(1)</script>" in document.text
