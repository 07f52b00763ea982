"""A search that keeps several contexts on rooms: steps, vote, retraining, and what looks at the network."""

import numpy as np
import pytest
from small_rooms import QUICK, as_typed, command

from atrc_exp.files import read_json
from atrc_exp.genotype import load
from atrc_exp.report.votes import vote_folder
from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage

SMALL = (*QUICK, "tasks=[semseg,depth]", "distillation.channels=8", "distillation.kernel_size=3")


@pytest.mark.slow
def test_a_search_with_sets_is_voted_retrained_and_looked_at(tmp_path, rooms):
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_search", *SMALL, "search.keep=2",
                      "search.freeze_gap=1", "engine.iterations=2", "engine.log_every=1"))  # fmt: skip
    sweep = tmp_path / "runs" / "rooms_hrnet18_search"
    found = load(sweep / "seed0")
    assert any(len(found.types(*pair)) == 2 for pair in found.pairs())
    assert vote_folder(sweep) == found

    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", *SMALL, f"genotype={sweep}",
                      "+genotype_blocks.depth.semseg=tlabel+local", "distillation.combine=gate"))  # fmt: skip
    run = tmp_path / "runs" / "rooms_hrnet18_atrc" / "seed0"
    assert (
        load(run).types("depth", "semseg") == ("local", "tlabel") and read_json(run / "genotype.json")["version"] == 2
    )
    assert any(
        "combination.depth.semseg" in name for name in checkpoint.load(run / "checkpoints" / "last.pt")["network"]
    )

    quiet = ("engine.workers=0", "engine.progress=false")
    picture = sorted((rooms / "images").iterdir())[0]
    run_stage(as_typed("stage=attention", f"run={run}", f"image={picture}", "pixel=[20,31]", *quiet))
    arrays = np.load(run / "attention" / f"{picture.stem}_20_31" / "depth.npz")
    assert str(arrays["semseg.context"]) == "local+tlabel"
    for context in ("local", "tlabel"):
        weights = arrays[f"semseg.{context}.weights"].sum() + arrays[f"semseg.{context}.beyond"]
        assert weights == pytest.approx(1, abs=1e-5)
    assert arrays["semseg.tlabel.region_weights"].sum() == pytest.approx(1, abs=1e-5)

    run_stage(
        as_typed("stage=importance", f"run={run}", "importance.permutations=1", "importance.boundaries=false", *quiet)
    )
    entry = read_json(run / "importance.json")["blocks"]["depth"]["semseg"]
    assert entry["context"] == "local+tlabel" and len(entry["permuted"]) == 1
    run_stage(as_typed("stage=report", f"runs_dir={tmp_path / 'runs'}"))
    (explorer,) = (tmp_path / "runs").rglob("explorer.html")
    assert all(block in explorer.read_text() for block in found.blocks["depth"].values())
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run_stage(as_typed("stage=export", f"run={run}", "export.size=[32,64]"))
    record = read_json(run / "export.json")
    assert all(value < 1e-4 for row in record["differences"].values() for value in row.values())
