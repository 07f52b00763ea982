import math

import pytest
import torch

from atrc_exp.errors import UserError
from atrc_exp.processes.ranks import Ranks
from atrc_exp.training.record import LossRecord


def record(*steps: tuple[float, float]) -> LossRecord:
    made = LossRecord(("depth", "depth_aux"), torch.device("cpu"))
    for step, (final, aux) in enumerate(steps, start=1):
        made.add(step, {"depth_aux": torch.tensor(aux), "depth": torch.tensor(final)})
    return made


def test_means_are_of_the_window() -> None:
    made = record((1.0, 10.0), (2.0, 20.0))
    assert made.read(Ranks()) == {"depth": 1.5, "depth_aux": 15.0}
    made.add(3, {"depth": torch.tensor(7.0), "depth_aux": torch.tensor(8.0)})
    assert made.read(Ranks()) == {"depth": 7.0, "depth_aux": 8.0}


def test_open_window_survives_a_resume() -> None:
    before, after = record((1.0, 10.0)), record()
    after.load_state_dict(before.state_dict(Ranks()), Ranks())
    after.add(2, {"depth": torch.tensor(2.0), "depth_aux": torch.tensor(20.0)})
    assert after.read(Ranks()) == {"depth": 1.5, "depth_aux": 15.0}


def test_other_ranks_resume_without_what_rank_0_resumes_with() -> None:
    """The sums are those of all ranks; a second copy of them would count twice."""
    other = record()
    other.load_state_dict(record((1.0, 10.0)).state_dict(Ranks()), Ranks(rank=1, world=2))
    assert other.sums.tolist() == [0.0, 0.0] and other.steps == 1


def test_finite_losses_pass() -> None:
    record((1.0, 0.0), (1e30, -5.0)).check(Ranks())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_first_bad_term_and_step_are_named_however_late_they_are_read(bad: float) -> None:
    made = record((1.0, 1.0), (1.0, bad), (bad, bad), (1.0, 1.0))
    made.read(Ranks())
    with pytest.raises(UserError, match=r"depth_aux .*step 2\b"):
        made.check(Ranks())
