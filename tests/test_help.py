"""The help text lists every distillation module."""

import re
import subprocess
import sys

from atrc_exp.__main__ import CONF
from atrc_exp.distillation import DISTILLATIONS
from atrc_exp.help import help_text


def test_help_has_one_line_for_every_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "atrc_exp", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "+experiment=" in done.stdout
    assert re.search(r"^backbone: .*\bhrnet18\b.*\bresnet50\b", done.stdout, re.MULTILINE)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    for name, entry in DISTILLATIONS.items():
        assert entry.description in lines[name] and entry.source in lines[name]
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_the_text_is_taken_for_a_placeholder():
    assert help_text().count("$") == 1  # Hydra's own


def test_every_module_is_a_choice_of_the_group():
    assert {path.stem for path in (CONF / "distillation").glob("*.yaml")} == set(DISTILLATIONS)
    assert all("\n" not in entry.description + entry.source + entry.inferred for entry in DISTILLATIONS.values())
