"""The Explorer in a real Chromium: keyboard, pointer and touch, light and dark, a phone, print, hostile names."""

import json
import math
import shutil

import pytest

from atrc_exp.genotype import candidates
from atrc_exp.report.page import explorer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[browser]'")

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STEPS = [10, 20, 30, 40]
CONTRAST = 3  # least of graphics that have to be understood, WCAG 1.4.11


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed; one of {', '.join(BROWSERS)} is needed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def seed_of(tasks, number, kept, rows=None):
    """Four steps: the first block freezes to `kept` at the third, the others stay as they are."""
    rows = rows or tasks
    blocks = {t: {s: {"p": {c: [200] * 4 for c in candidates(t, s)}, "frozen": None} for s in tasks} for t in rows}
    first = blocks[rows[0]][tasks[0]]
    first["frozen"] = 2
    first["p"] = {name: [200, 300 if name == kept else 100, *[1000 * (name == kept)] * 2] for name in first["p"]}
    chosen = {t: dict.fromkeys(tasks, kept) for t in rows}
    return {"seed": number, "state": "finished", "steps": STEPS, "entropy": [1.6, 1.5, 1.2, 1.1],
            "temperature": [1, 0.8, 0.6, 0.4], "frozen": [0, 0, 1, 1], "blocks": blocks, "chosen": chosen}  # fmt: skip


def search_of(name, tasks, **changes):
    seeds = [seed_of(tasks, 0, "global"), seed_of(tasks, 3, "tlabel")]
    found = {"name": name, "tasks": tasks, "rows": tasks, "seeds": seeds, "vote": None, "importance": [],
             "attention": [], "costs": None, "notes": []}  # fmt: skip
    return found | changes


