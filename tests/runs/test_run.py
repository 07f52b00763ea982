"""Who may write a run folder, and what a second start finds."""

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import yaml

from atrc_exp.errors import UserError
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.ops import local_attention_cpu, registration
from atrc_exp.runs import claim
from atrc_exp.runs.folder import Run


def start(config: tiny.Config, record: tiny.Record | None = None) -> Run:
    """Open the run and leave a checkpoint in it, which makes its folder worth protecting."""
    run = Run.open(config, tiny.Ranks(), record or tiny.Record(), ["seed=0"])
    run.checkpoint.parent.mkdir(exist_ok=True)
    run.checkpoint.touch()
    return run


def test_first_start_records_itself(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with start(config) as run:
        assert run.folder == tmp_path / "tiny_search" / "seed0" and not run.done
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["engine"]["iterations"] == 12
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["run_id"] == run.id and environment["dataset"] == tiny.Record().as_dict()
    [first] = environment["starts"]
    assert first["overrides"] == ["seed=0"] and first["versions"]["torch"] and first["cpus"] == os.cpu_count()


HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
WEIGHTS = {"name": "vit", "weights": "imagenet", "tag": "a", "sha256": "12"}


def test_normalisation_is_that_of_the_first_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Run.open(tiny.config(tmp_path), tiny.Ranks(), tiny.Record(), []) as run:  # no checkpoint yet
        run.keep_backbone(WEIGHTS, HALF)
        run.checkpoint.parent.mkdir()
        run.checkpoint.touch()
    assert run.normalisation == HALF and not caplog.text
    record = json.loads((run.folder / "environment.json").read_text())["backbone"]
    assert record == {**WEIGHTS, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    for now, warned in ((HALF, False), (IMAGENET, True)):
        with start(tiny.config(tmp_path)) as again:
            again.keep_backbone({**WEIGHTS, "sha256": None}, now)
        assert again.normalisation == HALF and ("0.485" in caplog.text) == warned
    assert json.loads((run.folder / "environment.json").read_text())["backbone"] == record


def test_a_run_from_before_the_record_keeps_imagenets_normalisation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(tiny.config(tmp_path)) as run:
        run.keep_backbone(WEIGHTS, HALF)
    assert run.normalisation == IMAGENET and "0.5, 0.5, 0.5" in caplog.text
    assert Normalisation.of_run(json.loads((run.folder / "environment.json").read_text())) == IMAGENET


def test_the_data_is_recorded_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny.config(tmp_path)
    relative = replace(config, dataset=replace(config.dataset, root="data/here"))
    with start(relative) as run:
        stored = yaml.safe_load((run.folder / "config.yaml").read_text())
        assert stored["dataset"]["root"] == str(tmp_path / "data" / "here")
    with start(relative):  # the same words again
        pass


def test_second_start_keeps_the_id(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path)) as first:
        pass
    with start(tiny.config(tmp_path)) as second:
        assert second.id == first.id


def test_done_run_is_not_opened_again(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path)) as run:
        run.finish({"status": "done"})
    with start(tiny.config(tmp_path)) as again:
        assert again.done and again.summary == {"status": "done"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 13}, "engine.iterations: 12 -> 13"),
        ({"precision": "bf16"}, "engine.precision: fp32 -> bf16"),
    ],
)
def test_other_configuration_is_refused_by_name(tmp_path: Path, change: dict, message: str) -> None:
    with start(tiny.config(tmp_path)):
        pass
    with pytest.raises(UserError, match=message):
        start(tiny.config(tmp_path, **change))


def test_start_that_saved_nothing_does_not_bind_the_next_one(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path)) as first:
        first.checkpoint.unlink()
    with start(tiny.config(tmp_path, iterations=13)) as second:
        assert yaml.safe_load((second.folder / "config.yaml").read_text())["engine"]["iterations"] == 13


