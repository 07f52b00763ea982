"""A search that keeps several contexts on rooms: steps, vote, retraining, and what looks at the network."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_rooms import QUICK, as_typed, command

from atrc_exp.files import read_json
from atrc_exp.genotype import Genotype, load
from atrc_exp.models import ATRC
from atrc_exp.models.contexts.maps import task_maps
from atrc_exp.models.inspection import BlockView
from atrc_exp.report.figures.attention import Place, draw, save_arrays
from atrc_exp.report.votes import vote_folder
from atrc_exp.runs import checkpoint
from atrc_exp.stages import run_stage
from atrc_exp.stages.attention import rows_of

SMALL = (*QUICK, "tasks=[semseg,depth]", "distillation.channels=8", "distillation.kernel_size=3")


@pytest.mark.parametrize("combine", ["static", "gate"])
def test_attention_tells_the_weight_of_each_context_of_a_block_for_the_image(tmp_path, combine):
    """Weights of 1 to 3 by hand: logits 0 and ln 3, of the gate by the mean 2 of the first channel."""
    tasks, none = ("semseg", "depth"), {"semseg": "none", "depth": "none"}
    genotype = Genotype(tasks, {"semseg": {"semseg": "none", "depth": "global+local"}, "depth": none})
    module = ATRC(genotype, 4, kernel_size=3, combine=combine, temperature=0.5).eval()
    weights = module.combination["semseg"]["depth"]
    with torch.no_grad():
        if combine == "gate":
            weights.linear.weight[1, 0] = 0.5 * math.log(3) / 2
        else:
            weights.logits[1] = math.log(3)
    features = {task: torch.rand(2, 4, 5, 7) for task in tasks}
    features["semseg"][0, 0] += 2 - features["semseg"][0, 0].mean()
    view = BlockView(SimpleNamespace(distillation=module))
    rows = rows_of(view, "semseg", task_maps(features, {}, None), (2, 3))
    assert [row.share for row in rows["depth"]] == pytest.approx([0.25, 0.75])

    place = Place(np.zeros((5, 7, 3), np.uint8), (2, 3), (2, 3), (-0.5, 6.5, 4.5, -0.5))
    save_arrays(tmp_path / "rows.npz", place, rows, {})
    arrays = np.load(tmp_path / "rows.npz")
    assert [arrays[f"depth.{name}.share"] for name in ("global", "local")] == pytest.approx([0.25, 0.75])
    titles = {axes.get_title() for axes in draw("semseg", place, rows, {}).axes}
    assert {title.rpartition(", ")[2] for title in titles if ", " in title} == {"25.0 %", "75.0 %"}


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
        assert arrays[f"semseg.{context}.share"] == pytest.approx(0.5, abs=0.1), "a gate that hardly learned"
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
