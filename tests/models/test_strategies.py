"""What each search strategy draws and chooses, against plain code."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_engine as tiny
import torch

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS
from atrc_exp.models.search import SearchATRC, gumbel_noise
from atrc_exp.models.search.strategies.build import STRATEGIES, build_strategy
from atrc_exp.models.search.strategies.gumbel_st import StraightThroughSample
from atrc_exp.models.search.strategies.paths import fresh
from atrc_exp.models.search.strategies.spos import evolve
from atrc_exp.models.search.strategies.strategy import Draw, Strategy

BLOCKS = len(tiny.NAMES) ** 2
CANDIDATES = [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3]]


def strategy(tmp_path: Path, name: str, seed: int = 0, **search: object) -> Strategy:
    config = tiny.config(tmp_path, strategy=name, seed_of_run=seed)
    config = replace(config, search=replace(config.search, **search))
    found = build_strategy(config, tiny.network(config))
    assert found is not None
    return found


def mixed(search: SearchATRC, draw: Draw) -> tuple[torch.Tensor, list[list[float]]]:
    """The weights of a draw for random logits, and these logits without the ones that a block lacks."""
    torch.manual_seed(1)
    with torch.no_grad():
        search.arch.copy_(torch.randn(BLOCKS, 5))
    rows = [[float(row[i]) for i in block] for row, block in zip(search.arch.detach(), CANDIDATES, strict=True)]
    return draw.mixture.weights(search.logits()), rows


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def test_darts_mixes_all_candidates_by_their_probabilities_and_penalises_nothing(tmp_path: Path) -> None:
    darts = strategy(tmp_path, "darts")
    draw = darts.draw(3)
    assert draw.mixture.chosen == (-1,) * BLOCKS and not draw.penalties and darts.learns
    weights, logits = mixed(darts.search, draw)
    for found, row in zip(weights, logits, strict=True):
        assert found[: len(row)].tolist() == pytest.approx(softmax(row))
        assert not found[len(row) :].any()


def test_straight_through_weights_are_one_hot_with_the_gradient_of_the_soft_ones(tmp_path: Path) -> None:
    search = strategy(tmp_path, "gumbel_st").search
    torch.manual_seed(1)
    logits, direction = torch.randn(BLOCKS, 5, requires_grad=True), torch.randn(BLOCKS, 5)
    masked = logits.masked_fill(search.excluded, -torch.inf)
    noise, temperature = gumbel_noise(BLOCKS, 0, 7), 0.6
    weights = StraightThroughSample(temperature, noise).weights(masked)
    (weights * direction).sum().backward()
    for block, candidates in enumerate(CANDIDATES):
        perturbed = [float(logits.detach()[block, i] + noise[block, i]) / temperature for i in candidates]
        winner = max(candidates, key=lambda i: perturbed[i])
        assert weights[block].tolist() == [float(i == winner) for i in range(5)]
        soft = softmax(perturbed)
        mean = sum(p * float(direction[block, i]) for i, p in enumerate(soft))
        expected = [p * (float(direction[block, i]) - mean) / temperature for i, p in enumerate(soft)]
        assert logits.grad[block, : len(soft)].tolist() == pytest.approx(expected, abs=1e-6)  # type: ignore[index]


def test_straight_through_draws_what_the_gumbel_search_draws(tmp_path: Path) -> None:
    hard, soft = (strategy(tmp_path, name).draw(5) for name in ("gumbel_st", "gumbel"))
    assert hard.schedule == soft.schedule and set(hard.penalties) == set(soft.penalties) == {"entropy"}
    assert torch.equal(hard.mixture.noise, soft.mixture.noise)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["spos", "random"])
def test_paths_are_uniform_over_the_candidates_of_each_block_and_pair_of_blocks(tmp_path: Path, name: str) -> None:
    """Chi-square of 2000 draws below its 99.9 % quantile: 18.5 for 4 degrees of freedom, 43.8 for 19."""
    found, draws = strategy(tmp_path, name), 2000
    paths = [found.draw(iteration).mixture.chosen for iteration in range(draws)]
    assert all(path is not None and len(path) == BLOCKS for path in paths)
    for block, candidates in enumerate(CANDIDATES):
        counts = Counter(path[block] for path in paths)  # type: ignore[index]
        assert set(counts) == set(candidates)
        expected = draws / len(candidates)
        assert sum((counts[i] - expected) ** 2 / expected for i in candidates) < 18.5
    pairs = Counter((path[0], path[1]) for path in paths)  # type: ignore[index]
    expected = draws / 20
    assert sum((pairs[pair] - expected) ** 2 / expected for pair in itertools.product(*CANDIDATES[:2])) < 43.8


def test_paths_depend_on_seed_and_iteration_alone(tmp_path: Path) -> None:
    first, again, other = (strategy(tmp_path, "spos", seed) for seed in (3, 3, 4))
    torch.rand(3)
    assert [first.draw(i).mixture.chosen for i in (9, 2)] == [again.draw(i).mixture.chosen for i in (9, 2)]
    assert any(first.draw(i).mixture.chosen != other.draw(i).mixture.chosen for i in range(3))
    assert len({first.draw(i).mixture.chosen for i in range(8)}) > 1


def distance(best: tuple[int, ...], scored: list[tuple[int, ...]]):
    """A score that counts wrong blocks, and keeps what it was asked for."""

    def score(path: tuple[int, ...]) -> float:
        scored.append(path)
        return float(sum(a != b for a, b in zip(path, best, strict=True)))

    return score


@pytest.mark.parametrize("seed", range(5))
def test_evolution_finds_a_planted_path_among_four_to_the_sixteen(seed: int) -> None:
    """4 billion paths of 16 blocks, 420 of which are scored."""
    candidates = [[0, 1, 2, 3]] * 16
    best = tuple(np.random.default_rng(seed).integers(4, size=16).tolist())
    scored: list[tuple[int, ...]] = []
    generator = np.random.default_rng((1, seed))
    found = evolve(candidates, distance(best, scored), population=20, generations=20, mutation=0.1, generator=generator)
    assert found == best
    assert len(scored) == len(set(scored)) <= 20 * 21


def test_evolution_of_few_paths_scores_each_once_and_ends() -> None:
    scored: list[tuple[int, ...]] = []
    score = distance((1, 2), scored)
    generator = np.random.default_rng(0)
    assert evolve([[0, 1], [0, 2]], score, population=8, generations=3, mutation=0.5, generator=generator) == (1, 2)
    assert sorted(scored) == [(0, 0), (0, 2), (1, 0), (1, 2)]


def test_evolved_children_hold_candidates_of_their_block_only() -> None:
    scored: list[tuple[int, ...]] = []
    score = distance((9, 9, 9, 9), scored)
    evolve(CANDIDATES, score, population=12, generations=6, mutation=0.5, generator=np.random.default_rng(0))
    assert all(index in block for path in scored for index, block in zip(path, CANDIDATES, strict=True))
    assert len(scored) == 12 * 7


@pytest.mark.parametrize("name", ["spos", "random"])
def test_choice_takes_the_best_of_as_many_paths_for_both_and_is_repeatable(tmp_path: Path, name: str) -> None:
    settings = {"population": 6, "generations": 3}
    runs = []
    for _ in range(2):
        scored: list[tuple[int, ...]] = []
        score = distance((1, 4, 2, 3), scored)
        best = strategy(tmp_path, name, seed=5, **settings).choose(score)
        assert len(set(scored)) == len(scored) == 24
        runs.append((best, list(scored)))
        assert score(best) == min(map(score, runs[-1][1]))
    assert runs[0] == runs[1]


def test_fresh_proposals_are_new_and_distinct() -> None:
    proposals = itertools.cycle([(0,), (1,), (1,), (2,)])
    assert fresh(lambda: next(proposals), 5, {(0,)}) == [(1,), (2,)]


def test_unknown_strategy_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"search\.strategy=gumble: .*gumbel, .*\(did you mean gumbel\?\)") as error:
        strategy(tmp_path, "gumble")
    assert "\n" not in str(error.value) and all(name in str(error.value) for name in STRATEGIES)


def test_strategies_that_choose_leave_no_probabilities_for_a_tie(tmp_path: Path) -> None:
    found = strategy(tmp_path, "spos")
    found.search.frozen.copy_(torch.tensor([1, 4, 0, 3]))
    genotype = found.genotype()
    assert [genotype.blocks[t][s] for t, s in genotype.pairs()] == [CONTEXTS[i] for i in (1, 4, 0, 3)]
    assert "probabilities" not in genotype.details


@pytest.mark.parametrize(
    ("keep", "blocks"),
    [
        (None, ("local", "none", "slabel", "global")),
        (1, ("local", "none", "slabel", "global")),
        (2, ("local+tlabel", "none", "slabel", "global")),
        (3, ("global+local+tlabel", "none", "local+slabel", "global")),
        (0.2, ("local+tlabel", "none", "slabel", "global")),
        (0.14, ("global+local+tlabel", "none", "local+slabel", "global")),
        (0.9, ("local", "none", "slabel", "global")),
    ],
)
def test_a_search_keeps_the_most_probable_types(tmp_path: Path, keep: float | None, blocks: tuple[str, ...]) -> None:
    """By number or probability; none stays alone or is left out, and the last block, which is frozen, has its type."""
    probabilities = [[0.1, 0.15, 0.5, 0.25, 0], [0.4, 0.3, 0.1, 0.1, 0.1], [0.3, 0.1, 0.15, 0.05, 0.4],
                     [0.1, 0.2, 0.3, 0.4, 0]]  # fmt: skip
    found = strategy(tmp_path, "gumbel", keep=keep)
    with torch.no_grad():
        found.search.arch.copy_(torch.tensor(probabilities, dtype=torch.float64).log().clamp(min=-99))
        found.search.frozen[3] = CONTEXTS.index("global")
    genotype = found.genotype()
    assert tuple(genotype.blocks[t][s] for t, s in genotype.pairs()) == blocks


@pytest.mark.parametrize("name", ["spos", "random"])
@pytest.mark.parametrize(("key", "value"), [("keep", 2), ("bilevel", True)])
def test_strategies_without_probabilities_refuse_what_needs_them(
    tmp_path: Path, name: str, key: str, value: object
) -> None:
    with pytest.raises(UserError, match=rf"search\.{key}=(2|true): .*{name}") as error:
        strategy(tmp_path, name, **{key: value})
    assert "\n" not in str(error.value)
