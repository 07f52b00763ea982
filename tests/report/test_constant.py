"""Constant predictions on two rooms against sums taken straight from the files."""

import numpy as np
import pytest
from PIL import Image

from atrc_exp.data.rooms import generate
from atrc_exp.report.constant import constant_scores


def test_constants_of_the_training_room_are_scored_on_the_other(tmp_path):
    generate(tmp_path / "rooms", train=1, val=1, image_size=(32, 48), seed=0, workers=1, progress=False)
    root = tmp_path / "rooms"
    depth = {name: np.load(root / "depth" / f"{name}.npy").astype(np.float64) for name in ("0001", "0002")}
    classes = {name: np.array(Image.open(root / "segmentation" / f"{name}.png")) for name in ("0001", "0002")}
    scores = constant_scores(str(root))
    rmse = np.sqrt(((depth["0002"] - depth["0001"].mean()) ** 2).mean())
    assert scores["depth"] == pytest.approx(rmse, rel=1e-5)
    frequent = np.bincount(classes["0001"][classes["0001"] > 0]).argmax()
    labelled = classes["0002"] > 0
    assert scores["semseg"] == pytest.approx((classes["0002"][labelled] == frequent).mean() / 40, rel=1e-5)
    assert 0 < scores["normals"] < 180
