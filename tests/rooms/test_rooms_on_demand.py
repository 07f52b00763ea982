"""Rooms that a stage makes where they are missing."""

import pytest
import small_rooms

from atrc_exp.config import Config, RoomsConfig, StageConfig
from atrc_exp.errors import UserError
from atrc_exp.processes.ranks import Ranks
from atrc_exp.stages.common import open_data


@pytest.mark.slow
def test_rooms_are_made_once_and_other_settings_refused(tmp_path):
    wanted = Config(name="x", dataset=small_rooms.dataset(root=str(tmp_path / "rooms"), procedural=True))
    wanted.dataset.rooms = RoomsConfig(train=2, val=1, image_size=[32, 48], seed=5, packaging="B")
    data = open_data(wanted, Ranks())
    assert (len(data.train), len(data.val), data.info.packaging) == (2, 1, "B")
    assert open_data(wanted, Ranks()).info.fingerprint == data.info.fingerprint
    wanted.dataset.rooms.seed = 6
    with pytest.raises(UserError, match=r"seed=5; asked for seed=6"):
        open_data(wanted, Ranks())


def test_a_stored_run_whose_rooms_are_gone_makes_no_others(tmp_path):
    root = tmp_path / "gone"
    config = Config(name="x", run="runs/x/seed0", stage=StageConfig(name="importance"),
                    dataset=small_rooms.dataset(root=str(root), procedural=True))  # fmt: skip
    with pytest.raises(UserError, match="the data of the run is gone") as raised:
        open_data(config, Ranks())
    assert str(root) in str(raised.value) and "dataset.root=" in str(raised.value) and not root.exists()
