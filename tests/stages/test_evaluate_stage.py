"""`stage=evaluate`: the scores of a run, again from its checkpoint and again from its prediction files."""

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.metrics import boundary
from atrc_exp.stages import run_stage

QUIET = ("engine.workers=0", "engine.progress=false")


def evaluate_run(folder, *overrides):
    run_stage(as_typed("stage=evaluate", f"run={folder}", *QUIET, *overrides))
    return json.loads((folder / "evaluation.json").read_text())


def evaluate_files(tmp_path, rooms, folder, *overrides):
    run_stage(command(tmp_path, rooms, "stage=evaluate", f"predictions={folder}", *overrides))
    return json.loads((folder / "evaluation.json").read_text())


@pytest.fixture
def a_run(tmp_path, finished_run):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def files(tmp_path, finished_run):
    return shutil.copytree(finished_run / "predictions", tmp_path / "files")


def test_training_evaluation_and_files_agree(tmp_path, rooms, a_run, files, capsys):
    summary = json.loads((a_run / "summary.json").read_text())
    assert 0 < summary["headline"]["edge"] < 1
    from_checkpoint = evaluate_run(a_run)
    assert from_checkpoint["metrics"] == summary["metrics"] and from_checkpoint["headline"] == summary["headline"]
    assert from_checkpoint["losses"] == pytest.approx(summary["losses"], rel=1e-6)
    assert from_checkpoint["source"]["iteration"] == 3 and from_checkpoint["images"] == 2
    shown = capsys.readouterr().out
    assert "bookshelf" in shown and f"{100 * summary['headline']['edge']:.2f}" in shown

    from_files = evaluate_files(tmp_path, rooms, files)
    for task in ("semseg", "depth", "edge"):
        assert from_files["metrics"][task] == summary["metrics"][task]
    assert from_files["per_class"] == from_checkpoint["per_class"]
    assert from_files["metrics"]["normals"]["mean_error"] == pytest.approx(
        summary["metrics"]["normals"]["mean_error"], abs=0.2
    )
    assert from_files["losses"] == {}


def test_written_pngs_score_stand_alone_what_training_scored(rooms, finished_run):
    ids = (rooms / "gt_sets" / "val.txt").read_text().split()
    truths = [np.asarray(Image.open(rooms / "edge" / f"{i}.png")) > 127 for i in ids]
    scores = boundary.evaluate(
        [finished_run / "predictions" / "edge" / f"{i}.png" for i in ids], truths, max_dist=0.011
    )
    written = json.loads((finished_run / "summary.json").read_text())["metrics"]["edge"]
    assert written == {"ods_f": scores.odsF, "ois_f": scores.oisF, "ap": scores.AP}


def test_figures_come_with_their_numbers(a_run):
    record = evaluate_run(a_run)
    figures = {path.name for path in (a_run / "evaluation").iterdir()}
    assert figures == {
        f"{stem}.{kind}" for stem in ("confusion_semseg", "boundary_edge") for kind in ("png", "pdf", "csv")
    }
    rows = list(csv.reader((a_run / "evaluation" / "confusion_semseg.csv").open()))
    assert rows[0][1] == "wall" and sum(int(n) for row in rows[1:] for n in row[1:]) == 2 * 32 * 48
    curve = list(csv.DictReader((a_run / "evaluation" / "boundary_edge.csv").open()))
    assert max(float(row["f"]) for row in curve) == pytest.approx(record["metrics"]["edge"]["ods_f"])
    assert record["boundaries"]["edge"]["protocol"] == "seism"
    kept = record["curves"]["edge"]
    assert [float(row["f"]) for row in curve] == kept["f"] and len(kept["threshold"]) == len(kept["recall"]) == len(
        curve
    )


def test_rules_and_predictions_on_request(a_run):
    shutil.rmtree(a_run / "predictions")
    record = evaluate_run(a_run, "evaluation.absent=skip", "evaluation.boundary_protocol=mtl_pytorch",
                          "engine.save_predictions=true")  # fmt: skip
    ious = [iou for iou in record["per_class"]["semseg"].values() if iou is not None]
    assert len(ious) < 40 and record["metrics"]["semseg"]["miou"] == pytest.approx(sum(ious) / len(ious))
    assert record["rules"]["absent"] == "skip" and record["boundaries"]["edge"]["protocol"] == "mtl_pytorch"
    assert len(list((a_run / "predictions").rglob("*.*"))) == 4 * 2


def test_any_subset_of_tasks_is_scored_from_files(tmp_path, rooms, files):
    for task in ("semseg", "depth", "normals"):
        shutil.rmtree(files / task)
    record = evaluate_files(tmp_path, rooms, files)
    assert record["tasks"] == list(record["metrics"]) == ["edge"]


