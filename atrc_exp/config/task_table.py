"""Tasks by configuration: the rows of `dataset.task_table`, and how they become rows of the table of tasks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atrc_exp.config.checks import positive, require
from atrc_exp.tasks import IGNORE, KINDS, PUBLISHED, Task
from atrc_exp.tasks.kinds.kind import Kind

BINS = 40  # label regions where a task does not say
_KEY = "dataset.task_table"
_TERMS = r".*_aux|.*_initial\d+|image|loss|entropy|lr|temperature"  # names of loss terms and of other records


@dataclass(kw_only=True)
class TaskConfig:
    """One task of one's own; docs/add_a_task.md shows it."""

    kind: str = "???"
    """Kind of label map: classes, binary, depth, disparity, normals or regression."""
    title: str | None = None
    """Heading in tables and panels; null is the name."""
    weight: float = 1.0
    """Weight of the task's losses in the sum, > 0."""
    loss: str | None = None
    """A loss that fits the kind; null is its first one."""
    metric: str | None = None
    """The headline metric, one that fits the kind; null is its first one."""
    channels: int | None = None
    """regression: number of channels, >= 1. The number of classes of a class map stands in `dataset.num_classes`."""
    regions: int | None = None
    """depth, disparity and regression: number of label regions, bins of the range, 2 to 254; null is 40."""
    clusters: int | None = None
    """regression: number of label regions that are clusters of the training labels, 2 to 254, in place of bins."""
    centres: list[list[float]] = field(default_factory=list)
    """regression with clusters: their centres, as many values each as channels; empty fits them by k-means, and the
    run's config.yaml keeps them."""
    range: list[float] | None = None
    """disparity and regression: least and greatest value, between which the bins lie; depth: null is 0.7 to 10 m."""
    bins_of: int | None = None
    """regression: channel whose values the bins divide, from 0; null is the norm of all channels."""
    unit: str = ""
    """disparity and regression: unit of the values, in tables; empty is pixels for disparity."""
    class_weights: list[float] = field(default_factory=list)
    """loss=cross_entropy: weight of the pixels of each class, > 0; empty weights all equally."""
    label_smoothing: float = 0.0
    """loss=cross_entropy: share of the target that is spread over all classes, in [0, 1)."""
    positive_weight: float | None = None
    """loss=weighted_binary and boundary_f: weight of the pixels of class 1, in (0, 1); others get 1 - this."""
    max_distance: float | None = None
    """metric=ods_f and loss=boundary_f: matching tolerance of boundaries, share of the image diagonal, in (0, 0.1]."""

    def row(self, name: str, num_classes: int | None) -> Task:
        """The task `name` of a dataset that has `num_classes` for it.

        Raises:
            UserError: a name, kind, loss or metric that cannot be; a value that is missing, or given in vain.
        """
        key = f"{_KEY}.{name}"
        self._check_name(name)
        require(self.kind in KINDS, f"{key}.kind", self.kind, f"one of {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        loss, metric = self.loss or next(iter(kind.losses)), self.metric or next(iter(kind.metrics))
        require(loss in kind.losses, f"{key}.loss", loss, f"one that fits kind {kind.name}: {', '.join(kind.losses)}")
        fitting = ", ".join(kind.metrics)
        require(metric in kind.metrics, f"{key}.metric", metric, f"one that fits kind {kind.name}: {fitting}")
        positive(f"{key}.weight", self.weight)
        self._check_values(key, kind)
        self._check_options(key, (*kind.losses[loss], *kind.metrics[metric].reads), num_classes or 2)
        channels, regions = kind.sizes(loss, self.channels or 0, self.clusters or self.regions or BINS)
        options = {option: getattr(self, option) for option in ("positive_weight", "max_distance")}
        return Task(
            name=name,
            title=self.title or name,
            label=self.kind,
            channels=channels,
            regions=regions,
            loss=loss,
            weight=self.weight,
            metric=metric,
            range=None if self.range is None else (self.range[0], self.range[1]),
            bins_of=self.bins_of,
            centres=tuple(map(tuple, self.centres)) if self.clusters else None,
            values_in=self.unit,
            class_weights=tuple(self.class_weights),
            label_smoothing=self.label_smoothing,
            **{option: value for option, value in options.items() if value is not None},
        )

    @classmethod
    def rows_of(cls, dataset: Mapping[str, Any]) -> list[Task]:
        """The tasks that the `dataset` section of a stored configuration defines."""
        classes = dataset.get("num_classes", {})
        return [cls(**row).row(name, classes.get(name)) for name, row in dataset.get("task_table", {}).items()]

    def _check_name(self, name: str) -> None:
        from torch.nn import ModuleDict  # whose attributes cannot be names of its modules

        require(name not in PUBLISHED, f"{_KEY}.{name}", "given", "a name of your own",
                f"{name} is one of the published tasks ({', '.join(PUBLISHED)})")  # fmt: skip
        proper = re.fullmatch(r"[a-z][a-z0-9_]*", name) and not re.fullmatch(_TERMS, name)
        require(bool(proper) and not hasattr(ModuleDict, name), f"{_KEY}.{name}", "given",
                "a name of small letters, digits and _ that is no name of a loss term or of PyTorch's")  # fmt: skip

    def _check_values(self, key: str, kind: Kind) -> None:
        bins = kind.bins
        left_out = f"left out for kind {kind.name}"
        if self.range is None:
            missing = bins is not None and bins.default is None
            require(not missing, f"{key}.range", None, "given, [least, greatest]: bins, pictures and scores take it")
        else:
            require(bins is not None, f"{key}.range", self.range, left_out)
            rising = len(self.range) == 2 and self.range[0] < self.range[1]
            above = bins is None or not bins.logarithmic or self.range[0] > 0
            wanted = "[least, greatest]" + (", above 0" if bins is not None and bins.logarithmic else "")
            require(rising and above, f"{key}.range", self.range, wanted)
        require(self.regions is None or bins is not None, f"{key}.regions", self.regions, left_out)
        require(2 <= (self.regions or BINS) < IGNORE, f"{key}.regions", self.regions, f"2 to {IGNORE - 1}")
        wanted = ">= 1, the number of values of a pixel" if kind.any_channels else left_out
        given = self.channels is not None and self.channels >= 1
        require(given if kind.any_channels else self.channels is None, f"{key}.channels", self.channels, wanted)
        inside = self.bins_of is None or 0 <= self.bins_of < (self.channels or 0)
        wanted = f"null or 0 to {(self.channels or 0) - 1}" if kind.any_channels else left_out
        require(inside, f"{key}.bins_of", self.bins_of, wanted)
        self._check_clusters(key, kind)
        require(kind.any_unit or not self.unit, f"{key}.unit", self.unit, left_out)

    def _check_clusters(self, key: str, kind: Kind) -> None:
        given = self.clusters is not None
        alone = kind.any_channels and self.regions is None and self.bins_of is None
        require(alone or not given, f"{key}.clusters", self.clusters,
                "left out for kinds other than regression, and beside regions and bins_of")  # fmt: skip
        require(not given or 2 <= (self.clusters or 0) < IGNORE, f"{key}.clusters", self.clusters, f"2 to {IGNORE - 1}")
        sizes = {len(centre) for centre in self.centres}
        proper = not self.centres or (len(self.centres) == self.clusters and sizes == {self.channels})
        require(
            proper, f"{key}.centres", self.centres, f"empty or {self.clusters or 0} lists of {self.channels} values"
        )

    def _check_options(self, key: str, read: Sequence[str], classes: int) -> None:
        """Options of losses and metrics: what is read must be given where it has no default, others must not."""
        for option in ("class_weights", "label_smoothing", "positive_weight", "max_distance"):
            value = getattr(self, option)
            require(option in read or not value, f"{key}.{option}", value, "left out for this loss and metric")
        weight, distance = self.positive_weight, self.max_distance
        require("positive_weight" not in read or 0 < (weight or 0) < 1, f"{key}.positive_weight", weight,
                "in (0, 1): about 1 - the share of pixels of class 1")  # fmt: skip
        require("max_distance" not in read or 0 < (distance or 0) <= 0.1, f"{key}.max_distance", distance,
                "in (0, 0.1]: the boundary score's tolerance as a share of the diagonal")  # fmt: skip
        require(0 <= self.label_smoothing < 1, f"{key}.label_smoothing", self.label_smoothing, "in [0, 1)")
        proper = len(self.class_weights) in (0, classes) and all(weight > 0 for weight in self.class_weights)
        require(proper, f"{key}.class_weights", self.class_weights, f"a number > 0 for each of {classes} classes")
