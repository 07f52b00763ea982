"""A search with candidates of one's own on rooms: steps, vote, retraining, and what looks at the network."""

import numpy as np
import pytest
from small_rooms import QUICK, as_typed, command

from atrc_exp.files import read_json
from atrc_exp.genotype import load, save, uniform
from atrc_exp.report import curves
from atrc_exp.report.votes import vote_folder
from atrc_exp.stages import run_stage

TYPES, TASKS = ["none", "local", "axial"], ("semseg", "depth")
CHOICE = ("tasks=[semseg,depth]", "search.candidates=[none,local,axial]")


@pytest.mark.slow
def test_a_search_of_named_candidates_is_voted_and_retrained(tmp_path, rooms, capsys):
    for seed in (0, 1):
        run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_search", *QUICK, *CHOICE, f"seed={seed}",
                          "engine.iterations=2", "engine.log_every=1"))  # fmt: skip
    folder = tmp_path / "runs" / "rooms_hrnet18_search"
    for seed in (0, 1):
        assert list(load(folder / f"seed{seed}").details["probabilities"]["depth"]["semseg"]) == TYPES
    voted = vote_folder(folder)
    assert list(voted.details["votes"]["depth"]["depth"]) == TYPES
    curves.main([str(folder)])
    assert (folder / "probabilities.png").is_file()

    save(uniform(TASKS, "axial"), folder / "genotype.json")  # whatever two steps have found
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", *QUICK, CHOICE[0], f"genotype={folder}"))
    run = tmp_path / "runs" / "rooms_hrnet18_atrc" / "seed0"
    assert read_json(run / "summary.json")["status"] == "done"

    quiet = ("engine.workers=0", "engine.progress=false")
    picture = sorted((rooms / "images").iterdir())[0]
    run_stage(as_typed("stage=attention", f"run={run}", f"image={picture}", "pixel=[20,31]", *quiet))
    arrays = np.load(run / "attention" / f"{picture.stem}_20_31" / "depth.npz")
    cell, weights = arrays["cell"], arrays["semseg.weights"]
    assert str(arrays["semseg.context"]) == "axial" and weights.sum() == pytest.approx(1, abs=1e-5)
    seen = np.zeros(weights.shape, bool)
    seen[cell[0]], seen[:, cell[1]] = True, True
    assert ((weights > 0) == seen).all()

    capsys.readouterr()
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_search", *QUICK, *CHOICE, "stage=profile"))
    assert "distillation" in capsys.readouterr().out
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run_stage(as_typed("stage=export", f"run={run}", "export.size=[32,64]"))
    record = read_json(run / "export.json")
    assert all(value < 1e-4 for row in record["differences"].values() for value in row.values())
