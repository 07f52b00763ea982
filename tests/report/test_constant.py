"""Constant predictions on two rooms against sums taken straight from the files."""

import numpy as np
import pytest
from PIL import Image

from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.metrics.boundary import evaluate
from atrc_exp.report.results import tables
from atrc_exp.report.results.constant_scores import constant_scores
from atrc_exp.rooms import generate


def test_constants_of_the_training_room_are_scored_on_the_other(tmp_path):
    generate(tmp_path / "rooms", train=1, val=1, image_size=(32, 48), seed=0, workers=1, progress=False)
    root = tmp_path / "rooms"
    depth = {name: np.load(root / "depth" / f"{name}.npy").astype(np.float64) for name in ("0001", "0002")}
    classes = {name: np.array(Image.open(root / "segmentation" / f"{name}.png")) for name in ("0001", "0002")}
    scores = constant_scores(str(root)).headline
    rmse = np.sqrt(((depth["0002"] - depth["0001"].mean()) ** 2).mean())
    assert scores["depth"] == pytest.approx(rmse, rel=1e-5)
    frequent = np.bincount(classes["0001"][classes["0001"] > 0]).argmax()
    labelled = classes["0002"] > 0
    assert scores["semseg"] == pytest.approx((classes["0002"][labelled] == frequent).mean() / 40, rel=1e-5)
    assert 0 < scores["normals"] < 180
    truth = np.array(Image.open(root / "edge" / "0002.png"))
    Image.fromarray((truth > 0).astype(np.uint8)).save(tmp_path / "truth.png")
    guess = np.array(Image.open(root / "edge" / "0001.png")) > 0  # of one training room the share is 0 or 1
    Image.fromarray((255 * guess).astype(np.uint8)).save(tmp_path / "guess.png")
    assert scores["edge"] == evaluate([tmp_path / "guess.png"], [tmp_path / "truth.png"], max_dist=0.011).odsF > 0


def test_scores_kept_beside_runs_are_the_first_row_of_their_dataset(runs_dir, make_run):
    make_run("multi_task", 0, {"semseg": 0.3, "depth": 1.0})
    make_run("elsewhere", 0, {"depth": 1.0}, dataset={"name": "other", "fingerprint": "ff", "notes": []})
    kept = {"version": 1, "fingerprint": "0123456789abcdef", "headline": {"semseg": 0.01, "depth": 1.2, "edge": 0.2}}
    write_json(runs_dir / "constants.json", kept)
    other, own = tables.collect([runs_dir]).sections()
    assert own.cells[0] == ["constants ¹", "–", "1.00", "1.2000", "–"] and own.cells[1][0] == "multi_task"
    assert not any("constants" in line[0] for line in other.cells)
    (runs_dir / "constants.json").write_text("[]")
    with pytest.raises(UserError, match=r"constants\.json"):
        tables.collect([runs_dir])
