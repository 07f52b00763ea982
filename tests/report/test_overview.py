"""Tables of sweeps and of what their runs took, and the pictures found in run folders."""

import json

import pytest
from PIL import Image

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.report.figures import gallery
from atrc_exp.report.results import overview


@pytest.fixture
def runs(runs_dir, make_run):
    """A name with a finished, a failed and a running seed, and one whose summary is damaged."""
    done = make_run("module", 0, {"semseg": 0.3}, seconds=120.0, neck="skip")
    records = [{"step": s, "kind": "train", "seconds_per_step": t, "memory_mib": 900 + s}
               for s, t in ((10, 4.0), (20, 0.5), (30, 0.4))]  # fmt: skip
    (done / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (done / "config.yaml").write_text("engine:\n  batch_size: 8\n")
    start = {"device": "cuda (H100)", "world": 2, "versions": {"torch": "2.15.0"}, "commit": "0123456789"}
    write_json(done / "environment.json", {"starts": [start, {**start, "commit": None}]})
    write_json(runs_dir / "module" / "seed1" / "status.json", {"error": "out of memory"})
    (runs_dir / "module" / "seed2").mkdir()
    (make_run("damaged", 0, {"semseg": 0.3}) / "summary.json").write_text('{"version": 1}')
    return overview.read(runs_dir)


def cells(sheet):
    return {row[0].text: dict(zip(sheet.header, (cell.text for cell in row), strict=True)) for row in sheet.rows}


def test_every_seed_is_counted_as_what_it_is(runs):
    sheet = overview.sweeps(runs)
    found = cells(sheet)["module"]
    assert [found[key] for key in ("Done", "Failed", "Not finished", "Hours")] == ["1", "1", "1", "0.03"]
    assert (found["Network"], found["Iterations"]) == ("none, skip", "40")
    assert {"module/seed1: failed: out of memory", "module/seed2: not finished"} <= set(sheet.notes)
    assert any(note.startswith("damaged: ") and "not a summary" in note for note in sheet.notes)
    assert [cells(sheet)["damaged"][key] for key in ("Done", "Failed", "Not finished")] == ["0", "0", "0"]


def test_all_names_of_one_run_share_a_line(runs_dir, make_run):
    for name in ("one", "two", "three"):
        make_run(name, 0, {"semseg": 0.3})
    for seed in range(2):
        make_run("several", seed, {"semseg": 0.3})
    notes = [note for note in overview.sweeps(overview.read(runs_dir)).notes if "deviation" in note]
    assert len(notes) == 1 and "several" not in notes[0]
    assert all(name in notes[0] for name in ("one", "two", "three"))


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "{}", "\0"])
def test_a_damaged_record_takes_away_its_own_cells_alone(runs, runs_dir, name, content):
    path = runs_dir / "module" / "seed0" / name
    path.write_text(content)
    sheet = overview.system(runs)
    found = cells(sheet)["module"]
    assert any(str(path) in note for note in sheet.notes)
    assert (found["Step [s]"], found["Run [min]"]) == ("0.500", "2.0")
    assert (found["Images/s"] == "16.0") == (found["PyTorch"] == "–") == (name != "config.yaml")


def test_what_the_runs_took(runs):
    found = cells(overview.system(runs))["module"]
    assert (found["Step [s]"], found["Images/s"], found["Peak memory [MiB]"]) == ("0.500", "16.0", "930")  # the median
    assert (found["Run [min]"], found["Starts"], found["Device"]) == ("2.0", "2", "cuda × 2 ¹")
    assert (found["PyTorch"], found["Commit"]) == ("2.15.0", "01234567, installed")
    assert overview.system(runs).notes[0] == "¹ cuda (H100)"


def test_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        overview.read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no runs"):
        overview.read(tmp_path)


def test_pictures_of_every_run_come_before_more_of_one(runs, runs_dir):
    for seed, stems in ((0, "abc"), (1, "z")):
        folder = runs_dir / "module" / f"seed{seed}" / "predicted"
        folder.mkdir()
        for stem in stems:
            Image.new("RGB", (4, 2)).save(folder / f"{stem}.png")
    found = gallery.find(runs.names, "predicted/*.png")
    assert [path.stem for path in found] == ["a", "z", "b", "c"]
    assert gallery.data_uri(found[0]).startswith("data:image/webp;base64,")
