"""The benchmark of the boundary score prints JSON, and its worst cases are all there."""

import json
import sys

import pytest

import boundary
from atrc_exp.metrics.boundary import PROTOCOLS


@pytest.fixture
def printed(monkeypatch, capsys):
    def run(*arguments: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["boundary.py", "--shape", "40", "50", "--max-dist", "0.05", *arguments])
        boundary.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_images(printed):
    result = printed("--images", "2")
    assert result["images"] == 2 and 0 < result["odsF_seism"] <= 1
    assert result["bsds_seconds"] > 0 and "ratio" not in result


def test_worst_cases(printed):
    seconds = printed("--worst")["seconds"]
    assert {name.split()[0] for name in seconds} == {"noise,", "checkerboard"}
    assert all(set(row) == set(PROTOCOLS) and min(row.values()) >= 0 for row in seconds.values())
