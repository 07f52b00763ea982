"""Tasks by configuration: what a row becomes, and one clear line for each that cannot be."""

import pytest

from atrc_exp.config import DatasetConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.errors import UserError
from atrc_exp.losses import LOSSES
from atrc_exp.metrics import METRICS
from atrc_exp.tasks import KINDS, PUBLISHED, TASKS, build_tasks, know, title_of


def dataset(num_classes=None, tasks=(), **rows):
    table = {name: TaskConfig(**row) for name, row in rows.items()}
    return DatasetConfig(name="own", task_table=table, num_classes=num_classes or {}, tasks=list(tasks))


def test_rows_of_every_kind_take_what_fits_them_by_default():
    own = dataset(
        {"material": 5},
        material={"kind": "classes"},
        shadow={"kind": "binary"},
        outline={"kind": "binary", "loss": "weighted_binary", "metric": "ods_f", "positive_weight": 0.9,
                 "max_distance": 0.02},
        far={"kind": "depth", "range": [1.0, 80.0], "title": "Far", "weight": 3.0},
        stereo={"kind": "disparity", "range": [1, 128], "regions": 20, "metric": "delta_1"},
        inverse={"kind": "disparity", "range": [0.01, 0.5], "unit": "1/m"},
        smooth={"kind": "normals"},
        albedo={"kind": "regression", "channels": 3, "range": [0, 1], "unit": "1"},
    )  # fmt: skip
    tasks = build_tasks(own.task_table, num_classes=own.num_classes, edge_positive_weight=0.1, edge_max_distance=0.01,
                        rows=own.rows)  # fmt: skip
    found = {t.name: (t.channels, t.regions, t.loss, t.metric, t.unit, t.higher_is_better) for t in tasks}
    assert found == {
        "material": (5, 5, "cross_entropy", "miou", "%", True),
        "shadow": (2, 2, "cross_entropy", "f", "%", True),
        "outline": (1, 2, "weighted_binary", "ods_f", "%", True),
        "far": (1, 40, "l1", "rmse", "m", False),
        "stereo": (1, 20, "l1", "delta_1", "%", True),
        "inverse": (1, 40, "l1", "rmse", "1/m", False),
        "smooth": (3, 40, "unit_l1", "mean_error", "deg", False),
        "albedo": (3, 40, "l1", "rmse", "1", False),
    }
    outline, far = tasks[2], tasks[3]
    assert (outline.positive_weight, outline.max_distance) == (0.9, 0.02)  # not those of the published boundaries
    assert (far.title, far.weight, far.range) == ("Far", 3.0, (1.0, 80.0))
    assert list(own.rows)[: len(PUBLISHED)] == list(PUBLISHED)


