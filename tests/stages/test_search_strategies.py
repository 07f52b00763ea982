"""Search strategies as commands: they leave the files of a search, and mistakes leave no run folder."""

import json
from pathlib import Path

import pytest
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.genotype import load, vote
from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage

SEARCH = ("+experiment=rooms_hrnet18_search", *QUICK, "tasks=[semseg,depth]", "distillation.channels=8",
          "distillation.kernel_size=3", "engine.iterations=2", "search.population=2", "search.generations=1",
          "search.held_out=0.25")  # fmt: skip


def folder(tmp_path: Path, seed: int = 0) -> Path:
    return tmp_path / "runs" / "rooms_hrnet18_search" / f"seed{seed}"


@pytest.mark.slow
def test_strategy_that_chooses_holds_images_out_and_leaves_what_a_search_leaves(tmp_path: Path, rooms: Path) -> None:
    for seed in (0, 1):
        run_stage(command(tmp_path, rooms, *SEARCH, "search.strategy=spos", f"seed={seed}"))
    one = folder(tmp_path)
    summary = json.loads((one / "summary.json").read_text())
    assert summary["status"] == "done" and summary["search"]["frozen_blocks"] == 4
    records = [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
    (choice,) = (record for record in records if record["kind"] == "search")
    assert choice["scored"] == 4 and choice["held_out_loss"] > 0
    assert vote([load(one), load(folder(tmp_path, 1))]).details["runs"] == 2

    run_stage(as_typed("stage=evaluate", f"run={one}", "engine.workers=0", "engine.progress=false"))
    evaluated = one / "evaluation.json"
    losses = json.loads(evaluated.read_text())["losses"]
    assert losses == pytest.approx(summary["losses"]), "the checkpoint holds the chosen path and its statistics"
    assert checkpoint.load(one / "checkpoints" / "last.pt")["arch_optimizer"] is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.strategy=gumble"], r"search\.strategy=gumble"),
        (["search.strategy=spos", "search.held_out=0.01"], r"search\.held_out=0\.01: .*4 training images"),
        (["search.strategy=spos", "search.held_out=0.75"], r"engine\.batch_size=2"),
        (["search.resource_weight=1", "search.budget=1e-6"], r"search\.budget=1e-06: must be at least"),
    ],
)
def test_mistake_is_one_line_and_leaves_no_folder(
    tmp_path: Path, rooms: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        run_stage(command(tmp_path, rooms, *SEARCH, *overrides))
    assert "\n" not in str(error.value) and not folder(tmp_path).exists()
