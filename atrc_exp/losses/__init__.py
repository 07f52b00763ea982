"""Final, auxiliary and initial losses of all tasks, normalised by valid-pixel counts that may span many micro-batches.

All losses run in at least single precision, whatever the precision of the network. Pixels without a label take
no part in value or gradient, even where the prediction is not finite there.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from atrc_exp.genotype.rows import task_of
from atrc_exp.losses.classes import CLASS_LOSSES, cross_entropy
from atrc_exp.losses.loss import Loss, PositiveWeight
from atrc_exp.losses.regions import REGION_LOSSES
from atrc_exp.losses.values import VALUE_LOSSES
from atrc_exp.tasks import Task
from atrc_exp.tasks.classification import triangular_code
from atrc_exp.tasks.regions import region_labels

LOSSES: dict[str, Loss] = {**CLASS_LOSSES, **VALUE_LOSSES, **REGION_LOSSES}
"""Losses by the name that `Task.loss` gives. Each kind of label lists the losses that fit it."""


def _positives(task: str) -> str:
    return f"{task}:positive"


def _initial(task: str, scale: int) -> str:
    return f"{task}_initial{scale}"


class MultiTaskLoss(nn.Module):
    """The sum over tasks of weighted final, auxiliary and initial losses (Sec. 3.3, App. A).

    Terms are `<task>`, `<task>_aux` and, by scale from the finest on, `<task>_initial<i>`. All terms of a task have its
    weight; an initial prediction has the loss of the final one (MTI-Net). Auxiliary maps of several scales, which are
    named by row (`semseg@0`), add up in one term.

    Args:
        tasks: the tasks of the network.
        aux_maps: tasks, or rows, whose auxiliary map the network predicts and trains.
        codebook: (40, 3) unit normals; needed where normals have an auxiliary map or the form of a classification.
        initial_scales: number of scales at which the network makes initial predictions of every task.

    Attributes:
        weights: weight of every term of a training step.
        owners: task of every term.

    Raises:
        ValueError: an auxiliary task that is not among the tasks, or no codebook where one is needed.
    """

    codebook: Tensor | None

    def __init__(
        self,
        tasks: Iterable[Task],
        aux_maps: Iterable[str] = (),
        codebook: Tensor | None = None,
        initial_scales: int = 0,
    ) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.aux_maps = tuple(aux_maps)
        self.aux_tasks = tuple(dict.fromkeys(map(task_of, self.aux_maps)))
        for name in self.aux_tasks:
            if name not in self.tasks:
                raise ValueError(f"auxiliary task '{name}' is not one of {', '.join(self.tasks)}")
            if self.tasks[name].kind.coded and codebook is None:
                raise ValueError(f"the auxiliary loss of {name} needs a codebook")
        self.owners = {name: name for name in self.tasks} | {f"{name}_aux": name for name in self.aux_tasks}
        for scale in range(initial_scales):
            self.owners |= {_initial(name, scale): name for name in self.tasks}
        self.weights = {term: self.tasks[name].weight for term, name in self.owners.items()}
        self.register_buffer("codebook", codebook)
        self.code = triangular_code(self.tasks.values(), codebook)

    def counts(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Valid pixels of every task (int64, 0-dim), and `<task>:positive` pixels where the loss is balanced by them.

        Their sum over micro-batches and ranks, given to `forward`, makes the terms those of the whole batch.
        """
        counts = {}
        for name, task in self.tasks.items():
            counts[name] = task.kind.valid(labels[name]).sum()
            if LOSSES[task.loss].counts_positives:
                counts[_positives(name)] = (labels[name] == 1).sum()
        return counts

    def forward(
        self,
        final: Mapping[str, Tensor],
        aux: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        counts: Mapping[str, Tensor] | None = None,
        initial: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted terms: sums over these images divided by `counts`.

        A term is exactly 0, with its graph intact, where no pixel is valid; published auxiliary terms are NaN there.

        Args:
            final: predictions (B, `task.channels`, h, w) of every task; like all others they are resized to the labels.
            aux: logits (B, `task.regions`, h, w) of the auxiliary maps; empty in evaluation.
            labels: of every task, in the form of batches.
            counts: from `counts`, summed over the whole batch; None: these images are the whole batch.
            initial: predictions (B, `task.channels`, h_i, w_i) of every task, scale by scale; none in evaluation.
        """
        if aux and set(aux) != set(self.aux_maps):
            raise ValueError(
                f"auxiliary maps of {', '.join(aux)} given; expected: {', '.join(self.aux_maps) or 'none'}"
            )
        if counts is None:
            counts = self.counts(labels)
        terms = {}
        device = next(iter(final.values())).device.type
        with torch.autocast(device, enabled=False):
            for name, task in self.tasks.items():
                loss, weight = LOSSES[task.loss].total, _positive_weight(task, counts)
                valid = counts[name].clamp(min=1)
                terms[name] = loss(task, final[name], labels[name], weight, self.code) / valid
                if aux and name in self.aux_tasks:
                    regions = region_labels(task, labels[name], self.codebook)
                    maps = [logits for row, logits in aux.items() if task_of(row) == name]
                    terms[f"{name}_aux"] = sum(cross_entropy(logits, regions, weight) for logits in maps) / valid
                for scale, prediction in enumerate((initial or {}).get(name, ())):
                    total = loss(task, prediction, labels[name], weight, self.code)
                    terms[_initial(name, scale)] = total / valid
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the terms."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


build_losses = MultiTaskLoss  # the stable name, beside build_network and build_metrics


def _positive_weight(task: Task, counts: Mapping[str, Tensor]) -> PositiveWeight:
    weigh, valid = LOSSES[task.loss].positive_weight, counts[task.name]
    return None if weigh is None else weigh(task, valid, counts.get(_positives(task.name), valid))
