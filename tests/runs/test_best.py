import json
import math
from pathlib import Path

import pytest

from atrc_exp.runs import checkpoint
from atrc_exp.runs.best import BestCheckpoints


def offer(best: BestCheckpoints, iteration: int, **losses: float) -> None:
    """Save a checkpoint of the iteration and offer it."""
    checkpoint.save(best.folder / checkpoint.LAST, {"iteration": iteration})
    best.offer(iteration, losses)


def kept(folder: Path) -> dict[int, float]:
    """Score by iteration, as the record says and the files hold."""
    record = json.loads((folder / "best.json").read_text())
    assert record["selected_on"] == "val"
    scores = {entry["iteration"]: entry["score"] for entry in record["kept"]}
    assert {path.name for path in folder.glob("best-*.pt")} == {f"best-{iteration}.pt" for iteration in scores}
    for iteration in scores:
        assert checkpoint.load(folder / f"best-{iteration}.pt") == {"iteration": iteration}
    return scores


def test_the_lowest_sums_of_relative_losses_are_kept(tmp_path: Path) -> None:
    best = BestCheckpoints(tmp_path, 2)
    offer(best, 10, depth=2.0, semseg=0.5)
    assert kept(tmp_path) == {10: 2.0}  # 1 a task at the first validation
    offer(best, 20, depth=4.0, semseg=0.05)  # 2 + 0.1
    offer(best, 30, depth=1.0, semseg=0.5)  # 0.5 + 1
    assert kept(tmp_path) == {30: pytest.approx(1.5), 10: pytest.approx(2.0)}


def test_iteration_that_is_validated_again_counts_once(tmp_path: Path) -> None:
    best = BestCheckpoints(tmp_path, 2)
    offer(best, 10, depth=2.0)
    BestCheckpoints(tmp_path, 2).offer(10, {"depth": 2.0})
    assert kept(tmp_path) == {10: 1.0}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_loss_without_a_value_is_not_chosen_and_nothing_is_kept_on_request(tmp_path: Path) -> None:
    offer(BestCheckpoints(tmp_path, 1), 10, depth=math.nan)
    offer(BestCheckpoints(tmp_path, 0), 20, depth=1.0)
    assert not list(tmp_path.glob("best*"))
