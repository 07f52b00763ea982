"""Balance of the tasks: worked numbers, optima, whole batches and resuming."""

import math
from dataclasses import replace
from pathlib import Path

import command_line as cli
import pytest
import tiny_engine as tiny
import torch
from torch import Tensor

from atrc_exp.config import BalanceConfig, Config
from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.losses import build_losses
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.files import SUMMARY
from atrc_exp.training.balance import Fixed, build_balance

CPU = torch.device("cpu")


class HalfOfTwo(Ranks):
    """A rank whose neighbour always has the same share."""

    def sum(self, values):
        return {name: 2 * value for name, value in super().sum(values).items()}


def losses():
    """Terms semseg, semseg_aux of weight 2 and depth of weight 1."""
    semseg, depth = tiny.tasks()
    return build_losses((replace(semseg, weight=2.0), replace(depth, weight=1.0)), ("semseg",))


def built(name: str, **options) -> Fixed:
    return build_balance(BalanceConfig(name=name, **options), tiny.NAMES, CPU)


def terms(semseg: float, aux: float, depth: float) -> dict[str, Tensor]:
    values = {"semseg": semseg, "semseg_aux": aux, "depth": depth}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def test_fixed_leaves_everything_as_it_is():
    balance, given = built("fixed"), terms(1, 2, 3)
    assert balance.scaled(losses(), given) is given
    balance.after_step(losses(), given, Ranks())
    assert balance.scaled(losses(), given) is given and balance.record() == balance.state_dict() == {}


def test_dwa_by_hand():
    """Task losses 6, 2 | 3, 2 | 3, 1 in intervals of two steps: w = (1/2, 1), then (1, 1/2), with T = 0.5 and K = 2."""
    balance, loss = built("dwa", interval=2, temperature=0.5), losses()
    ours = [(2, 0.5, 3), (3, 0.5, 1), (1, 0.5, 2), (1, 0.5, 2), (0.5, 0.5, 0.5), (1.5, 0.5, 1.5)]
    found = []
    for step in ours:
        found.append(balance.factors.tolist())
        balance.after_step(loss, terms(*step), Ranks())
    assert found[:4] == [[1.0, 1.0]] * 4
    first, second = math.exp(1), math.exp(2)
    assert found[4] == found[5] == pytest.approx([2 * first / (first + second), 2 * second / (first + second)])
    assert balance.factors.tolist() == pytest.approx([2 * second / (first + second), 2 * first / (first + second)])
    assert balance.record() == {"factor/semseg": balance.factors[0].item(), "factor/depth": balance.factors[1].item()}


def test_dwa_waits_for_tasks_without_labels():
    balance, loss = built("dwa", interval=1), losses()
    for step in ((1, 1, 0), (1, 1, 0), (1, 1, 5)):
        balance.after_step(loss, terms(*step), Ranks())
        assert balance.factors.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["uncertainty", "dwa"])
def test_every_term_of_a_task_gets_its_factor_and_ranks_add_up(name):
    one, half = built(name, interval=1, lr=0.5), built(name, interval=1, lr=0.5)
    loss = losses()
    for step in ((4, 2, 3), (1, 2, 3), (1, 1, 1)):
        one.after_step(loss, terms(*step), Ranks())
        half.after_step(loss, terms(*(value / 2 for value in step)), HalfOfTwo())
    assert torch.equal(one.factors, half.factors) and one.factors[0] != one.factors[1]
    scaled = one.scaled(loss, terms(1, 10, 100))
    semseg, depth = one.factors.tolist()
    assert [float(value) for value in scaled.values()] == pytest.approx([semseg, 10 * semseg, 100 * depth])


def test_uncertainty_starts_at_the_published_weights_and_ends_at_its_optimum():
    """Of exp(-s) L + s / 2, with L = 2 * (1 + 3) and 0.25: exp(-s) = 1 / (2 L), where it stays and whereto it moves."""
    loss, optimum = losses(), torch.tensor([1 / 16, 2.0])
    balance = built("uncertainty", lr=0.05)
    assert balance.factors.tolist() == [1.0, 1.0]
    distance = (optimum.log() - balance.factors.log()).abs()
    for _ in range(10):
        balance.after_step(loss, terms(1, 3, 0.25), Ranks())
        before, distance = distance, (optimum.log() - balance.factors.log()).abs()
        assert (distance < before).all()
    there = built("uncertainty", lr=0.05)
    there.load_state_dict({**there.state_dict(), "log_variances": -optimum.log()})
    there.after_step(loss, terms(1, 3, 0.25), Ranks())
    torch.testing.assert_close(there.log_variances.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_the_gradient_of_uncertainty_is_autograds():
    balance, loss = built("uncertainty"), losses()
    balance.log_variances.data = torch.tensor([0.3, -0.7])
    balance.load_state_dict(balance.state_dict())
    s = torch.tensor([0.3, -0.7], requires_grad=True)
    ((-s).exp() * torch.tensor([8.0, 0.25]) + s / 2).sum().backward()
    balance.after_step(loss, terms(1, 3, 0.25), Ranks())
    torch.testing.assert_close(balance.log_variances.grad, s.grad)


def with_balance(config: Config, name: str) -> Config:
    return replace(config, balance=BalanceConfig(name=name, interval=3, lr=0.1))


@pytest.mark.parametrize(("name", "kind"), [("uncertainty", "search"), ("dwa", "fpm")])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, name: str, kind: str) -> None:
    """Ended after step 9, taken up after step 8, in the middle of an interval of dwa."""
    torch.set_num_threads(1)
    whole = with_balance(tiny.config(tmp_path / "whole", kind=kind), name)
    cut = with_balance(tiny.config(tmp_path / "cut", kind=kind), name)
    tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=9)
    tiny.run_training(cut)
    folders = tiny.folder(whole), tiny.folder(cut)
    assert cli.records(folders[0], "") == cli.records(folders[1], "")
    assert cli.same(cli.last(folders[0]), cli.last(folders[1]))
    logged = [[record[f"factor/{task}"] for task in tiny.NAMES] for record in cli.records(folders[1], "train")]
    assert logged[-1] != [1.0, 1.0] and logged[-1] != logged[2]
    objective = read_json(folders[1] / SUMMARY)["objective"]
    assert objective == [f"balance.name={name}", "balance.lr=0.1", "balance.interval=3"]


@pytest.mark.parametrize("name", ["uncertainty", "dwa"])
def test_micro_batches_give_the_factors_of_the_whole_batch(tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    found = []
    for accumulate in (1, 2):
        config = with_balance(tiny.exact_config(tmp_path / str(accumulate), "atrc"), name)
        config = tiny.with_engine(config, accumulate=accumulate, iterations=7, validate_every=7)
        tiny.run_training(config, hold_bn=True, dtype=torch.float64)
        record = cli.records(tiny.folder(config), "train")[-1]
        found.append([record[f"factor/{task}"] for task in tiny.NAMES])
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0] != [1.0, 1.0]


@pytest.mark.parametrize(("key", "value"), [("name", "gradnorm"), ("lr", 0.0), ("interval", 0), ("temperature", 0.0)])
def test_bad_settings_are_named(key, value):
    with pytest.raises(UserError, match=r"balance.*gradnorm" if key == "name" else rf"balance\.{key}="):
        BalanceConfig(**{key: value})