HOSTILE = "<img src=x onerror=alert(1)></script>"
MANY = ["semseg", "human_parts", "sal", "normals", "edge", "depth"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    block = {"chosen": "tlabel", "votes": {"tlabel": 2}, "agreement": 1.0}
    vote = {"runs": 2, "agreement": 0.5, "kappa": 0.25, "blocks": {t: dict.fromkeys(MANY, block) for t in MANY}}
    empty = {"seed": 7, "state": HOSTILE, "steps": [], "entropy": [], "temperature": [], "frozen": [], "blocks": {},
             "chosen": None}  # fmt: skip
    follow = {"importance": [{"run": "follow/seed0", "basis": "the vote", "blocks": {
        f"depth@{scale}": {"edge": {"drop": [scale + 0.5, None], "delta_m_drop": None}} for scale in range(2)}}],
        "attention": [{"run": "follow/seed0", "basis": "the vote", "place": "a_1_2", "target": f"depth@{scale}",
                       "uri": "data:,"} for scale in range(2)]}  # fmt: skip
    rows = [f"{task}@{scale}" for scale in range(4) for task in MANY]
    searches = [
        search_of("many", MANY, vote=vote),
        search_of(
            HOSTILE, ["depth"], notes=[HOSTILE], importance=[{"run": HOSTILE, "basis": "the vote", "blocks": {}}]
        ),
        search_of("nothing", ["depth", "edge"], seeds=[empty]),
        search_of("follow", ["depth", "edge"], **follow),
        search_of("scales", MANY, rows=rows, seeds=[seed_of(MANY, 0, "local", rows)]),
    ]
    types = {name: explorer._looks(name) for name in candidates("a", "b")}
    data = {"types": types, "tasks": {row: explorer._task(row) for row in [*MANY, *rows]}, "searches": searches}
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(explorer.render("runs", data), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page; afterwards nothing may have failed, and nothing may have been asked for but the file."""
    contexts, faults = [], []

    def go(fragment="", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # milliseconds; a busy machine is slow
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: request.url.startswith(address) or faults.append(request.url))
        page.goto(address + fragment)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not faults


def selected(page):
    (cell,) = page.locator("#matrix td[aria-selected=true]").all()
    return cell.get_attribute("data-target"), cell.get_attribute("data-source")


def test_arrow_keys_move_in_the_matrix_and_the_iterations(visit):
    page = visit("#search=many&block=semseg.semseg&seed=0&step=40")
    page.locator("#matrix td[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert selected(page) == ("human_parts", "human_parts")
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")  # stays within
    assert selected(page) == ("human_parts", "depth")
    assert page.evaluate("document.activeElement.dataset.source") == "depth"
    assert "PartSeg ← Depth" in page.locator("#block-title").inner_text()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    cell = page.locator("#matrix td[aria-selected=true]")
    assert selected(page) == ("semseg", "semseg") and "frozen" in cell.inner_text()
    page.locator("#step").focus()
    for step in (30, 20):
        page.keyboard.press("ArrowLeft")
        assert str(step) in page.locator("#step").get_attribute("aria-valuetext")
    assert "0.30" in cell.inner_text() and "global" in cell.get_attribute("aria-label")
    # Entropy of 0.3 and three times 0.1 nats: the probabilities stand as they are in the records.
    entropy = -(0.3 * math.log(0.3) + 3 * 0.1 * math.log(0.1))
    assert f"{entropy:.2f}" in page.locator("#state").inner_text()
    assert "30" in page.locator("#state").inner_text()  # when it will freeze
    page.locator("input[name=seed]:checked").focus()
    page.keyboard.press("ArrowRight")
    assert "seed 3" in page.locator("#block-title").inner_text() and "T-label" in cell.inner_text()
    page.wait_for_url(lambda url: "seed=3" in url and "step=20" in url)


def test_the_address_tells_what_is_shown(visit):
    page = visit("#search=many&block=edge.sal&seed=3&step=25")
    assert selected(page) == ("edge", "sal")
    assert page.locator("input[name=seed]:checked").get_attribute("value") == "1"
    assert "20" in page.locator("#step").get_attribute("aria-valuetext")  # the last record before it
    assert page.locator("#search option:checked").inner_text() == "many"
    for wrong in ("#search=other&block=a.b&seed=99&step=x", "#block=edge", "#%"):
        assert selected(visit(wrong))[0] in MANY


def test_pointer_and_touch(visit):
    page = visit("#search=many&block=semseg.semseg&step=40", has_touch=True, viewport={"width": 390, "height": 844})
    chart = page.locator("#curves")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    chart.tap(position={"x": 42, "y": box["height"] / 2})
    assert "10 of 40" in page.locator("#iteration").inner_text()
    page.mouse.move(box["x"] + 42, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 40, steps=4)
    page.mouse.up()
    assert "40 of 40" in page.locator("#iteration").inner_text()
    page.locator("#matrix td[data-target=edge][data-source=sal]").tap()
    assert selected(page) == ("edge", "sal")
    page.locator("input[name=seed][value='1']").tap()
    assert page.locator("input[name=seed]:checked").get_attribute("value") == "1"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_blocks_of_every_scale_are_picked_and_come_into_view(visit):
    """24 rows are higher than the window: the matrix scrolls, also under the keys."""
    page = visit("#search=scales&block=sal@3.depth")
    assert selected(page) == ("sal@3", "depth") and "scale 3" in page.locator("#block-title").inner_text()
    page.locator("#matrix td[aria-selected=true]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert selected(page) == ("depth@3", "depth")
    box = page.locator("#matrix td[aria-selected=true]").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    assert page.evaluate("scrollY") < 400, "the page itself need not be scrolled to its end"
    phone = visit("#search=scales&block=edge@1.sal", has_touch=True, viewport={"width": 390, "height": 844})
    phone.locator("#matrix td[data-target='normals@2'][data-source=edge]").tap()
    assert selected(phone) == ("normals@2", "edge")
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_findings_of_every_scale_stand_at_the_block_that_all_follow(visit):
    page = visit("#search=follow&block=depth.edge")
    rows = page.locator("#importance tbody tr").all_inner_texts()
    assert len(rows) == 2 and all(f"scale {scale}" in row and f"{scale}.5" in row for scale, row in enumerate(rows))
    captions = page.locator("#attention figcaption").all_inner_texts()
    assert len(captions) == 2 and "scale 1" in captions[1]


CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const contrast = (one) => (Math.max(one, paper) + 0.05) / (Math.min(one, paper) + 0.05);
  const lines = [...document.querySelectorAll("#curves path.curve")]
    .map((line) => contrast(luminance(getComputedStyle(line).stroke)));
  return { paper, text: contrast(luminance(getComputedStyle(document.body).color)), lines };
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_by_the_system_and_by_the_switch(visit, dark):
    own, other = ("dark", "light") if dark else ("light", "dark")
    by_system = visit("#search=many&block=semseg.edge", color_scheme=own)
    by_switch = visit("#search=many&block=semseg.edge", color_scheme=other)
    by_switch.locator(f"input[name=scheme][value={own}]").click()
    found = by_system.evaluate(CONTRASTS)
    assert by_switch.evaluate(CONTRASTS) == found
    assert (found["paper"] < 0.05) if dark else (found["paper"] > 0.9)
    assert found["text"] >= 7 and len(found["lines"]) == 5
    assert min(found["lines"]) >= CONTRAST, found


def test_names_are_text_and_what_is_missing_is_said(visit):
    page = visit("#search=" + "many")
    page.locator("#search").select_option("1")
    assert page.locator("#notes li").inner_text() == HOSTILE
    assert HOSTILE in page.locator("#importance").inner_text()
    assert page.locator("#vote .gap, #attention .gap, #costs .gap").count() == 3
    page.locator("#search").select_option("2")
    assert HOSTILE in page.locator("#seed-table").inner_text()
    assert page.locator("#step").is_disabled() and page.locator("#curves").is_hidden()
    assert page.locator("#matrix td").first.inner_text() == "?"
    page.locator("#search").select_option("0")
    assert "2 of 2" in page.locator("#vote").inner_text() and "0.25" in page.locator("#vote").inner_text()
    assert page.locator("#missing").is_hidden() and page.locator("#curves svg").is_visible()


def test_print_leaves_the_controls_out(visit):
    page = visit("#search=many", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#step").is_hidden() and page.locator("#curves svg").is_visible()
    assert page.evaluate(CONTRASTS)["paper"] > 0.9
    assert len(page.pdf()) > 10_000


def test_data_of_the_tests_has_the_keys_of_the_collection(runs_dir, make_search):
    """What these tests show by hand is what `collect` writes."""
    from atrc_exp.report.results import overview

    make_search("found", 0, "semseg depth", "tl gn")
    data = explorer.collect(overview.read(runs_dir))
    (search,) = data["searches"]
    assert search.keys() == search_of("a", ["depth"]).keys()
    assert search["seeds"][0].keys() == seed_of(["depth"], 0, "global").keys()
    assert json.dumps(data).count("NaN") == 0
