"""The benchmark of loading, on the same files by two readers: they deliver the same, and every row is there."""

import json
from pathlib import Path

import loading
import numpy as np
import pytest
from small_rooms import as_typed

from atrc_exp.data.readers.datasets import open_dataset

OWN = """\
name: own
reader: folders
tasks: [semseg, depth, normals, edge]
num_classes: {semseg: 40}
crop: [64, 96]
edge_positive_weight: 0.9
edge_max_distance: 0.011
folders:
  images: images
  train: gt_sets/train.txt
  val: gt_sets/val.txt
  labels:
    semseg: {folder: segmentation, first: 1, invalid: [0]}
    depth: {folder: depth}
    normals: {folder: normals}
    edge: {folder: edge, encoding: mask, threshold: 0}
"""
STEPS = ("scale and crop", "flip", "colours", "padding, channels first")


@pytest.fixture
def conf(tmp_path) -> Path:
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "own.yaml").write_text(OWN)
    return tmp_path / "conf"


def test_two_readers_of_the_same_files_agree(conf, rooms):
    first, second = (
        open_dataset(as_typed(f"dataset={name}", f"dataset.root={rooms}", "dataset.procedural=false",
                              f"hydra.searchpath=['file://{conf}']").dataset)
        for name in ("rooms", "own")
    )  # fmt: skip
    for split, other in ((first.train, second.train), (first.val, second.val)):
        assert split.ids == other.ids
        for index in range(len(split)):
            one, two = (source.load(index, ["semseg", "depth", "normals", "edge"]) for source in (split, other))
            np.testing.assert_array_equal(one.image, two.image)
            for task, label in one.labels.items():
                np.testing.assert_array_equal(label, two.labels[task], err_msg=task)


def test_every_reader_and_step_has_its_row(conf, rooms, tmp_path):
    output = tmp_path / "benchmark.json"
    loading.main([f"rooms={rooms}", f"own={rooms}", "--config-dir", str(conf), "--images", "2", "--rounds", "1",
                  "--output", str(output)])  # fmt: skip
    result = json.loads(output.read_text())["datasets"]
    assert [result[name]["reader"] for name in result] == ["nyud", "folders"]
    for dataset in result.values():
        stages = dataset["stages"]
        for step in STEPS:
            assert stages[f"step: {step}"]["ms"].keys() == {"plain", "ours"}
        for stage in ("load", "train pipeline", "train pipeline with finish on a CPU", "evaluation pipeline"):
            row = stages[stage]
            assert row["ms"].keys() == {"plain", "decoded", "packed"}
            for name, ratio in row["times_the_plain_loop"].items():  # one batch and round: the median is the value
                assert ratio == pytest.approx(row["ms"]["plain"] / row["ms"][name], rel=0.02, abs=0.02)
        whole = stages["train pipeline with finish on a CPU"]["ms"]
        parts = [stages[stage]["ms"]["packed"] for stage in ("load", "train transform", "finish on a CPU")]
        assert (
            whole["packed"] == pytest.approx(sum(parts), abs=0.01)
            and whole["plain"] == stages["train pipeline"]["ms"]["plain"]
        )
