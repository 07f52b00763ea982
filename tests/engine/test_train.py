"""Whole runs of a tiny network: resuming, records, and stopping at a loss that is not finite."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_engine as tiny
import torch
from PIL import Image

from atrc_exp import genotype as genotypes
from atrc_exp.config import Config
from atrc_exp.engine import checkpoint
from atrc_exp.errors import UserError
from atrc_exp.logging.jsonl import read

MEASURED = ("seconds_per_step", "memory_mib")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def records(config: Config, kind: str = "") -> list[dict[str, Any]]:
    """Records of a run without what a clock or the operating system measured."""
    found = read(tiny.folder(config) / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k not in MEASURED} for r in found if r["kind"].startswith(kind)]


def last(config: Config) -> dict[str, Any]:
    return checkpoint.load(tiny.folder(config) / "checkpoints" / "last.pt")


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path: Path, kind: str) -> None:
    whole, cut = tiny.config(tmp_path / "whole", kind=kind), tiny.config(tmp_path / "cut", kind=kind)
    whole_summary = tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=10)
    assert last(cut)["iteration"] == 8
    assert records(cut)[-1]["step"] == 10  # logged after the checkpoint: must be made again, not doubled
    cut_summary = tiny.run_training(cut)

    assert records(cut) == records(whole)
    left, right = last(cut), last(whole)
    for key in left.keys() - {"seconds", "run_id"}:
        assert same(left[key], right[key]), key
    assert {**cut_summary, "seconds": 0} == {**whole_summary, "seconds": 0}
    if kind == "search":
        frozen = {record["step"]: record["frozen"] for record in records(cut, "search")}
        assert 0 < frozen[8] < frozen[12], "a block must freeze before and another after the interruption"
        assert genotypes.load(tiny.folder(cut)).blocks == genotypes.load(tiny.folder(whole)).blocks


def test_initial_predictions_have_terms_in_training_records_only(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, kind="fpm", iterations=2, log_every=1)
    summary = tiny.run_training(config)
    names = {"semseg_aux", *(f"{task}{kind}" for task in tiny.NAMES for kind in ("", "_initial0", "_initial1"))}
    assert set(summary["losses"]) == set(tiny.NAMES)
    for record in records(config, "train"):
        assert {key for key in record if key.startswith(tiny.NAMES)} == names
        # Both tasks have weight 1.
        assert record["loss"] == pytest.approx(sum(record[name] for name in names))
    assert not any("initial" in key for record in records(config, "val") for key in record)


@pytest.mark.slow
def test_killed_process_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    """SIGKILL in the middle of a step: the lock is free, and the rest of the run is that of an uninterrupted one."""
    program = (
        "import os, signal, sys, pathlib, torch, tiny_engine as tiny; torch.set_num_threads(1);"
        "tiny.Killed.__init__ = lambda self: os.kill(os.getpid(), signal.SIGKILL);"
        "tiny.run_training(tiny.config(pathlib.Path(sys.argv[1])), stop_at=10)"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"}
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "cut")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    whole, cut = tiny.config(tmp_path / "whole"), tiny.config(tmp_path / "cut")
    assert last(cut)["iteration"] == 8
    tiny.run_training(whole)
    tiny.run_training(cut)
    assert records(cut) == records(whole)
    assert same(last(cut)["network"], last(whole)["network"])


def test_loss_falls_and_logging_interval_does_not_change_it(tmp_path: Path) -> None:
    often, seldom = tiny.config(tmp_path / "a", log_every=1), tiny.config(tmp_path / "b", log_every=4)
    tiny.run_training(often)
    tiny.run_training(seldom)
    every = [record["loss"] for record in records(often, "train")]
    assert every[-1] < 0.95 * every[0]
    means = [record["loss"] for record in records(seldom, "train")]
    np.testing.assert_allclose(means, np.reshape(every, (3, 4)).mean(1), rtol=1e-12)


def test_search_writes_genotype_at_every_validation(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with pytest.raises(tiny.Killed):
        tiny.run_training(config, stop_at=7)
    half = genotypes.load(tiny.folder(config))
    assert half.details["step"] == 6
    tiny.run_training(config)
    final = genotypes.load(tiny.folder(config))
    assert final.details["step"] == 12
    for target, source in final.pairs():
        probabilities = final.details["probabilities"][target][source]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert (
            max(probabilities, key=probabilities.get) == final.blocks[target][source]
            or (final.details["frozen"][target][source])
        )


def test_summary_and_records_name_every_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="atrc_exp")
    config = tiny.config(tmp_path)
    summary = tiny.run_training(config)
    assert json.loads((tiny.folder(config) / "summary.json").read_text()) == summary
    assert summary["headline"] == {"semseg": summary["metrics"]["semseg"]["miou"],
                                   "depth": summary["metrics"]["depth"]["rmse"]}  # fmt: skip
    assert summary["search"] == {"arch_lr": 0.3, "frozen_blocks": records(config, "search")[-1]["frozen"], "blocks": 4}
    assert summary["status"] == "done" and summary["iteration"] == 12
    training = records(config, "train")[0]
    assert set(training) == {"step", "kind", "loss", "semseg", "semseg_aux", "depth", "depth_aux", "lr"}
    parts = sum(training[name] for name in ("semseg", "semseg_aux", "depth", "depth_aux"))  # weights are all 1
    assert training["loss"] == pytest.approx(parts)
    assert [record["step"] for record in records(config, "val")] == [6, 12]
    assert summary["losses"]["depth"] == records(config, "val")[-1]["depth/loss"]
    shown = (tiny.folder(config) / "train.log").read_text()
    assert f"run folder: {tiny.folder(config)}" in shown and f"{summary['parameters'] / 1e6:.3f} M parameters" in shown
    assert "batch: 4 = 1 ranks x 1 accumulated x 4 images" in shown and "iterations: 12" in shown
    assert "12/12  loss " in shown and "validation at 12: loss " in shown


def test_nothing_is_trained_after_the_end(tmp_path: Path) -> None:
    """Killed between the last checkpoint and the summary: the next start only writes the summary."""
    config = tiny.config(tmp_path, kind="atrc")
    summary = tiny.run_training(config)
    (tiny.folder(config) / "summary.json").unlink()
    again = tiny.run_training(config, stop_at=0)
    assert again == summary


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, log_every=100, checkpoint_every=4, validate_every=100)
    with pytest.raises(UserError, match=r"semseg.* is not finite at step 6"):
        tiny.run_training(config, spoil_at=5)
    assert last(config)["iteration"] == 4
    assert all(value.isfinite().all() for value in last(config)["network"].values())
    status = json.loads((tiny.folder(config) / "status.json").read_text())
    assert status["status"] == "failed" and "step 6" in status["error"]
    assert "step 6" in (tiny.folder(config) / "train.log").read_text()
    tiny.run_training(config)
    assert not (tiny.folder(config) / "status.json").exists()


def test_predictions_of_last_validation_are_written(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, kind="atrc", iterations=2, save_predictions=True)
    tiny.run_training(config)
    written = tiny.folder(config) / "predictions"
    assert len(list((written / "semseg").iterdir())) == len(list((written / "depth").iterdir())) == 8
    classes = np.asarray(Image.open(written / "semseg" / "1000_0.png"))
    assert classes.shape == tiny.SIZE and classes.max() < tiny.CLASSES
    assert np.load(written / "depth" / "1001_3.npy").dtype == np.float32


def test_codebook_travels_with_the_checkpoint(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, iterations=2)
    ranks = tiny.Ranks()
    codebook = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    for given in (codebook, torch.zeros(40, 3)):  # the second start is given another one, which must not be used
        (tiny.folder(config) / "summary.json").unlink(missing_ok=True)
        with tiny.Run.open(config, ranks, tiny.Record()) as run:
            tiny.train(config, run, ranks, tiny.network(config), tiny.tasks(), tiny.loaders(config, ranks), given)
        assert torch.equal(last(config)["codebook"], codebook)
        np.testing.assert_array_equal(np.load(run.folder / "codebook.npy"), codebook)
