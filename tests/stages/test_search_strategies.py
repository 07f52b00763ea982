"""Search strategies as commands: they leave the files of a search, and mistakes leave no run folder."""

import json
from pathlib import Path

import pytest
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.genotype import load, vote
from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage, training
from atrc_exp.training.loop import Loaders

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


def test_logits_and_weights_learn_from_all_training_images_and_none_from_both(
    tmp_path: Path, rooms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Loaders] = []
    monkeypatch.setattr(training, "train", lambda *arguments: given.append(arguments[6]))
    for bilevel in ("true", "false"):
        run_stage(command(tmp_path, rooms, *SEARCH, "search.strategy=darts", f"search.bilevel={bilevel}",
                          "engine.iterations=4", "engine.batch_size=1", f"name={bilevel}"))  # fmt: skip
    apart, together = given
    assert apart.logits is not None and together.logits is None
    weights, logits, every = (
        {name for batch in loader(0) for name in batch.ids} for loader in (apart.train, apart.logits, together.train)
    )
    assert len(logits) == 1 and weights | logits == every and not weights & logits


@pytest.mark.slow
def test_bilevel_search_leaves_what_a_search_leaves(tmp_path: Path, rooms: Path) -> None:
    run_stage(command(tmp_path, rooms, *SEARCH, "search.strategy=darts", "search.bilevel=true", "search.held_out=0.5"))
    summary = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "done" and "probabilities" in load(folder(tmp_path)).details


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.strategy=random", "search.bilevel=true"], r"search\.bilevel=true: must be false .*random"),
        (["search.strategy=darts", "search.bilevel=true"], r"engine\.batch_size=2: .*the 1 images .*held_out=0\.25"),
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
