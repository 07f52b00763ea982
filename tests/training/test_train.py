"""Whole runs of a tiny network: resuming, records, and stopping at a loss that is not finite."""

import json
import resource
from pathlib import Path
from typing import Any

import command_line as cli
import numpy as np
import pytest
import tiny_engine as tiny
import torch
from PIL import Image

from atrc_exp import genotype as genotypes
from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.models.search.strategies.build import STRATEGIES
from atrc_exp.runs import checkpoint
from atrc_exp.training import step
from atrc_exp.training.scoring import PathScorer
from atrc_exp.training.step import Predictor


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def records(config: Config, kind: str = "") -> list[dict[str, Any]]:
    return cli.records(tiny.folder(config), kind)


def last(config: Config) -> dict[str, Any]:
    return cli.last(tiny.folder(config))


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [("atrc", "gumbel"), ("fpm", "gumbel"), ("bilevel", "darts"), *(("search", name) for name in STRATEGIES)],
)
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path: Path, kind: str, strategy: str) -> None:
    whole, cut = (tiny.config(tmp_path / name, kind=kind, strategy=strategy) for name in ("whole", "cut"))
    whole_summary = tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=10)
    assert last(cut)["iteration"] == 8
    assert records(cut)[-1]["step"] == 10  # logged after the checkpoint: must be made again, not doubled
    cut_summary = tiny.run_training(cut)

    assert records(cut) == records(whole)
    assert cli.same(last(cut), last(whole))
    assert {**cut_summary, "seconds": 0} == {**whole_summary, "seconds": 0}
    if kind == "search":
        if strategy == "gumbel":
            frozen = {record["step"]: record["frozen"] for record in records(cut, "search")}
            assert 0 < frozen[8] < frozen[12], "a block must freeze before and another after the interruption"
        assert genotypes.load(tiny.folder(cut)).blocks == genotypes.load(tiny.folder(whole)).blocks


@pytest.mark.parametrize("strategy", ["spos", "random"])
def test_choice_is_that_of_the_lowest_held_out_loss_and_is_made_again_after_a_kill(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (tiny.config(tmp_path / name, strategy=strategy) for name in ("whole", "cut"))
    scored, score = {}, PathScorer.__call__

    def kept(self: PathScorer, path: tuple[int, ...]) -> float:
        scored[path] = score(self, path)
        return scored[path]

    def killed(self: PathScorer, path: tuple[int, ...]) -> float:
        if len(self.losses) == 3:
            raise tiny.Killed
        return score(self, path)

    monkeypatch.setattr(PathScorer, "__call__", kept)
    tiny.run_training(whole)
    assert len(scored) == 12 and len(set(scored.values())) > 1
    best = min(scored, key=scored.__getitem__)
    found = genotypes.load(tiny.folder(whole))
    assert [found.blocks[t][s] for t, s in found.pairs()] == [genotypes.CONTEXTS[index] for index in best]
    assert records(whole, "search") == [{"step": 12, "kind": "search", "scored": 12, "held_out_loss": scored[best]}]
    assert last(whole)["network"]["distillation.frozen"].tolist() == list(best)

    monkeypatch.setattr(PathScorer, "__call__", killed)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut)
    monkeypatch.setattr(PathScorer, "__call__", score)
    tiny.run_training(cut)
    assert records(cut) == records(whole) and cli.same(last(cut), last(whole))
    (tiny.folder(cut) / "summary.json").unlink()
    monkeypatch.setattr(PathScorer, "__call__", killed)  # the choice is in the checkpoint: nothing is scored again
    tiny.run_training(cut, stop_at=0)
    assert records(cut) == records(whole)


def test_path_is_scored_with_batch_statistics_of_its_own(tmp_path: Path) -> None:
    """The loss of a path on held-out images does not depend on what the batch norms behind the blocks have seen."""
    config = tiny.config(tmp_path, strategy="spos")
    network, batches = tiny.network(config), [tiny.images(seed, 4) for seed in range(3)]
    search, predict = network.search, Predictor(network, config)
    assert search is not None
    arguments = (predict, search, tiny.tasks(), tiny.Ranks(), batches[2:], batches[:2], None, lambda _: None)
    score, path = PathScorer(*arguments), (1, 4, 0, 3)
    first = score(path)
    norm = search.fusions["depth"].context[1]
    norm.running_mean.fill_(7.0)
    norm.num_batches_tracked.fill_(5)
    assert score((0, 0, 0, 0)) != first and score(path) == first

    inputs: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        for batch in batches[:2]:
            predict.eval()(batch.image)
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    assert norm.momentum == 0.1


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
    assert "batch: 4 = 1 rank x 1 accumulated x 4 images" in shown and "iterations: 12" in shown
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


def test_full_disk_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    whole, cut = tiny.config(tmp_path / "whole", kind="atrc"), tiny.config(tmp_path / "cut", kind="atrc")
    tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=5)
    size = (tiny.folder(cut) / "checkpoints" / "last.pt").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(UserError, match="File too large; free space"):
            tiny.run_training(cut)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert last(cut)["iteration"] == 4
    assert not list((tiny.folder(cut) / "checkpoints").glob(".*"))
    tiny.run_training(cut)
    assert records(cut) == records(whole) and cli.same(last(cut), last(whole))


def test_damaged_checkpoint_costs_one_interval(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cut = tiny.config(tmp_path / "whole", kind="atrc"), tiny.config(tmp_path / "cut", kind="atrc")
    tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=9)
    path = tiny.folder(cut) / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    tiny.run_training(cut)
    assert "going on from the one before, after 6 iterations" in caplog.text
    assert records(cut) == records(whole) and cli.same(last(cut), last(whole))


def test_best_checkpoint_is_kept_and_marked(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, validate_every=3, keep_best=2)
    summary = tiny.run_training(config)
    losses = {r["step"]: [r["semseg/loss"], r["depth/loss"]] for r in records(config, "val")}
    scores = {step: sum(loss / first for loss, first in zip(own, losses[3], strict=True))
              for step, own in losses.items()}  # fmt: skip
    expected = sorted(scores, key=scores.__getitem__)[:2]
    assert [entry["iteration"] for entry in summary["best_checkpoints"]["kept"]] == expected
    assert summary["best_checkpoints"]["selected_on"] == "val"
    for iteration in expected:
        assert checkpoint.load(tiny.folder(config) / "checkpoints" / f"best-{iteration}.pt")["iteration"] == iteration
    assert summary["losses"]["depth"] == losses[12][1], "results are those of the last iteration"


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory over the last 1500 of 2000 iterations of a search, validations and checkpoints among them."""
    pages, update = [], step._update

    def measured(*arguments: Any) -> None:
        update(*arguments)
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))

    monkeypatch.setattr(step, "_update", measured)
    every = {"validate_every": 250, "checkpoint_every": 100, "log_every": 20}
    tiny.run_training(tiny.config(tmp_path, iterations=2000, **every))
    grown = (max(pages[1800:]) - max(pages[400:600])) * resource.getpagesize()
    assert grown < 4 * 2**20, f"{grown / 2**20:.1f} MiB in 1400 iterations"


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
            built, loaders = tiny.network(config), tiny.loaders(config, ranks)
            tiny.train(config, run, ranks, built, tiny.build_strategy(config, built), tiny.tasks(), loaders, given)
        assert torch.equal(last(config)["codebook"], codebook)
        np.testing.assert_array_equal(np.load(run.folder / "codebook.npy"), codebook)
