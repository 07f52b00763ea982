"""The table of tasks: channels, label regions, losses and metrics (Sec. 4.1, App. A).

Everything that depends on which task it is reads it here; elsewhere a task is a key in a dictionary. The rows below are
the published tasks; `dataset.task_table` defines others in the same form.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from atrc_exp.errors import UserError
from atrc_exp.tasks.kinds import KINDS
from atrc_exp.tasks.kinds.depth import DEPTH_BINS, DEPTH_RANGE
from atrc_exp.tasks.kinds.kind import IGNORE, Kind, Measure
from atrc_exp.tasks.kinds.normals import CODEWORDS

__all__ = [
    "CODEWORDS", "DEPTH_BINS", "DEPTH_RANGE", "FORMS", "IGNORE", "KINDS", "PUBLISHED", "TASKS", "Task", "build_tasks",
    "class_count", "know", "title_of",
]  # fmt: skip
FORMS = ("regression", "classification")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dense prediction task. Fields that say "dataset" are filled in by `build_tasks`."""

    name: str
    title: str
    """Column heading in tables and panels."""
    label: str
    """Kind of label map, a key of `KINDS`."""
    channels: int = 0
    """Channels of the final prediction; 0 = number of classes of the dataset."""
    regions: int = 0
    """Classes of the auxiliary head, the label regions R of label contexts; 0 = number of classes."""
    loss: str
    """Final loss, a key of `losses.LOSSES`; in the form of a classification the kind's `classification_loss`."""
    weight: float
    """Weight of both the final and the auxiliary loss in the sum."""
    metric: str
    """The headline metric, one of the kind's `metrics`."""
    range: tuple[float, float] | None = None
    """Values between which the label regions of a kind with bins lie; None where it has none, or for its own range."""
    bins_of: int | None = None
    """Channel whose values the bins of a regression divide; None is the norm of all channels."""
    centres: tuple[tuple[float, ...], ...] | None = None
    """Centres (R, C) of its label regions where these are clusters of a regression's values: a pixel belongs to the
    nearest one. None where they are bins; empty before `data.clusters` has fitted them."""
    values_in: str = ""
    """Unit of the values where it is not that of the kind."""
    class_weights: tuple[float, ...] = ()
    """cross_entropy only: weight of the pixels of each class; empty weights all equally."""
    label_smoothing: float = 0.0
    """cross_entropy only: share of the target that is spread over all classes."""
    positive_weight: float = 0.5
    """weighted_binary and boundary_f only: weight of positive pixels, negative ones get 1 - this (dataset)."""
    max_distance: float = 0.0075
    """Boundary metric and boundary_f only: matching tolerance as a share of the image diagonal (dataset)."""
    background_is_unlabelled: bool = False
    """A label map with nothing but class 0 counts as unlabelled (images without people)."""

    @property
    def kind(self) -> Kind:
        """Everything that depends on the kind of label map."""
        return KINDS[self.label]

    @property
    def measure(self) -> Measure:
        """Direction and unit of the headline metric, and what it reads."""
        return self.kind.metrics[self.metric]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the headline metric."""
        return self.measure.higher_is_better

    @property
    def unit(self) -> str:
        """Unit of the headline metric in tables; fractions are shown in per cent, %."""
        return self.value_unit if self.measure.unit is None else self.measure.unit

    def unit_of(self, metric: str) -> str:
        """Unit of any metric of the task; of those that can be no headline, that of the headline."""
        return replace(self, metric=metric).unit if metric in self.kind.metrics else self.unit

    @property
    def value_unit(self) -> str:
        """Unit of the values of label maps."""
        return self.values_in or self.kind.unit

    @property
    def reads(self) -> tuple[str, ...]:
        """Options that its loss and metric need."""
        return (*self.kind.losses.get(self.loss, ()), *self.kind.metrics[self.metric].reads)

    @property
    def is_classification(self) -> bool:
        """Whether a task of values is predicted as a classification over its label regions (App. D)."""
        return self.loss == self.kind.classification_loss


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="semseg", title="SemSeg", label="classes", loss="cross_entropy", weight=1.0,
             metric="miou"),
        Task(name="human_parts", title="PartSeg", label="classes", channels=7, regions=7, loss="cross_entropy",
             weight=2.0, metric="miou", background_is_unlabelled=True),
        Task(name="sal", title="Sal", label="binary", channels=2, regions=2, loss="balanced_cross_entropy",
             weight=5.0, metric="max_f"),
        Task(name="depth", title="Depth", label="depth", channels=1, regions=DEPTH_BINS, loss="l1",
             weight=1.0, metric="rmse", range=DEPTH_RANGE),
        Task(name="normals", title="Normal", label="normals", channels=3, regions=CODEWORDS, loss="unit_l1",
             weight=10.0, metric="mean_error"),
        Task(name="edge", title="Bound", label="binary", channels=1, regions=2, loss="weighted_binary",
             weight=50.0, metric="ods_f"),
    )
}  # fmt: skip
"""The tasks that this process knows: the published ones, and those that `know` adds."""
PUBLISHED = MappingProxyType(dict(TASKS))


def know(rows: Iterable[Task], source: object = None) -> None:
    """Add the rows of other tasks to `TASKS`, for tables and figures of runs that have them.

    Args:
        source: the file that has the rows, where they must not contradict rows that are known already; None replaces
            these, since the rows are those of the command's own configuration.

    Raises:
        UserError: a task that is known with another kind of label, metric or unit, whose numbers could not stand in one
            column.
    """
    for row in rows:
        known = TASKS.get(row.name, row)
        if source is not None and (known.label, known.metric, known.unit) != (row.label, row.metric, row.unit):
            raise UserError(
                f"{source}: {row.name} is {row.label} scored by {row.metric} [{row.unit}] there, but {known.label} "
                f"scored by {known.metric} [{known.unit}] in other runs; give one of them another name"
            )
        if row.name not in PUBLISHED and (source is None or known is row):
            TASKS[row.name] = row


def title_of(name: str) -> str:
    """Heading of a task in tables and figures: its title, or its name where this process does not know the task."""
    return TASKS[name].title if name in TASKS else name


def class_count(name: str, num_classes: Mapping[str, int], rows: Mapping[str, Task] = TASKS) -> int:
    """Number of classes in the label maps of a task: the table's, or the dataset's in `num_classes`.

    Raises:
        UserError: a number that nobody gave, or one that 8-bit maps, in which 255 is unlabelled, cannot hold.
    """
    if rows[name].regions:
        return rows[name].regions
    if name not in num_classes:
        raise UserError(f"dataset.num_classes lacks '{name}': give its number of classes, num_classes: {{{name}: N}}")
    if not 2 <= num_classes[name] <= IGNORE:
        raise UserError(
            f"dataset.num_classes.{name}={num_classes[name]}: must be 2 to {IGNORE}, since class maps have 8 bits and "
            f"{IGNORE} stands for unlabelled pixels; merge classes that are rare"
        )
    return num_classes[name]


def build_tasks(
    names: Iterable[str],
    *,
    num_classes: Mapping[str, int],
    edge_positive_weight: float | None,
    edge_max_distance: float | None,
    weights: Mapping[str, float] | None = None,
    forms: Mapping[str, str] | None = None,
    losses: Mapping[str, str] | None = None,
    rows: Mapping[str, Task] = TASKS,
) -> tuple[Task, ...]:
    """Fill the dataset's facts into the rows of the table, in the order of `names`.

    Args:
        num_classes: classes of those tasks whose number the dataset decides, e.g. `{"semseg": 40}`.
        edge_positive_weight, edge_max_distance: as in `Task`, for published tasks; None where none predicts boundaries.
        weights: loss weights that replace the table's.
        forms: form, of `FORMS`, of tasks that are not predicted as in the table.
        losses: loss, one that fits the kind, of tasks that do not have the table's.
        rows: the tasks that there can be (`DatasetConfig.rows`).

    Raises:
        UserError: a name that is not in the table, a number of classes that nobody gave or that maps cannot hold, a
            form that a task lacks.
    """
    tasks = []
    for name in names:
        if name not in rows:
            raise UserError(f"unknown task '{name}'; known tasks: {', '.join(rows)}")
        task = rows[name]
        if not task.channels:
            classes = class_count(name, num_classes, rows)
            task = replace(task, channels=classes, regions=classes)
        if losses and name in losses:
            channels, regions = task.kind.sizes(losses[name], task.channels, task.regions)
            task = replace(task, loss=losses[name], channels=channels or task.channels, regions=regions or task.regions)
        if (forms or {}).get(name) == "classification":
            task = _as_classification(task, rows)
        if name in PUBLISHED and edge_positive_weight is not None and edge_max_distance is not None:
            task = replace(task, positive_weight=edge_positive_weight, max_distance=edge_max_distance)
        tasks.append(replace(task, weight=(weights or {}).get(name, task.weight)))
    return tuple(tasks)


def _as_classification(task: Task, rows: Mapping[str, Task]) -> Task:
    if not task.kind.classification_loss:
        able = ", ".join(row.name for row in rows.values() if row.kind.classification_loss)
        raise UserError(f"task_forms.{task.name}=classification: only {able} have this form; leave it out")
    return replace(task, channels=task.regions, loss=task.kind.classification_loss)
