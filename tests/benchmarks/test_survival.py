"""The table of docs/operations.md can be made."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "survival.py"


@pytest.mark.slow
def test_a_row_of_the_table(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--only", "last.pt lost"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = [line for line in done.stdout.splitlines() if "last.pt lost" in line]
    assert row.endswith("| the same bits |")
