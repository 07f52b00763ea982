"""Final, auxiliary and initial losses of all tasks, normalised by valid-pixel counts that may span many micro-batches.

All losses run in at least single precision, whatever the precision of the network. Pixels without a label take
no part in value or gradient, even where the prediction is not finite there.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.losses import cross_entropy as resized
from atrc_exp.resizing import resize
from atrc_exp.tasks import IGNORE, Task
from atrc_exp.tasks.classification import TriangularCode, triangular_code
from atrc_exp.tasks.regions import region_labels, valid_pixels


def _positives(task: str) -> str:
    return f"{task}:positive"


def _initial(task: str, scale: int) -> str:
    return f"{task}_initial{scale}"


class MultiTaskLoss(nn.Module):
    """The sum over tasks of weighted final, auxiliary and initial losses (Sec. 3.3, App. A).

    Terms are `<task>`, `<task>_aux` and, by scale from the finest on, `<task>_initial<i>`. All terms of a task have its
    weight; an initial prediction has the loss of the final one (MTI-Net).

    Args:
        tasks: the tasks of the network.
        aux_tasks: names of those whose auxiliary map the network predicts and trains.
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
        aux_tasks: Iterable[str] = (),
        codebook: Tensor | None = None,
        initial_scales: int = 0,
    ) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.aux_tasks = tuple(aux_tasks)
        for name in self.aux_tasks:
            if name not in self.tasks:
                raise ValueError(f"auxiliary task '{name}' is not one of {', '.join(self.tasks)}")
            if self.tasks[name].label == "normals" and codebook is None:
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
            counts[name] = valid_pixels(task.label, labels[name]).sum()
            if task.loss == "balanced_cross_entropy":
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
            aux: logits (B, `task.regions`, h, w) of the auxiliary tasks; empty in evaluation.
            labels: as in `valid_pixels`, of every task.
            counts: from `counts`, summed over the whole batch; None: these images are the whole batch.
            initial: predictions (B, `task.channels`, h_i, w_i) of every task, scale by scale; none in evaluation.
        """
        if aux and set(aux) != set(self.aux_tasks):
            raise ValueError(
                f"auxiliary maps of {', '.join(aux)} given; expected: {', '.join(self.aux_tasks) or 'none'}"
            )
        if counts is None:
            counts = self.counts(labels)
        terms = {}
        device = next(iter(final.values())).device.type
        with torch.autocast(device, enabled=False):
            for name, task in self.tasks.items():
                weight = _positive_weight(task, counts)
                valid = counts[name].clamp(min=1)
                terms[name] = _final_loss(task, final[name], labels[name], weight, self.code) / valid
                if name in aux:
                    regions = region_labels(task, labels[name], self.codebook)
                    terms[f"{name}_aux"] = cross_entropy(aux[name], regions, weight) / valid
                for scale, prediction in enumerate((initial or {}).get(name, ())):
                    loss = _final_loss(task, prediction, labels[name], weight, self.code)
                    terms[_initial(name, scale)] = loss / valid
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the terms."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


build_losses = MultiTaskLoss  # the stable name, beside build_network and build_metrics


def _positive_weight(task: Task, counts: Mapping[str, Tensor]) -> Tensor | float | None:
    """Weight of positive pixels, negative ones get 1 - this; None where classes are not weighted."""
    if task.loss == "balanced_cross_entropy":
        return 1 - counts[_positives(task.name)].double() / counts[task.name].clamp(min=1)
    return task.positive_weight if task.loss == "weighted_binary" else None


def _final_loss(
    task: Task, prediction: Tensor, label: Tensor, weight: Tensor | float | None, code: TriangularCode | None
) -> Tensor:
    match task.loss:
        case "l1":
            return absolute_error(prediction, label)
        case "unit_l1":
            return unit_absolute_error(prediction, label)
        case "weighted_binary":
            return binary_cross_entropy(prediction, label, task.positive_weight)
        case "cross_entropy" | "balanced_cross_entropy":
            return cross_entropy(prediction, label, weight)
        case "region_cross_entropy":
            return cross_entropy(prediction, region_labels(task, label))
        case "triangular_cross_entropy":
            assert code is not None
            return triangular_cross_entropy(prediction, label, code)
    raise ValueError(f"unknown loss '{task.loss}' of task {task.name}")


def cross_entropy(logits: Tensor, label: Tensor, positive_weight: Tensor | float | None = None) -> Tensor:
    """Cross-entropy summed over valid pixels, optionally weighted by whether class 1 is the label.

    Args:
        logits: (B, C, h, w), resized to the label.
        label: (B, H, W) integers, 255 unlabelled.
    """
    logits = _single(logits)
    weights = None if positive_weight is None else _class_weights(label, positive_weight, logits)
    return resized.cross_entropy(logits, label, weights)


def binary_cross_entropy(logits: Tensor, label: Tensor, positive_weight: Tensor | float) -> Tensor:
    """Class-weighted binary cross-entropy of logits (B, 1, h, w) and labels (B, H, W), summed over valid pixels."""
    valid = label != IGNORE
    logits = _mask(_resized(logits, label), valid).squeeze(1)
    weights = _class_weights(label, positive_weight, logits) * valid
    return F.binary_cross_entropy_with_logits(logits, (label == 1).to(logits), weights, reduction="sum")


def absolute_error(prediction: Tensor, depth: Tensor) -> Tensor:
    """Absolute error in metres of a prediction (B, 1, h, w), summed over valid pixels of the depth (B, 1, H, W)."""
    return _mask(_resized(prediction, depth) - depth, valid_pixels("depth", depth)).abs().sum()


def unit_absolute_error(prediction: Tensor, normals: Tensor) -> Tensor:
    """Absolute error of the prediction (B, 3, h, w) at unit length, summed over channels and valid pixels."""
    valid = valid_pixels("normals", normals)
    predicted = _mask(_resized(prediction, normals), valid)
    # The bound on the length, 1e-6, keeps the gradient usable where a prediction is 0 and has no direction. The
    # published code divides by any length but 0, so that a prediction of length 1e-9 has a gradient of 1e9.
    unit = predicted * predicted.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt()
    return _mask(unit - normals, valid).abs().sum()


def triangular_cross_entropy(logits: Tensor, normals: Tensor, code: TriangularCode) -> Tensor:
    """Cross-entropy with the weights of each normal's three codewords as target (App. D), summed over valid pixels.

    Args:
        logits: (B, R, h, w), one channel a codeword.
        normals: (B, 3, H, W), (0, 0, 0) invalid.
    """
    valid = valid_pixels("normals", normals)
    words, weights = code.encode(_mask(normals, valid))
    log_probabilities = _mask(_resized(logits, normals), valid).log_softmax(1).gather(1, words)
    return -_mask(weights * log_probabilities, valid).sum()


def _class_weights(label: Tensor, positive_weight: Tensor | float, like: Tensor) -> Tensor:
    positive = (label == 1).to(like)
    return positive * positive_weight + (1 - positive) * (1 - positive_weight)


def _mask(values: Tensor, valid: Tensor) -> Tensor:
    """Values (B, C, H, W) with 0 where `valid` (B, H, W) is not, so that nothing there reaches the gradient."""
    return values.masked_fill(~valid.unsqueeze(1), 0)


def _resized(prediction: Tensor, label: Tensor) -> Tensor:
    """The prediction in at least single precision and at the size of the label."""
    return resize(_single(prediction), label.shape[-2:])


def _single(values: Tensor) -> Tensor:
    """At least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
