"""From the search of a branching to ATRC on the branched network, on tiny rooms."""

import json
import math

import pytest
import torch
from small_rooms import as_typed, command

from atrc_exp.bmtas import figure
from atrc_exp.bmtas.loop import BranchSession
from atrc_exp.bmtas.state import BranchSchedule
from atrc_exp.bmtas.tree import Branching, load, save
from atrc_exp.errors import UserError
from atrc_exp.stages import run_stage
from atrc_exp.training import memory

TINY = ("backbone.name=resnet10t", "engine.checkpoint_every=1")
SEARCH = ("+experiment=rooms_resnet50_branch", *TINY, "engine.iterations=3", "branching.arch_share=0.5",
          "branching.warmup=0.34", "engine.log_every=1", "engine.validate_every=3")  # fmt: skip
BRANCHED = ("backbone=resnet50_scratch", "neck=skip", "name=branched", *TINY)
"""A network on the encoder that is searched, in place of a preset's."""


@pytest.mark.slow
def test_search_leaves_a_branching_on_which_atrc_trains(tmp_path, rooms, caplog):
    run_stage(command(tmp_path, rooms, *SEARCH, "engine.save_predictions=true"))
    folder = tmp_path / "runs" / "rooms_resnet50_branch" / "seed0"
    found = load(folder)
    assert found.tasks == ("semseg", "depth", "normals", "edge")
    assert list(found.layers) == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert found.details["backbone"] == "resnet10t" and found.details["step"] == 3
    assert {"branching.png", "branching.svg"} <= {path.name for path in folder.iterdir()}
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stage"], summary["iteration"], summary["status"]) == ("branch", 3, "done")
    assert [kept["iteration"] for kept in summary["best_checkpoints"]["kept"]] == [3]
    assert {"best.json", "best-3.pt", "last.pt"} <= {path.name for path in (folder / "checkpoints").iterdir()}
    assert any((folder / "predictions").rglob("*.png"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in records] == ["train", "branch"] * 3 + ["val"]
    temperatures = [r.get("temperature") for r in records if r["kind"] == "branch"]
    assert temperatures[0] is None and temperatures[1:] == pytest.approx([5.0, 0.1])
    assert all(math.isfinite(r["loss"]) for r in records if r["kind"] == "train")
    with caplog.at_level("INFO", logger="atrc_exp"):
        run_stage(command(tmp_path, rooms, *SEARCH))
    assert "done already" in caplog.text
    with pytest.raises(UserError, match="is a branch search, which leaves no network"):
        as_typed("stage=evaluate", f"run={folder}")

    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", *BRANCHED, "genotype=published/nyud_hrnet18",
                      f"branching.file={folder}"))  # fmt: skip
    trained = tmp_path / "runs" / "branched" / "seed0"
    assert load(trained) == found
    assert json.loads((trained / "summary.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_interrupted_search_goes_on_to_the_same_weights(tmp_path, rooms, monkeypatch):
    run_stage(command(tmp_path, rooms, *SEARCH, "name=whole"))
    save_checkpoint = BranchSession.save

    def save_and_stop(session: BranchSession) -> None:
        save_checkpoint(session)
        if session.state.iteration == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BranchSession, "save", save_and_stop)
        run_stage(command(tmp_path, rooms, *SEARCH, "name=halted"))
    run_stage(command(tmp_path, rooms, *SEARCH, "name=halted"))
    whole, halted = (torch.load(tmp_path / "runs" / name / "seed0" / "checkpoints" / "last.pt", weights_only=True)
                     for name in ("whole", "halted"))  # fmt: skip
    assert whole["iteration"] == halted["iteration"] == 3
    assert all(torch.equal(value, halted["network"][key]) for key, value in whole["network"].items())
    assert whole["network"]["arch"].abs().max() > 0


@pytest.mark.slow
def test_branched_network_trains_and_is_evaluated_with_the_branching_it_was_built_from(tmp_path, rooms):
    tasks = ("semseg", "depth", "normals", "edge")
    layers = {f"layer{n}": (tasks,) if n < 3 else (tasks[:2], tasks[2:]) for n in range(1, 5)}
    given = tmp_path / "given.json"
    save(Branching(tasks, layers), given)
    training = ("+experiment=rooms_hrnet18_multi_task", *BRANCHED, f"branching.file={given}")
    run_stage(command(tmp_path, rooms, *training))
    folder = tmp_path / "runs" / "branched" / "seed0"
    given.unlink()
    run_stage(as_typed("stage=evaluate", f"run={folder}"))
    assert (folder / "evaluation.json").is_file()
    (folder / "summary.json").unlink()
    save(Branching(tasks, dict.fromkeys(layers, (tasks,))), given)
    with pytest.raises(UserError, match="differs from the branching given now"):
        run_stage(command(tmp_path, rooms, *training))


def test_search_that_does_not_fit_into_the_memory_is_refused(tmp_path, rooms, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"a training step needs about .* GiB.*memory_check=false"):
        run_stage(command(tmp_path, rooms, *SEARCH))
    assert not (tmp_path / "runs" / "rooms_resnet50_branch" / "seed0" / "checkpoints").exists()


def test_schedule_divides_the_iterations_into_epochs(tmp_path, rooms):
    config = command(tmp_path, rooms, *SEARCH, "engine.iterations=95", "branching.warmup=0.05")
    schedule = BranchSchedule(config, weight_batches=5, arch_batches=2)
    assert (schedule.epochs, schedule.warmup, schedule.arch_iterations) == (19, 1, 36)
    assert [schedule.searching(epoch) for epoch in (0, 1, 18)] == [False, True, True]
    assert schedule.temperature(1) == 5.0 and schedule.temperature(18) == pytest.approx(0.1)
    assert [schedule.start(epoch) for epoch in (0, 1, 19)] == [0, 5, 95]
    assert [schedule.arch_start(epoch) for epoch in (0, 1, 2)] == [0, 0, 2]
    cut = BranchSchedule(config, weight_batches=10, arch_batches=2)
    assert (cut.epochs, cut.start(cut.epochs)) == (10, 95)  # the last epoch has 5 batches


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["distillation=global"], ["distillation=global", "none for stage=branch"]),
        (["neck=fpm"], ["neck=fpm", "shared, skip or aspp"]),
        (["branching.file=somewhere"], ["branching.file=somewhere", "null"]),
        (["engine.precision=fp16"], ["engine.precision=fp16", "bf16"]),
        (["tasks=[depth]"], ["more than one"]),
        (["branching.layers=net"], ["branching.layers=net", "block or stage"]),
        (["branching.resource_form=true"], ["published or exact"]),
        (["neck=aspp", "engine.accumulate=2"], ["more than one image at a time"]),
    ],
)
def test_what_a_branch_search_cannot_be_is_said_at_once(tmp_path, rooms, overrides, parts):
    with pytest.raises(UserError) as caught:
        command(tmp_path, rooms, *SEARCH, *overrides)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_tree_places_tasks_that_share_side_by_side():
    tasks = ("semseg", "depth", "normals", "edge")
    branching = Branching(tasks, {
        "layer1.0": (tasks,),
        "layer1.1": (("semseg", "normals"), ("depth", "edge")),
        "layer2.0": (("semseg",), ("normals",), ("depth", "edge")),
    })  # fmt: skip
    texts = [text.get_text() for text in figure.draw(branching).axes[0].texts]
    titles = [text for text in texts if text in ("SemSeg", "Normal", "Depth", "Bound")]
    assert sorted(titles) == ["Bound", "Depth", "Normal", "SemSeg"]
    axes = figure.draw(branching).axes[0]
    height = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert abs(height["SemSeg"] - height["Normal"]) == 1 and abs(height["Depth"] - height["Bound"]) == 1
    assert "6 copies of 3 layers" in texts
    assert len(axes.patches) == 1 + 6  # the stem and every copy