@pytest.mark.slow
def test_a_checkpoint_file_on_moved_data_into_another_folder(tmp_path, rooms, finished_run):
    moved = shutil.copytree(rooms, tmp_path / "moved")
    run_stage(as_typed("stage=evaluate", f"checkpoint={finished_run / 'checkpoints' / 'last.pt'}", *QUIET,
                       f"dataset.root={moved}", f"output={tmp_path / 'out'}"))  # fmt: skip
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["headline"] == json.loads((finished_run / "summary.json").read_text())["headline"]
    assert not (finished_run / "evaluation.json").exists()


@pytest.mark.parametrize(
    "what",
    ["atrc", *(pytest.param(what, marks=pytest.mark.slow)
               for what in ("search", "tlabel_gt", "single_task_normals_classification", "mti_net", "fpm_search"))],
)  # fmt: skip
def test_every_kind_of_network_is_rebuilt_from_its_run_folder(tmp_path, rooms, what):
    genotype = ["genotype=published/nyud_hrnet18"] if what == "atrc" else []
    config = command(tmp_path, rooms, f"+experiment=rooms_hrnet18_{what}", *genotype, *QUICK)
    run_stage(config)
    folder = tmp_path / "runs" / config.name / "seed0"
    assert evaluate_run(folder)["metrics"] == json.loads((folder / "summary.json").read_text())["metrics"]


def missing(files):
    next((files / "depth").iterdir()).unlink()
    return "1 of 8 files are missing: depth/"


def wrong_size(files):
    path = sorted((files / "edge").iterdir())[1]
    Image.new("L", (9, 7)).save(path)
    return f"{path}: is 7 x 9 pixels"


def not_a_number(files):
    path = sorted((files / "depth").iterdir())[0]
    np.save(path, np.full((32, 48), np.nan, np.float32))
    return f"{path}: holds NaN"


@pytest.mark.parametrize("spoil", [missing, wrong_size, not_a_number])
def test_unfit_predictions_are_named_and_nothing_is_written(tmp_path, rooms, files, spoil):
    part = spoil(files)
    before = sorted(files.rglob("*"))
    with pytest.raises(UserError) as caught:
        evaluate_files(tmp_path, rooms, files)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(files.rglob("*")) == before


def test_labels_without_boundaries_are_scored_zero(tmp_path, rooms, files):
    blank = shutil.copytree(rooms, tmp_path / "blank")
    for path in (blank / "edge").iterdir():
        Image.new("L", Image.open(path).size).save(path)
    run_stage(as_typed("stage=evaluate", f"predictions={files}", "dataset=nyud", f"dataset.root={blank}",
                       "dataset.crop=[32,48]", "tasks=[edge]"))  # fmt: skip
    record = json.loads((files / "evaluation.json").read_text())
    assert record["metrics"]["edge"] == {"ods_f": 0.0, "ois_f": 0.0, "ap": 0.0}


def test_unknown_ids_are_named_before_anything_is_scored(tmp_path, rooms, files):
    (tmp_path / "ids.txt").write_text("nowhere\n")
    with pytest.raises(UserError, match=r"not in the validation split: 1 id, nowhere"):
        evaluate_files(tmp_path, rooms, files, f"evaluation.boundary_ids={tmp_path / 'ids.txt'}")


@pytest.mark.slow
def test_boundaries_of_listed_images_need_no_other_files(tmp_path, rooms, files):
    first, other = (rooms / "gt_sets" / "val.txt").read_text().split()
    (tmp_path / "ids.txt").write_text(f"{first}\n")
    wanted = evaluate_files(tmp_path, rooms, files, f"evaluation.boundary_ids={tmp_path / 'ids.txt'}")
    (files / "edge" / f"{other}.png").unlink()
    found = evaluate_files(tmp_path, rooms, files, f"evaluation.boundary_ids={tmp_path / 'ids.txt'}")
    assert found["metrics"] == wanted["metrics"] and found["boundaries"]["edge"]["images"] == 1
    with pytest.raises(UserError, match="1 of 8 files are missing: edge"):
        evaluate_files(tmp_path, rooms, files)
    (files / "edge" / f"{first}.png").unlink()
    with pytest.raises(UserError, match="1 of 7 files are missing: edge"):
        evaluate_files(tmp_path, rooms, files, f"evaluation.boundary_ids={tmp_path / 'ids.txt'}")


