"""Gradients of the tasks weighted at the backbone's maps: worked numbers, autograd by hand, ranks and resuming."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import command_line as cli
import pytest
import tiny_engine as tiny
import torch
from small_rooms import as_typed
from test_step import Setting
from torch import Tensor, nn

from atrc_exp.config import BalanceConfig, Config
from atrc_exp.errors import UserError
from atrc_exp.losses import build_losses
from atrc_exp.processes.ranks import Ranks
from atrc_exp.stages import run_stage
from atrc_exp.training import balance, step
from atrc_exp.training.aggregators import AGGREGATORS, build_aggregator
from atrc_exp.training.balance import build_balance
from atrc_exp.training.record import LossRecord
from atrc_exp.training.state import TrainState

CPU = torch.device("cpu")
PACKAGES = {"upgrad": ("quadprog", "qpsolvers"), "cagrad": ("cvxpy", "clarabel")}


def installed(aggregator: str) -> str:
    """The aggregator's name; skips the test where what it needs is missing."""
    for name in ("torchjd", *PACKAGES.get(aggregator, ())):
        pytest.importorskip(name)
    return aggregator


def with_balance(config: Config, aggregator: str) -> Config:
    return replace(config, balance=BalanceConfig(name="torchjd", aggregator=aggregator))


class OneMap(nn.Module):
    """A backbone with one map, the same for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.tensor([3.0, 5.0], dtype=torch.float64))

    def forward(self) -> list[Tensor]:
        return [1 * self.map]


class Toy(nn.Module):
    """Losses whose gradients at the map are the given vectors, times a head of one factor for all tasks."""

    def __init__(self, **vectors: Tensor) -> None:
        super().__init__()
        self.backbone, self.vectors = OneMap(), vectors
        self.factor = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, *_: object) -> dict[str, Tensor]:
        (features,) = self.backbone()
        return {task: self.factor * (vector * features).sum() for task, vector in self.vectors.items()}


WORKED = [
    # Gradients that conflict, (1, 0) and (-1, 1): each is projected onto the normal plane of the other.
    ("pcgrad", (1, 0), (-1, 1), (2, 1.5)),
    ("upgrad", (1, 0), (-1, 1), (2, 1.5)),
    # The point of least norm between (1, 0) and (0, 2) is 4/5 of the first and 1/5 of the second.
    ("mgda", (1, 0), (0, 2), (1.6, 0.4)),
    # G w = 1 / w has w = (1, 1/2); as many in sum as there are tasks.
    ("nash_mtl", (1, 0), (0, 2), (4 / 3, 2 / 3)),
    # Equal projections onto the unit vectors of both.
    ("imtl_g", (1, 0), (0, 2), (4 / 3, 2 / 3)),
    # Orthogonal already: both get the length of the shorter one.
    ("aligned_mtl", (1, 0), (0, 2), (1, 0.5)),
    # By symmetry the mean gradient, longer by the share c = 0.4.
    ("cagrad", (1, 0), (0, 1), (1.4, 1.4)),
    # Nothing conflicts: the plain sum.
    ("upgrad", (1, 0), (0, 2), (1, 1)),
    ("pcgrad", (1, 0), (0, 2), (1, 1)),
]


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize(("aggregator", "semseg", "depth", "expected"), WORKED)
def test_a_step_by_hand(tmp_path: Path, aggregator, semseg, depth, expected, scale):
    """semseg has weight 2, and its loss half of the given gradient; scaled, since real gradients are tiny."""
    config = with_balance(tiny.config(tmp_path, kind="atrc"), installed(aggregator))
    first, second = torch.tensor([semseg, depth], dtype=torch.float64)
    network = Toy(semseg=scale * first / 2, depth=scale * second)
    kinds = tiny.tasks()
    losses = build_losses((replace(kinds[0], weight=2.0), replace(kinds[1], weight=1.0)))
    balanced = build_balance(config.balance, tiny.NAMES, CPU)
    balanced.attach(network.backbone)
    optimizer = torch.optim.SGD([{"params": list(network.parameters()), "factor": 1.0}])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(network, optimizer, None, None, scaler, LossRecord((), CPU), balanced, "id")
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    step.train_step(config, state, network, losses, [tiny.images(0, 1)], Ranks())
    moved = {name: (before[name] - value) / config.optim.lr for name, value in network.named_parameters()}
    tolerance = 1e-3 if aggregator in PACKAGES else 1e-6  # of their solvers
    assert list(balanced.record().values()) == pytest.approx(expected, rel=tolerance)
    weighted = scale * (expected[0] * first + expected[1] * second)
    torch.testing.assert_close(moved["backbone.map"], weighted, rtol=tolerance, atol=1e-9 * scale)
    torch.testing.assert_close(moved["factor"], scale * (before["backbone.map"] @ (first + second)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("aggregator", sorted(AGGREGATORS))
def test_tasks_without_a_gradient_or_with_a_broken_one_take_no_part(aggregator: str) -> None:
    weigh = build_aggregator(BalanceConfig(aggregator=installed(aggregator)))
    rows = torch.tensor([[1.0, 0.5, 0.0], [-0.4, 1.0, 0.2]], dtype=torch.float64)
    alone = weigh(rows @ rows.T)
    for value in (0.0, math.nan, math.inf):
        more = torch.stack([rows[0], torch.full((3,), value, dtype=torch.float64), rows[1]])
        assert weigh(more @ more.T).tolist() == pytest.approx([alone[0].item(), 0.0, alone[1].item()], rel=1e-9)
    assert weigh(torch.zeros(2, 2, dtype=torch.float64)).tolist() == [0.0, 0.0]
    assert weigh(torch.tensor([[1e-9]], dtype=torch.float64))[0] == pytest.approx(1.4 if aggregator == "cagrad" else 1)


@pytest.mark.parametrize("kind", ["search", "atrc", "fpm"])
def test_the_backbone_gets_the_weighted_sum_and_all_else_the_plain_one(tmp_path: Path, kind: str, monkeypatch) -> None:
    """Against steps whose losses have these weights, in two micro-batches; features go from task to task."""
    gradients: dict[str, Tensor] = {}
    grams = []

    def note(_: Config, state: TrainState, __: object) -> None:
        gradients.update({name: p.grad.clone() for name, p in state.network.named_parameters() if p.grad is not None})
        state.network.zero_grad()

    def weigh(gramian: Tensor) -> Tensor:
        grams.append(gramian)
        return torch.tensor([0.3, 1.7], dtype=torch.float64)

    monkeypatch.setattr(step, "_update", note)
    monkeypatch.setattr(balance, "build_aggregator", lambda _: weigh)
    config = tiny.config(tmp_path, kind=kind)
    config = replace(config, distillation=replace(config.distillation, dropout=0.0))
    found = []
    for each, factors in ((config, (1, 1)), (config, (0.3, 1.7)), (with_balance(config, "mgda"), (1, 1))):
        setting = Setting(each)
        for term, owner in setting.losses.owners.items():
            setting.losses.weights[term] *= factors[tiny.NAMES.index(owner)]
        setting.step(parts=2)
        found.append(dict(gradients))
        gradients.clear()
    plain, weighted, ours = found
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        expected = weighted if name.startswith("backbone.") else plain
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)
    assert len(grams) == 2
    assert not torch.allclose(weighted["backbone.layers.0.weight"], plain["backbone.layers.0.weight"], rtol=0.1)


@pytest.mark.parametrize("kind", ["atrc", "fpm"])
def test_the_gramian_is_that_of_the_task_losses_at_the_maps(tmp_path: Path, kind: str, monkeypatch) -> None:
    """All terms of a task with its weight; the second map of fpm's backbone is made from the first."""
    grams = []
    monkeypatch.setattr(balance, "build_aggregator", lambda _: lambda g: grams.append(g) or torch.ones(2).double())
    config = with_balance(tiny.config(tmp_path, kind=kind), "mgda")
    setting = Setting(replace(config, distillation=replace(config.distillation, dropout=0.0)))
    weights, owners = setting.losses.weights, setting.losses.owners
    weights.update({term: 3.0 for term, owner in owners.items() if owner == "depth"})
    network, batch = setting.network, setting.batch
    maps = [each.detach().requires_grad_() for each in network.train().backbone(batch.image)]
    hook = network.backbone.register_forward_hook(lambda *_: maps)
    output = network(batch.image)
    terms = setting.losses(output.final, output.aux, batch.labels, None, output.initial)
    hook.remove()
    values = [sum(weights[term] * terms[term] for term in owners if owners[term] == task) for task in tiny.NAMES]
    parts = [torch.autograd.grad(value, maps, retain_graph=True) for value in values]
    rows = torch.stack([torch.cat([part.flatten() for part in own]) for own in parts])
    setting.step()
    torch.testing.assert_close(grams[0], rows @ rows.T, rtol=1e-9, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("aggregator", "kind"), [("pcgrad", "atrc"), ("mgda", "search")])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, aggregator: str, kind: str) -> None:
    """pcgrad draws from the random state that dropout draws from, too."""
    torch.set_num_threads(1)
    whole, cut = (with_balance(tiny.config(tmp_path / name, kind=kind), installed(aggregator)) for name in "ab")
    tiny.run_training(whole)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=9)
    tiny.run_training(cut)
    assert cli.records(tiny.folder(whole), "") == cli.records(tiny.folder(cut), "")
    assert cli.same(cli.last(tiny.folder(whole)), cli.last(tiny.folder(cut)))
    logged = [[record[f"factor/{task}"] for task in tiny.NAMES] for record in cli.records(tiny.folder(cut), "train")]
    assert logged[-1] != logged[2] or aggregator == "pcgrad"  # whose weights are 1 while nothing conflicts


