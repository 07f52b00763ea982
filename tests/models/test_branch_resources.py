"""The resource loss against sums over everything that the tasks can draw."""

import itertools

import pytest
import torch

from atrc_exp.bmtas.resources import expected_branches, induced, resource_loss, set_partitions
from atrc_exp.bmtas.tree import refine


def random_probabilities(layers: int, tasks: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(layers, tasks, tasks, dtype=torch.float64, generator=draw).mul(1.5).softmax(2)


def every_draw(probabilities: torch.Tensor) -> list[float]:
    """Expected branches by enumeration of all copies of all tasks in all layers, decoded as a finished search is."""
    layers, tasks, _ = probabilities.shape
    names = tuple("abcdef"[:tasks])
    expected = [0.0] * layers
    for choice in itertools.product(itertools.product(range(tasks), repeat=tasks), repeat=layers):
        probability = 1.0
        for layer, copies in enumerate(choice):
            for task, copy in enumerate(copies):
                probability *= float(probabilities[layer, task, copy])
        for layer, groups in enumerate(refine(names, dict(enumerate(choice))).values()):
            expected[layer] += probability * len(groups)
    return expected


def published_recursion(probabilities: torch.Tensor) -> list[float]:
    """The recursion of the BMTAS paper with plain loops over set partitions."""
    layers, tasks, _ = probabilities.shape
    partitions = set_partitions(tasks)
    split = tuple(range(tasks))

    def coarser(j: tuple[int, ...], k: tuple[int, ...]) -> bool:
        return all(j[a] == j[b] for a in range(tasks) for b in range(tasks) if k[a] == k[b])

    before: dict[tuple[int, ...], float] = {}
    expected = []
    for layer in range(layers):
        q = dict.fromkeys(partitions, 0.0)
        for copies in itertools.product(range(tasks), repeat=tasks):
            q[induced(copies)] += torch.stack([probabilities[layer, t, c] for t, c in enumerate(copies)]).prod().item()
        now = dict(q)
        if layer:
            for k in partitions:
                now[k] = q[k] * sum(before[j] for j in partitions if j != split and coarser(j, k))
            now[split] = 1 - sum(now[k] for k in partitions if k != split)
        expected.append(sum(p * (max(k) + 1) for k, p in now.items()))
        before = now
    return expected


def test_bell_numbers():
    assert [len(set_partitions(n)) for n in range(1, 7)] == [1, 2, 5, 15, 52, 203]
    assert set_partitions(3) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, 2)]


@pytest.mark.parametrize(("layers", "tasks"), [(1, 4), (5, 2), (2, 3)])
def test_exact_form_is_the_sum_over_all_draws(layers, tasks):
    probabilities = random_probabilities(layers, tasks)
    torch.testing.assert_close(expected_branches(probabilities, "exact").tolist(), every_draw(probabilities))


@pytest.mark.parametrize(("layers", "tasks"), [(1, 5), (5, 3), (3, 4)])
def test_published_form_is_the_papers_recursion(layers, tasks):
    probabilities = random_probabilities(layers, tasks, seed=1)
    torch.testing.assert_close(expected_branches(probabilities).tolist(), published_recursion(probabilities))


def test_published_form_overestimates_from_the_second_layer_on():
    """A random example of four tasks: about a fifth of a branch at the second layer."""
    gaps = []
    for seed in range(20):
        probabilities = random_probabilities(6, 4, seed)
        published, exact = expected_branches(probabilities), expected_branches(probabilities, "exact")
        assert published[0] == pytest.approx(exact[0].item())
        assert (published >= exact - 1e-12).all() and (published <= 4 + 1e-12).all()
        assert (exact.diff() >= -1e-12).all()  # what has split stays apart
        gaps.append(float(published[1] - exact[1]))
    assert 0.05 < sum(gaps) / len(gaps) < 0.5


@pytest.mark.parametrize("form", ["published", "exact"])
def test_certain_choices_cost_what_their_tree_costs(form):
    """All together; two pairs; then one pair splits; equal copies later do not join. No form is off for certain draws
    that only refine."""
    choices = [(0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 1, 2), (0, 3, 1, 2)]
    probabilities = torch.nn.functional.one_hot(torch.tensor(choices), 4).double()
    assert expected_branches(probabilities, form).tolist() == [1, 2, 3, 4]


def test_uniform_probabilities_have_a_closed_form_in_the_first_layer():
    """N tasks that draw one of N copies evenly hit N (1 - (1 - 1/N)^N) of them."""
    for tasks in (2, 3, 4, 5):
        probabilities = torch.full((1, tasks, tasks), 1 / tasks, dtype=torch.float64)
        assert float(expected_branches(probabilities)) == pytest.approx(tasks * (1 - (1 - 1 / tasks) ** tasks))


@pytest.mark.parametrize("form", ["published", "exact"])
def test_gradient_is_that_of_finite_differences(form):
    gflops = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    logits = torch.randn(3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resource_loss(x, gflops, form), (logits,))


def test_loss_is_weighted_by_the_layers_cost():
    logits = random_probabilities(2, 3).log()
    by_layer = expected_branches(logits.softmax(2))
    assert resource_loss(logits, torch.tensor([3.0, 0.25]).double()).item() == pytest.approx(
        3 * by_layer[0].item() + 0.25 * by_layer[1].item()
    )


def test_descending_the_exact_loss_alone_shares_everything():
    """(Descending the published form was seen to end with some tasks apart.)"""
    logits = (0.1 * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(3))).requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.3)
    for _ in range(50):
        adam.zero_grad()
        resource_loss(logits, torch.ones(3), "exact").backward()
        adam.step()
    assert resource_loss(logits, torch.ones(3), "exact").item() < 3.1
    assert {len(set(layer.tolist())) for layer in logits.argmax(2)} == {1}