def test_every_loss_and_metric_that_a_kind_names_is_there():
    for kind in KINDS.values():
        assert set(kind.losses) | ({kind.classification_loss} - {""}) <= set(LOSSES), kind.name
        assert {measure.scorer for measure in kind.metrics.values()} <= {*METRICS, "boundary"}, kind.name
    fitting = {loss for kind in KINDS.values() for loss in (*kind.losses, kind.classification_loss)}
    assert set(LOSSES) <= fitting


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": {"kind": "flow"}}, r"a\.kind=flow: must be one of classes, binary, depth"),
        ({"a": {"kind": "binary", "loss": "berhu"}}, r"a\.loss=berhu: must be one that fits kind binary"),
        ({"a": {"kind": "depth", "metric": "miou"}}, r"a\.metric=miou: must be one that fits kind depth: rmse"),
        ({"depth": {"kind": "depth"}}, r"task_table\.depth=given: .* depth is one of the published tasks"),
        ({"a": {"kind": "disparity"}}, r"a\.range=None: must be given"),
        ({"a": {"kind": "disparity", "range": [0, 5]}}, r"a\.range=\[0, 5\]: must be \[least, greatest\], above 0"),
        ({"a": {"kind": "regression", "range": [0, 1]}}, r"a\.channels=None: must be >= 1"),
        ({"a": {"kind": "regression", "range": [1, 0], "channels": 1}}, r"a\.range=\[1, 0\]: must be"),
        ({"a": {"kind": "regression", "range": [0, 1], "channels": 2, "bins_of": 2}}, r"bins_of=2: .* null or 0 to 1"),
        ({"a": {"kind": "depth", "regions": 255}}, r"a\.regions=255: must be 2 to 254"),
        ({"a": {"kind": "binary", "channels": 2}}, r"a\.channels=2: must be left out for kind binary"),
        ({"a": {"kind": "normals", "range": [0, 1]}}, r"a\.range=\[0, 1\]: must be left out for kind normals"),
        ({"a": {"kind": "depth", "unit": "km"}}, r"a\.unit=km: must be left out for kind depth"),
        ({"a": {"kind": "binary", "weight": 0.0}}, r"a\.weight=0\.0: must be > 0"),
        ({"a": {"kind": "binary", "loss": "weighted_binary"}}, r"a\.positive_weight=None: must be in \(0, 1\)"),
        ({"a": {"kind": "binary", "metric": "ods_f"}}, r"a\.max_distance=None: must be in \(0, 0\.1\]"),
        ({"a": {"kind": "binary", "loss": "dice", "label_smoothing": 0.1}}, r"a\.label_smoothing=0\.1: .* left out"),
        ({"a": {"kind": "binary", "class_weights": [1.0]}}, r"class_weights=.* number > 0 for each of 2"),
        ({"train": {"kind": "binary"}}, r"task_table\.train=given: must be a name of small letters"),
        ({"a_aux": {"kind": "binary"}}, r"task_table\.a_aux=given: must be a name of small letters"),
        ({"a.b": {"kind": "binary"}}, r"task_table\.a\.b=given: must be a name of small letters"),
    ],
)  # fmt: skip
def test_bad_rows_are_one_line(row, words):
    with pytest.raises(UserError, match=words) as raised:
        dataset(**row)
    assert "\n" not in str(raised.value)


def test_a_class_map_needs_its_number_of_classes():
    with pytest.raises(UserError, match=r"num_classes lacks 'a'"):
        dataset(tasks=["a"], a={"kind": "classes"})
    with pytest.raises(UserError, match=r"num_classes=b: .*\ba\)"):
        dataset({"a": 3, "b": 2}, a={"kind": "classes"}, b={"kind": "binary"})


def test_tasks_of_one_title_are_refused():
    rows = {"stereo": {"kind": "depth", "title": "Depth"}, "shadow": {"kind": "binary"}}
    assert dataset(tasks=["stereo", "shadow"], **rows).tasks  # the published depth is none of its tasks
    with pytest.raises(UserError, match=r"\['stereo', 'depth'\].*different titles"):
        dataset(tasks=["stereo", "shadow", "depth"], **rows)


def test_reports_know_the_rows_of_runs_and_refuse_two_meanings_of_one_name(monkeypatch):
    for name in ("mine", "other"):
        monkeypatch.setitem(TASKS, name, TASKS["sal"])
        monkeypatch.delitem(TASKS, name)
    rows = dataset(mine={"kind": "depth", "title": "My depth"}).rows
    assert title_of("mine") == "mine"
    know([rows["mine"]], "a/summary.json")
    assert title_of("mine") == "My depth"
    know(dataset(mine={"kind": "depth", "weight": 4.0}).rows.values(), "b/summary.json")
    other = dataset(mine={"kind": "depth", "metric": "abs_rel"}).rows
    with pytest.raises(UserError, match=r"c/summary\.json: mine .*depth .*abs_rel"):
        know(other.values(), "c/summary.json")
    know(other.values())  # a command has its own rows
    assert TASKS["mine"].metric == "abs_rel" and {name: TASKS[name] for name in PUBLISHED} == PUBLISHED
