"""The table of resources: what it says of each network, and the whole command."""

import json

import pytest

from atrc_exp.models.profile import Part
from atrc_exp.report.paper.published import TABLE_1
from atrc_exp.report.resources import Row, main, to_markdown


def test_a_row_shows_ours_beside_the_papers_and_what_is_inferred():
    pap = next(row for row in TABLE_1.rows if row.preset == "pap")
    row = Row(pap, "pap", Part(4_543_176, 18_241_230_324, 0, 53_024_975_864))
    line = to_markdown([row]).splitlines()[2]
    assert line.startswith("| PAP | 4.543 | 4.54 | 53.025 | 53.04 | -0.03 % | nine steps at half the resolution")
    values = row.as_dict()
    assert values["published"] == {"parameters": pytest.approx(4.54e6), "multiply_adds": pytest.approx(53.04e9)}
    assert values["multiply_adds"] == 53_024_975_864 and values["preset"] == "nyud_hrnet18_pap"


def test_notes_on_the_module_and_on_its_count_stand_together():
    tlabel = next(row for row in TABLE_1.rows if row.preset == "tlabel")
    assert "one more product" in Row(tlabel, "tlabel", Part(1, 1, 1, 1)).inferred
    nddr = next(row for row in TABLE_1.rows if row.preset == "nddr")
    assert Row(nddr, "nddr", Part(1, 1, 1, 1)).inferred == ""


def test_measured_time_and_memory_stand_beside_the_resources():
    first, second = TABLE_1.rows[1:3]
    measured = {"seconds": {"step": 0.25}, "peak_memory_mib": 812.4}
    lines = to_markdown([Row(first, "none", Part(1, 1, 1, 1), measured), Row(second, "nddr", Part(1, 1, 1, 1))])
    header, rule, *rows = lines.splitlines()
    assert header.count("|") == rule.count("|") == rows[0].count("|") == rows[1].count("|")
    assert "step [s] | memory [MiB]" in header and "| 0.250 | 812 |" in rows[0] and "| – | – |" in rows[1]


@pytest.mark.exhaustive
def test_every_network_of_the_table_has_the_papers_resources(tmp_path, capsys):
    main(["--out", str(tmp_path)])
    assert (tmp_path / "resources.md").read_text() in capsys.readouterr().out
    rows = json.loads((tmp_path / "resources.json").read_text())["rows"]
    assert [row["title"] for row in rows] == [row.title for row in TABLE_1.rows]
    for row in rows:
        published, unexplained = row["published"], row["distillation"] in ("tlabel", "slabel", "atrc")
        assert row["parameters"] == pytest.approx(published["parameters"], abs=0.01e6)
        assert row["multiply_adds"] == pytest.approx(published["multiply_adds"], rel=0.02 if unexplained else 0.002)
