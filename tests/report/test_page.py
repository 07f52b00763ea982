"""The report page: the numbers of the runs, their gaps in words, and a document that needs nothing beside itself."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from atrc_exp.files import write_json
from atrc_exp.report import page
from atrc_exp.report.sections import Note, Picture, Section
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
                "rooms_single_depth: one finished run has no deviation",
                "no finished run was retrained from the vote", "no evaluation.json with threshold curves",
                "stage=importance makes them", "rooms_multi_task: no run has logged anything yet"):  # fmt: skip
        assert gap in words and gap in " ".join(printed.split()), gap
    assert "<b>disk full" not in text  # escaped
    # Self-contained and accessible.
    assert all(address.startswith(("data:", "#")) for address in document.addresses)
    assert not re.search(r"url\(|@import|https?://", text.replace("http://www.w3.org", ""))
    assert len(set(document.ids)) == len(document.ids)
    assert {address[1:] for address in document.addresses if address.startswith("#")} <= set(document.ids)
    assert all(image.get("alt") for image in document.images)
    assert any("kitchen.png" in image["alt"] and "image/webp" in image["src"] for image in document.images)
    # Files beside it.
    names = {path.name for path in (runs_dir / "report" / "figures").iterdir()}
    assert {"votes_rooms_search.png", "votes_rooms_search.pdf", "proportions.png", "proportions.pdf"} <= names
    assert "31.0" in (runs_dir / "report" / "tables" / "results_1.csv").read_text()


def test_what_comes_from_files_is_escaped():
    picture = Picture('a "quoted" <title>', "caption & more", "data:image/png;base64,AA==")
    text = page.render("<runs>", [Section("one", "One", [picture, Note("<script>alert(1)</script>")])])
    document = Document(text)
    assert text.count("<script>") == 1  # the page's own
    assert document.images[0]["alt"] == 'a "quoted" <title>. caption & more'
    assert "<script>alert(1)</script>" in document.text
