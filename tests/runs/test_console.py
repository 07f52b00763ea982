"""The progress line at the widths of usual terminals."""

import io
import re

import pytest
from rich.console import Console

from atrc_exp.runs.logging.console import training_bar
from atrc_exp.words import counted

TERMS = " ".join(f"{task}{kind} 1.234" for task in ("semseg", "depth", "normals", "edge") for kind in ("", "_aux"))


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("text", ["", "0.9 GiB  loss 3.456 " + TERMS])
def test_bar_count_and_time_left_stay_on_one_line_whatever_the_terms(width, text):
    written = io.StringIO()
    output = Console(file=written, width=width, force_terminal=True, color_system=None)
    progress = training_bar(output)
    progress.add_task("", total=40_000, completed=39_000, text=text)
    output.print(progress.get_renderable())
    (line,) = [line for line in written.getvalue().splitlines() if line.strip()]
    assert len(line.rstrip()) <= width
    assert re.search(r"━{10}", line) and "39000/40000" in line and re.search(r"left -?[\\d:-]+", line)
    if text:
        assert "0.9 GiB  loss 3.456" in line and ("edge_aux" in line) == (width == 200)


def test_one_thing_is_singular():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