def test_boundaries_of_listed_images_alone_load_no_other_images(tmp_path, rooms, files):
    scenes = shutil.copytree(rooms, tmp_path / "scenes")
    first, other = (scenes / "gt_sets" / "val.txt").read_text().split()
    (tmp_path / "ids.txt").write_text(f"{first}\n")
    only = f"evaluation.boundary_ids={tmp_path / 'ids.txt'}"
    for folder in files.iterdir():
        if folder.name != "edge" and folder.is_dir():
            shutil.rmtree(folder)
    wanted = evaluate_files(tmp_path, rooms, files, only)
    (damaged,) = (scenes / "images").glob(f"{other}.*")
    damaged.write_bytes(b"no image")
    found = evaluate_files(tmp_path, scenes, files, only)
    assert found["metrics"] == wanted["metrics"] and found["images"] == 1
    with pytest.raises(UserError, match=damaged.name):
        evaluate_files(tmp_path, scenes, files)


@pytest.mark.slow
def test_the_published_truth_is_scored_beside_the_default(tmp_path, rooms, files):
    default = evaluate_files(tmp_path, rooms, files)["metrics"]["edge"]
    both = evaluate_files(tmp_path, rooms, files, "evaluation.boundary_truth=both")["metrics"]["edge"]
    partition = evaluate_files(tmp_path, rooms, files, "evaluation.boundary_truth=partition")["metrics"]["edge"]
    assert both == default | {f"{key}_partition": value for key, value in partition.items()}


def test_training_scores_boundaries_in_every_nth_and_the_last_validation(tmp_path, rooms):
    for every, steps in ((0, [3]), (2, [2, 3])):
        config = command(tmp_path, rooms, "+experiment=rooms_hrnet18_multi_task", "tasks=[edge]", f"name=every{every}",
                         *QUICK, "engine.iterations=3", "engine.validate_every=1",
                         f"evaluation.boundary_every={every}")  # fmt: skip
        run_stage(config)
        lines = (tmp_path / "runs" / config.name / "seed0" / "metrics.jsonl").read_text().splitlines()
        assert [r["step"] for r in map(json.loads, lines) if "edge/ods_f" in r] == steps


def refused(*overrides):
    with pytest.raises(UserError) as caught:
        run_stage(as_typed("stage=evaluate", *QUIET, *overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_run_is_named(tmp_path, a_run):
    assert "does not exist" in refused(f"run={tmp_path / 'nowhere'}")
    assert "holds no config.yaml" in refused(f"run={tmp_path}")
    assert "no such file" in refused(f"checkpoint={tmp_path / 'nowhere.pt'}")
    stray = shutil.copy(a_run / "checkpoints" / "last.pt", tmp_path / "stray.pt")
    assert "no config.yaml beside or above" in refused(f"checkpoint={stray}")
    assert "given one of run=RUN_DIR" in refused()
    assert "not run and predictions" in refused(f"run={a_run}", f"predictions={tmp_path}")
    (a_run / "checkpoints" / "last.pt").write_bytes(b"damaged")
    assert "last.pt cannot be read" in refused(f"run={a_run}")
    (a_run / "checkpoints" / "last.pt").unlink()
    assert "no checkpoint yet" in refused(f"run={a_run}")


def test_the_runs_own_configuration_holds(tmp_path, a_run):
    message = refused(f"run={a_run}", "backbone=hrnet18", "optim.lr=1")
    assert message.startswith("backbone, optim.lr: belongs to the run") and "dataset.root" in message
    assert "belongs to the run" in refused(f"run={a_run}", "+experiment=rooms_hrnet18_search")
    config = as_typed("stage=evaluate", f"run={a_run}", "evaluation.absent=skip")
    assert config.name == "rooms_hrnet18_multi_task" and config.distillation.name == "none"
    assert config.evaluation.absent == "skip" and config.backbone.weights == "random"
    assert config.engine.val_batch_size == 2  # the run's, since the command line does not name it


def test_other_data_than_the_runs_is_refused(tmp_path, rooms, a_run):
    other = shutil.copytree(rooms, tmp_path / "other")
    path = next((other / "edge").iterdir())
    path.write_bytes(path.read_bytes() + b"\0")
    assert "holds other files than those of the run" in refused(f"run={a_run}", f"dataset.root={other}")
    assert not (a_run / "evaluation.json").exists()


@pytest.mark.parametrize("change", [{"_target_": "os.system"}, {"sead": 3}, {"seed": "abc"}, {"seed": -1}])
def test_stored_configuration_passes_the_schema_and_nothing_else(a_run, change):
    values = yaml.safe_load((a_run / "config.yaml").read_text())
    (a_run / "config.yaml").write_text(yaml.safe_dump(values | change))
    assert next(iter(change)) in refused(f"run={a_run}")
