"""The help text lists every distillation module."""

import re
import subprocess
import sys

from atrc_exp.config.compose import CONF
from atrc_exp.config.help import help_text
from atrc_exp.models.distillation import DISTILLATIONS


def test_help_has_one_line_for_every_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "atrc_exp", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "+experiment=" in done.stdout
    assert re.search(r"^  backbone: .*\bhrnet18\b.*\bresnet50\b", done.stdout, re.MULTILINE)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    for name, entry in DISTILLATIONS.items():
        assert entry.description in lines[name] and entry.source in lines[name]
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_the_text_is_taken_for_a_placeholder():
    assert "$" not in help_text(CONF, DISTILLATIONS)


def test_presets_are_counted_and_said_how_to_list():
    text, presets = help_text(CONF, DISTILLATIONS), [path.stem for path in (CONF / "experiment").glob("*.yaml")]
    section = text[text.index("== Presets") : text.index("== Configuration")]
    assert str(len(presets)) in section and str(CONF / "experiment") in section and len(section) < 1500
    lines = [line for line in section.splitlines()[1:] if line.strip() and not line.startswith("  ls")]
    counts = {line.split()[0]: list(map(int, re.findall(r" (\d+)", line))) for line in lines}
    assert sum(map(sum, counts.values())) == len(presets)
    assert sum(counts["rooms_people"]) == sum(name.startswith("rooms_people_") for name in presets)
    assert f"resnet50 {sum(name.startswith('nyud_resnet50_') for name in presets)}" in section
    assert not any(name in text for name in presets)


def test_every_module_is_a_choice_of_the_group():
    assert {path.stem for path in (CONF / "distillation").glob("*.yaml")} == set(DISTILLATIONS)
    assert all("\n" not in entry.description + entry.source + entry.inferred for entry in DISTILLATIONS.values())