def test_nested_dictionaries_are_compared(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with start(config):
        pass
    with pytest.raises(UserError, match=r"loss_weights.*depth.*2"):
        start(replace(config, loss_weights={"depth": 2.0}))


def test_keys_that_came_later_have_their_defaults_in_older_runs(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with start(config) as run:
        pass
    path = run.folder / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["optim"]["name"], stored["backbone"]["multiple"], stored["backbone"]["options"], stored["export"]
    path.write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match=r"optim.name: sgd -> adamw"):
        start(replace(config, optim=replace(config.optim, name="adamw")))
    with start(config) as again:
        assert again.id == run.id


def test_keys_that_change_no_number_are_free(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with start(config):
        pass
    free = tiny.with_engine(config, workers=3, log_every=7, checkpoint_every=9, compile=True, device="auto")
    free = replace(free, dataset=replace(free.dataset, root="elsewhere"), logger=tiny.LoggerConfig(mode="offline"))
    with start(free) as run:
        assert not run.done


def test_accumulation_may_change_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start(tiny.config(tmp_path)):
        pass
    with start(tiny.config(tmp_path)):
        assert "bit for bit" not in caplog.text
    with start(tiny.config(tmp_path, accumulate=2)):
        assert "accumulate: 1 -> 2" in caplog.text and "bit for bit" in caplog.text


def test_other_files_are_refused(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path)):
        pass
    other = tiny.Record()
    other.fingerprint = "4567"
    with pytest.raises(UserError, match="other files"):
        start(tiny.config(tmp_path), other)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with start(config), pytest.raises(UserError, match=f"in use by process {os.getpid()} on"):
        start(config)
    with start(config):  # released
        pass


def test_requeued_job_waits_for_its_process_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Slurm may start a job again before its old process has ended."""
    config = tiny.config(tmp_path)
    before = start(config)
    assert before.lock is not None
    monkeypatch.setattr(claim, "_LOOK", 0.01)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    end = threading.Timer(0.2, before.lock.close)
    end.start()
    with start(config):
        assert f"waiting for process {os.getpid()}" in caplog.text and not end.is_alive()


def test_refused_start_releases_the_folder(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path)):
        pass
    with pytest.raises(UserError, match="iterations"):
        start(tiny.config(tmp_path, iterations=13))
    with start(tiny.config(tmp_path)):
        pass


def test_unusable_folder_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="runs_dir"):
        start(tiny.config(tmp_path / "file"))


def test_full_disk_during_the_run_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"), start(tiny.config(tmp_path)) as run:
        raise OSError(errno.ENOSPC, "No space", "checkpoints/last.pt")
    assert "No space left" in json.loads((run.folder / "status.json").read_text())["error"]


def test_failure_is_marked_until_the_run_succeeds(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with pytest.raises(ValueError), start(config) as run:
        raise ValueError("a defect")
    assert json.loads((run.folder / "status.json").read_text()) == {"status": "failed", "error": "a defect"}
    with start(config) as run:
        run.finish({})
    assert not (run.folder / "status.json").exists()


def test_genotype_of_a_run_does_not_change(tmp_path: Path) -> None:
    with start(tiny.config(tmp_path, kind="atrc")) as run:
        run.keep_genotype(tiny.FIXED)
        run.keep_genotype(tiny.FIXED)
        with pytest.raises(UserError, match="differs"):
            run.keep_genotype(tiny.FIXED.changed({"depth": {"semseg": "none"}}))


def test_an_interrupt_before_the_first_step_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start(tiny.config(tmp_path)) as run:
        raise KeyboardInterrupt
    assert json.loads((run.folder / "status.json").read_text())["status"] == "interrupted"


def test_the_next_start_forgets_how_the_last_one_ended(tmp_path: Path) -> None:
    """A run that is killed without a word after it has failed once has not failed."""
    with pytest.raises(ValueError), start(tiny.config(tmp_path)) as run:
        raise ValueError("a defect")
    assert (run.folder / "status.json").exists()
    with start(tiny.config(tmp_path)):
        assert not (run.folder / "status.json").exists()


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "summary.json"])
@pytest.mark.parametrize("content", ["", "{", "\0"])
def test_a_damaged_file_of_the_run_is_named(tmp_path: Path, name: str, content: str) -> None:
    with start(tiny.config(tmp_path)) as run:
        run.finish({"status": "done"})
    (run.folder / name).write_text(content)
    with pytest.raises(UserError, match=f"seed0/{name}"):
        start(tiny.config(tmp_path))


def test_form_of_local_attention_stands_in_the_record_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forms(name: str) -> list[str]:
        config = replace(tiny.config(tmp_path, kind="atrc", iterations=2), name=name)
        tiny.run_training(config)
        [start] = json.loads((tiny.folder(config) / "environment.json").read_text())["starts"]
        return start["local_attention"]

    def unsupported(*_: object) -> None:
        raise Unsupported("no compiler")

    registration._warn_once.cache_clear()
    assert forms("fast") == ["cpu-compiled"]
    monkeypatch.setattr(local_attention_cpu, "forward", unsupported)
    monkeypatch.setattr(local_attention_cpu, "backward", unsupported)
    with pytest.warns(UserWarning, match="no compiler"):
        assert forms("slow") == ["torch"]
