"""Expected cost of a branched encoder while it is searched: the resource loss of BMTAS (BMVC 2020).

Every task draws one of N copies in every layer, independently. Tasks that have drawn the same copies up to a layer
share it, so that a layer costs as many times as the set partition of the tasks has groups.
"""

import itertools
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

FORMS = ("published", "exact")

Partition = tuple[int, ...]
"""Group of every item; groups are numbered in the order in which they first occur."""


def induced(labels: tuple[int, ...]) -> Partition:
    """The partition in which items of equal labels are together, e.g. (2, 0, 2) -> (0, 1, 0)."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return tuple(numbers[label] for label in labels)


def set_partitions(items: int) -> list[Partition]:
    """All partitions of `items` items, the undivided one first and the fully split one last (1, 2, 5, 15, 52, ...)."""
    return sorted({induced(labels) for labels in itertools.product(range(items), repeat=items)})


class _Tables(NamedTuple):
    groups: Tensor
    """Number of groups of every partition (K,)."""
    drawn: Tensor
    """Partition induced by every tuple of drawn copies (N ** N,), the first task's copy varying slowest."""
    meet: Tensor
    """Coarsest common refinement of every two partitions (K, K)."""


@lru_cache
def _tables(tasks: int) -> _Tables:
    partitions = set_partitions(tasks)
    number = {partition: index for index, partition in enumerate(partitions)}
    meet = [[number[_meet(a, b)] for b in partitions] for a in partitions]
    drawn = [number[induced(labels)] for labels in itertools.product(range(tasks), repeat=tasks)]
    return _Tables(torch.tensor([max(p) + 1 for p in partitions]), torch.tensor(drawn), torch.tensor(meet))


def _meet(first: Partition, second: Partition) -> Partition:
    width = len(second)  # more than any group number
    return induced(tuple(a * width + b for a, b in zip(first, second, strict=True)))


def expected_branches(probabilities: Tensor, form: str = "published") -> Tensor:
    """Expected number of groups in every layer (L,), differentiable.

    With q_l(k) the probability that the copies drawn in layer l alone induce the partition k, the published recursion
    is P_1 = q_1 and, for all but the fully split partition, P_l(k) = q_l(k) * sum of P_{l-1}(j) over the j that are
    coarser than or equal to k; the fully split one gets the rest. It leaves out that a draw can meet an earlier split
    to form a finer partition than its own, and so never gives less than the exact form, in which P_l(k) is the sum of
    P_{l-1}(j) q_l(m) over all j and m whose coarsest common refinement is k.

    Args:
        probabilities: (L, N, N), those of the copies by layer and task.
        form: published or exact.
    """
    tasks = probabilities.shape[1]
    groups, drawn, meet = (table.to(probabilities.device) for table in _tables(tasks))
    state = None
    expected = []
    for draw in _drawn_partitions(probabilities, drawn, len(groups)):
        if state is None:
            state = draw
        elif form == "published":
            # j is coarser than or equal to k exactly where their common refinement is k.
            coarser = meet == torch.arange(len(groups), device=meet.device)
            split = draw * (state[:, None] * coarser).sum(0)
            state = torch.cat((split[:-1], 1 - split[:-1].sum(0, keepdim=True)))
        else:
            state = torch.zeros_like(draw).index_add(0, meet.flatten(), torch.outer(state, draw).flatten())
        expected.append(state @ groups.to(state))
    return torch.stack(expected)


def _drawn_partitions(probabilities: Tensor, drawn: Tensor, partitions: int) -> Tensor:
    """Probability of every partition to be induced by the copies drawn in a layer: (L, K)."""
    layers, tasks = probabilities.shape[:2]
    joint = probabilities[:, 0]
    for task in range(1, tasks):
        joint = (joint[:, :, None] * probabilities[:, task, None, :]).flatten(1)  # (L, N ** (task + 1))
    return joint.new_zeros(layers, partitions).index_add(1, drawn, joint)


def resource_loss(logits: Tensor, gflops: Tensor, form: str = "published") -> Tensor:
    """Expected GFLOPs (1 multiply-add = 2 FLOPs) of the searched layers.

    Args:
        logits: (L, N, N), those of the copies by layer and task.
        gflops: (L,), the cost of one copy of every layer.
    """
    return expected_branches(logits.softmax(2), form) @ gflops