def test_missing_packages_are_named_with_the_command(monkeypatch) -> None:
    def refused(aggregator: str) -> bool:
        with pytest.raises(UserError, match=rf"balance\.aggregator={aggregator} .*pip install 'atrc_exp") as caught:
            build_aggregator(BalanceConfig(aggregator=aggregator))
        assert "'atrc_exp[balance]'" in str(caught.value)
        return "'torchjd[cagrad]'" in str(caught.value)

    installed("mgda")
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda _: None)
    assert [refused(name) for name in ("upgrad", "cagrad")] == [False, True]
    monkeypatch.setitem(sys.modules, "torchjd", None)
    assert [name for name in AGGREGATORS if refused(name)] == ["cagrad"]


def test_a_missing_package_leaves_no_folder_and_reads_no_data(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(UserError, match="pip install"):
        run_stage(as_typed("balance=torchjd", f"dataset.root={tmp_path / 'data'}", f"runs_dir={tmp_path / 'runs'}"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "value"), [("aggregator", "graddrop"), ("cagrad_c", 1.0)])
def test_bad_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"balance\.{key}={value}"):
        BalanceConfig(**{key: value})


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [("engine", "precision", "fp16"), ("engine", "compile", True), ("branching", "file", "tree.json")],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, group: str, key: str, value: object) -> None:
    config = with_balance(tiny.config(tmp_path, kind="atrc"), "mgda")
    with pytest.raises(UserError, match=rf"{group}\.{key}={value}.*torchjd"):
        replace(config, **{group: replace(getattr(config, group), **{key: value})})
