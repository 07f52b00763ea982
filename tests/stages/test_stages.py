"""Whole commands on tiny rooms: every kind of network trains a step, and a finished run is left as documented."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from small_rooms import command

from atrc_exp.errors import UserError
from atrc_exp.genotype import PUBLISHED_GENOTYPES, load
from atrc_exp.stages import run_stage

KINDS = ("search", "atrc", "single_task", "multi_task", "global", "local", "tlabel", "slabel", "tlabel_gt", "slabel_gt",
         "single_task_depth_classification", "single_task_normals_classification")  # fmt: skip
CODED = ("search", "atrc", "tlabel", "slabel", "tlabel_gt", "slabel_gt", "single_task_normals_classification")


@pytest.mark.parametrize("what", KINDS)
def test_every_kind_of_network_trains_and_leaves_its_files(tmp_path, rooms, what):
    extra = ["genotype=published/nyud_hrnet18"] if what == "atrc" else []
    config = command(tmp_path, rooms, f"+experiment=rooms_hrnet18_{what}", *extra)
    run_stage(config)
    folder = tmp_path / "runs" / config.name / "seed0"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "done" and summary["iteration"] == 1 and summary["tasks"] == config.task_names
    assert set(summary["losses"]) == set(config.task_names)
    assert all(math.isfinite(value) for value in summary["losses"].values())
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in records if r["kind"] != "search"] == ["train", "val"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["root"] == str(rooms)
    assert (folder / "checkpoints" / "last.pt").is_file() and (folder / "environment.json").is_file()
    codebook = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["codebook"]
    assert (codebook is not None) == (folder / "codebook.npy").exists() == (what in CODED)
    if what in CODED:
        assert np.array_equal(np.load(folder / "codebook.npy"), codebook.numpy())
    if what == "search":
        assert load(folder).tasks == tuple(config.task_names)
    if what == "atrc":
        assert load(folder) == PUBLISHED_GENOTYPES["nyud_hrnet18"]


@pytest.mark.slow
def test_hrnet48_searches(tmp_path, rooms):
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet48_search"))
    assert (tmp_path / "runs" / "rooms_hrnet48_search" / "seed0" / "genotype.json").is_file()


def test_second_start_says_done_and_another_configuration_is_refused(tmp_path, rooms, caplog):
    start = ("+experiment=rooms_hrnet18_multi_task", "tasks=[depth]")
    run_stage(command(tmp_path, rooms, *start))
    summary = tmp_path / "runs" / "rooms_hrnet18_multi_task" / "seed0" / "summary.json"
    written = summary.stat().st_mtime_ns
    with caplog.at_level("INFO", logger="atrc_exp"):
        run_stage(command(tmp_path, rooms, *start, "engine.log_every=7"))
    assert "done already" in caplog.text and summary.stat().st_mtime_ns == written
    with pytest.raises(UserError, match=r"optim\.lr: 0\.01 -> 0\.02"):
        run_stage(command(tmp_path, rooms, *start, "optim.lr=0.02"))


def test_genotype_blocks_alone_start_from_all_none(tmp_path, rooms):
    config = command(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", "+genotype_blocks.depth.semseg=local")
    run_stage(config)
    genotype = load(tmp_path / "runs" / config.name / "seed0")
    others = {genotype.blocks[t][s] for t, s in genotype.pairs() if (t, s) != ("depth", "semseg")}
    assert genotype.blocks["depth"]["semseg"] == "local" and others == {"none"}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["+experiment=rooms_hrnet18_atrc", "genotype=published/pascal_hrnet18"], ["human_parts", "semseg, depth"]),
        (["+experiment=rooms_hrnet18_atrc", "genotype=nowhere.json"], ["nowhere.json", "published/nyud_hrnet18"]),
        (["engine.batch_size=8"], ["engine.batch_size=8", "4 training images"]),
        (["dataset.rooms.seed=5"], ["seed"]),
        (["backbone=timm", "backbone.name=resnet34x"], ["resnet34x", "resnet34"]),
        (["backbone.weights=none.pth"], ["none.pth"]),
        (["dataset=nyud", "dataset.root=nowhere"], ["dataset.root", "nowhere"]),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named_and_nothing_is_left_behind(tmp_path, rooms, overrides, parts):
    with pytest.raises(UserError) as caught:
        run_stage(command(tmp_path, rooms, *overrides))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not list((tmp_path / "runs").rglob("metrics.jsonl"))


def test_profile_prints_and_writes_parameters_and_multiply_adds(tmp_path, rooms, capsys):
    run_stage(
        command(tmp_path, rooms, "+experiment=nyud_hrnet18_multi_task", "stage=profile", "dataset.crop=[425,560]")
    )
    written = json.loads((tmp_path / "runs" / "nyud_hrnet18_multi_task" / "profile.json").read_text())
    assert "4.516" in capsys.readouterr().out
    assert written["input"] == [1, 3, 425, 560]
