"""The checkpoints of the best validations. They are kept for a look: every result that is reported is that of the last.

On NYUD-v2 the validation split is the test split, so what is chosen here is marked as selected on it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrc_exp.files import read_json, write_json
from atrc_exp.runs import checkpoint
from atrc_exp.runs.files import BEST, LAST

SELECTED_ON = "val"
CRITERION = "sum over tasks of the validation loss divided by that of the run's first validation"
PREFIX = "best-"


class BestCheckpoints:
    """Keeps the `keep` checkpoints of lowest summed relative validation loss as `<folder>/best-<iteration>.pt`.

    Args:
        folder: the run's checkpoint folder, which holds the checkpoint of each iteration that is offered.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def offer(self, iteration: int, losses: Mapping[str, float]) -> None:
        """Keep the latest checkpoint, taken at `iteration`, if its validation losses by task are among the best."""
        if self.keep == 0 or not all(math.isfinite(loss) for loss in losses.values()):
            return
        known = self.record()
        reference = known["reference"] if known else dict(losses)
        score = sum(loss / max(reference[task], 1e-12) for task, loss in losses.items())
        entries = [entry for entry in (known["kept"] if known else []) if entry["iteration"] != iteration]
        ranked = sorted([*entries, {"iteration": iteration, "score": score}], key=lambda entry: entry["score"])
        kept = ranked[: self.keep]
        if any(entry["iteration"] == iteration for entry in kept):
            checkpoint.link(self.folder / LAST, self._path(iteration))
        write_json(self.folder / BEST, {"selected_on": SELECTED_ON, "criterion": CRITERION, "reference": reference,
                                        "kept": kept})  # fmt: skip
        wanted = {self._path(entry["iteration"]) for entry in kept}
        for path in self.folder.glob(f"{PREFIX}*{self._path(0).suffix}"):
            if path not in wanted:
                path.unlink()

    def record(self) -> dict[str, Any] | None:
        """Content of best.json: criterion, reference losses, and the kept iterations with scores, best first."""
        path = self.folder / BEST
        return read_json(path) if path.exists() else None

    def _path(self, iteration: int) -> Path:
        return self.folder / f"{PREFIX}{iteration}.pt"
