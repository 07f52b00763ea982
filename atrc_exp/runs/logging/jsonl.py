"""metrics.jsonl: one JSON object a record, the plain-file copy of every number that is logged."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrc_exp.files import write_text


def plain(value: Any) -> Any:
    """Numbers that JSON lacks (NaN, infinities) become null, in any nesting."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLines:
    """Appends records. At a start it drops those that come after the checkpoint, since they will be made again."""

    def __init__(self, path: Path, iteration: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if _precedes(line, iteration)]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def record(self, record: Mapping[str, Any]) -> None:
        """Append one record. When this returns, the whole line is on the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(record), allow_nan=False) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Read all records of a run, in order. Lines that hold none, such as one that a kill cut short, are left out."""
    return [record for record in map(_record, _lines(path)) if record is not None]


def count_damaged(path: Path) -> int:
    """Count the lines that hold no record, but for the last line, which a kill may have cut short."""
    return sum(_record(line) is None for line in _lines(path)[:-1])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _precedes(line: str, iteration: int) -> bool:
    """Tell whether a record was made before the checkpoint of an iteration, which a validation follows."""
    record = _record(line)
    if record is None:
        return False
    return record["step"] < iteration or (record["step"] == iteration and record["kind"] != "val")


def _record(line: str) -> dict[str, Any] | None:
    """Parse the record of a line; None where the line is not whole."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("kind"), str)
    return record if whole else None
