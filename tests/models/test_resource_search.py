"""Expected multiply-adds of a search: counts against the networks that it can become, gradient against plain code."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_engine as tiny
import torch

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, load, uniform
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.profile import choice_costs, profile
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.models.search.strategies.resources import ResourceAware

SIZE = (48, 64)


def with_search(config: Config, **search: object) -> Config:
    return replace(config, search=replace(config.search, **search))


def resource_aware(config: Config) -> ResourceAware:
    found = build_strategy(config, tiny.network(config))
    assert isinstance(found, ResourceAware)
    return found


def test_candidates_add_up_to_the_network_of_a_genotype(make_network) -> None:
    genotype = load("published/nyud_hrnet18")  # every task has contexts, and each is read for its labels
    costs = choice_costs(make_network("search"), SIZE)
    total = profile(make_network("atrc"), SIZE).total
    chosen = sum(costs.blocks[Block(t, s, genotype.blocks[t][s])] for t, s in genotype.pairs())
    assert costs.rest + chosen == total.multiply_adds + total.local_attention
    assert all((count == 0) == (block.context == "none") for block, count in costs.blocks.items())


def test_expected_cost_and_its_gradient_are_those_of_plain_code(tmp_path: Path) -> None:
    strategy = resource_aware(with_search(tiny.config(tmp_path), resource_weight=1.0))
    search, costs = strategy.search, choice_costs(tiny.network(strategy.config), tiny.SIZE)
    torch.manual_seed(0)
    with torch.no_grad():
        search.arch.copy_(torch.randn(4, 5))
        search.frozen[2] = CONTEXTS.index("local")
    share = strategy.expected()
    share.backward()
    dearest = costs.rest + sum(max(costs.blocks[Block(t, s, c)] for c in search.candidates[t][s])
                               for t, s in search.pairs)  # fmt: skip
    expected = costs.rest
    for block, (target, source) in enumerate(search.pairs):
        names = search.candidates[target][source]
        own = [costs.blocks[Block(target, source, name)] for name in names]
        exponentials = [math.exp(float(search.arch.detach()[block, CONTEXTS.index(name)])) for name in names]
        p = [x / sum(exponentials) for x in exponentials]
        if block == 2:
            p = [float(name == "local") for name in names]
        mean = sum(a * b for a, b in zip(p, own, strict=True))
        expected += mean
        slope = [0.0 if block == 2 else a * (b - mean) / dearest for a, b in zip(p, own, strict=True)]
        found = [float(search.arch.grad[block, CONTEXTS.index(name)]) for name in names]  # type: ignore[index]
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-9)
    assert float(share.detach()) == pytest.approx(expected / dearest, rel=1e-6)
    assert strategy.record()["multiply_adds"] == pytest.approx(expected / 1e9, rel=1e-6)


def test_cheapest_and_dearest_are_those_of_all_400_networks(tmp_path: Path) -> None:
    cost = resource_aware(with_search(tiny.config(tmp_path), resource_weight=1.0)).expected
    costs, pairs = choice_costs(tiny.network(tiny.config(tmp_path)), tiny.SIZE), cost.search.pairs
    blocks = [[costs.blocks[Block(t, s, name)] for name in cost.search.candidates[t][s]] for t, s in pairs]
    totals = [costs.rest + sum(choice) for choice in itertools.product(*blocks)]
    assert len(totals) == 400
    assert (cost.cheapest, cost.dearest) == (min(totals), max(totals))


def test_within_the_budget_nothing_is_penalised_and_beyond_it_the_excess(tmp_path: Path) -> None:
    config = with_search(tiny.config(tmp_path), resource_weight=2.0)
    free = resource_aware(config)
    expected, dearest = float(free.expected().detach()), free.expected.dearest
    generous = resource_aware(with_search(config, budget=1.001 * expected * dearest / 1e9))
    generous.penalty().backward()
    assert not generous.penalty() and not generous.search.arch.grad.any()
    tight = resource_aware(with_search(config, budget=0.99 * expected * dearest / 1e9))
    assert float(tight.penalty().detach()) == pytest.approx(0.01 * expected, rel=1e-3)
    penalty = tight.draw(0).penalties["resource"]
    assert penalty.weight == 2.0 and float(penalty.value().detach()) == float(tight.penalty().detach())
    assert set(tight.draw(0).penalties) == {"entropy", "resource"} == set(tight.penalties)


@pytest.mark.parametrize("budget", [1e-9, 1e9])
def test_budget_that_no_network_or_every_network_meets_is_one_clear_line(tmp_path: Path, budget: float) -> None:
    config = with_search(tiny.config(tmp_path), resource_weight=1.0, budget=budget)
    with pytest.raises(
        UserError, match=rf"search\.budget={re.escape(str(budget))}: must be at least .*dearest"
    ) as error:
        build_strategy(config, tiny.network(config))
    assert "\n" not in str(error.value)


def test_budget_without_a_weight_and_a_weight_without_logits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"search\.budget=3\.0: .*null .*search\.resource_weight"):
        with_search(tiny.config(tmp_path), budget=3.0)
    config = with_search(tiny.config(tmp_path, strategy="spos"), resource_weight=1.0)
    with pytest.raises(UserError, match=r"search\.resource_weight=1\.0: .*0 .*search\.strategy=spos"):
        build_strategy(config, tiny.network(config))


def test_large_weight_ends_in_the_cheapest_contexts(tmp_path: Path) -> None:
    config = with_search(tiny.config(tmp_path), resource_weight=1e4)
    tiny.run_training(config)
    found = load(tiny.folder(config))
    assert found.blocks == uniform(tiny.NAMES, "none").blocks
    plain = tiny.config(tmp_path / "plain")
    tiny.run_training(plain)
    assert load(tiny.folder(plain)).blocks != found.blocks
