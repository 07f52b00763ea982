"""From the search at every scale to the exported network, with blocks of every scale looked at on the way."""

import json

import numpy as np
import pytest
import torch
from small_rooms import QUICK, as_typed, command

from atrc_exp.errors import UserError
from atrc_exp.genotype import load, row_of, save, vote
from atrc_exp.stages import run_stage

SCALES = ("backbone.out_indices=[1,2]", "neck=fpm", "distillation.scales=separate", "distillation.kernel_size=3",
          "tasks=[depth,edge]")  # fmt: skip
ROWS = ("depth@0", "edge@0", "depth@1", "edge@1")


@pytest.mark.slow
def test_search_vote_training_and_what_is_read_off_the_network(tmp_path, rooms):
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_search", *QUICK, *SCALES, "name=search"))
    found = load(tmp_path / "runs" / "search" / "seed0")
    assert found.rows == ROWS
    records = [json.loads(line) for line in (tmp_path / "runs/search/seed0/metrics.jsonl").read_text().splitlines()]
    (searched,) = (record for record in records if record["kind"] == "search")
    assert tuple(searched["probabilities"]) == ROWS and searched["frozen"] == 0
    changed = {"depth@0": {"edge": "tlabel"}, "edge@1": {"depth": "global", "edge": "local"}}
    save(vote([found.changed(changed)]), tmp_path / "voted.json")

    given = f"genotype={tmp_path / 'voted.json'}"
    run_stage(command(tmp_path, rooms, "+experiment=rooms_hrnet18_atrc", *QUICK, *SCALES, "name=atrc", given))
    run = tmp_path / "runs" / "atrc" / "seed0"
    assert load(run) == load(tmp_path / "voted.json")

    run_stage(as_typed("stage=importance", f"run={run}", "importance.permutations=1"))
    blocks = json.loads((run / "importance.json").read_text())["blocks"]
    assert tuple(blocks) == ROWS and blocks["edge@1"]["depth"]["context"] == "global"
    assert blocks["edge@1"]["depth"]["permuted"] and (run / "importance.png").is_file()

    (image, *_) = sorted((rooms / "images").glob("*.png"))
    looked = ("stage=attention", f"run={run}", f"image={image}", "pixel=[20,30]")
    run_stage(as_typed(*looked, "target=edge"))
    (folder,) = (run / "attention").iterdir()
    shapes = [np.load(folder / f"{row_of('edge', scale)}.npz")["depth.weights"].shape for scale in (1,)]
    assert shapes == [(4, 6)]
    with pytest.raises(UserError, match="depth@1, edge@1"):
        run_stage(as_typed(*looked, "target=edge@2"))

    pytest.importorskip("onnx")
    run_stage(as_typed("stage=export", f"run={run}"))
    outputs = torch.export.load(run / "network.pt2").module()(torch.randn(1, 3, 32, 48))
    assert outputs["edge"].shape == (1, 1, 32, 48) and (run / "network.onnx").is_file()
