import json
import math
from pathlib import Path

import pytest

from atrc_exp.runs.logging.jsonl import JsonLines, count_damaged, read


def test_records_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, 0)
    for step in (2, 4, 6):
        lines.record({"step": step, "kind": "train", "loss": step / 3})
    JsonLines(path, 4).record({"step": 6, "kind": "train", "loss": 9.0})
    assert [(record["step"], record["loss"]) for record in read(path)] == [(2, 2 / 3), (4, 4 / 3), (6, 9.0)]


def test_validation_of_the_checkpoint_itself_is_made_again(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "metrics.jsonl", 0)
    for kind in ("train", "search", "val"):
        lines.record({"step": 4, "kind": kind})
    JsonLines(tmp_path / "metrics.jsonl", 4)
    assert [record["kind"] for record in read(tmp_path / "metrics.jsonl")] == ["train", "search"]


def test_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, 0).record({"step": 2, "kind": "train"})
    with path.open("a") as file:
        file.write('{"step": 3, "ki')
    assert [record["step"] for record in read(path)] == [2]
    JsonLines(path, 10).record({"step": 3, "kind": "train"})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 3]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, 0).record({"step": 1, "kind": "val", "a": math.nan, "b": {"c": [math.inf, 1.5]}})
    assert read(path) == [{"step": 1, "kind": "val", "a": None, "b": {"c": [None, 1.5]}}]


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"3", b"[1]", b"null", b'{"step": "ten", "kind": "train"}', b'{"step": null, "kind": "train"}',
     b'{"step": 3}', b'{"kind": "val"}', b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_counted(tmp_path: Path, line: bytes) -> None:
    path, good = tmp_path / "metrics.jsonl", b'{"step": 1, "kind": "train"}'
    path.write_bytes(b"\n".join((good, line, good.replace(b"1", b"2"))) + b"\n")
    assert [record["step"] for record in read(path)] == [1, 2] and count_damaged(path) == 1
    JsonLines(path, 1)  # a resume drops it, with what comes after the checkpoint
    assert path.read_bytes() == good + b"\n"
    path.write_bytes(good + b"\n" + line)  # at the end it is what a kill leaves
    assert len(read(path)) == 1 and count_damaged(path) == 0
