"""W&B views and report: what would be pushed, and that runs log every key it refers to."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from atrc_exp.config import LoggerConfig
from atrc_exp.errors import UserError
from atrc_exp.evaluation.scores import Scores
from atrc_exp.processes.ranks import Ranks
from atrc_exp.tasks import TASKS, build_tasks

sys.path.insert(0, str(Path(__file__).parent))
import tiny_engine

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # in wandb-workspaces
SCRIPT = Path(__file__).parents[1] / "multirun_scripts" / "dashboard.py"


@pytest.fixture(scope="module")
def dashboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """Stands for `wandb.Api` and the server behind it; keeps the specifications that are saved, by title."""

    app_url = "https://wandb.test"

    def __init__(self) -> None:
        self._service_api = self
        self.saved: dict[str, dict[str, Any]] = {}

    def projects(self, entity: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="project")]

    def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        assert "upsertView" in query and variables["entityName"] == "team" and variables["projectName"] == "project"
        self.saved[variables["displayName"]] = json.loads(variables["spec"])
        view = {"id": "1", "name": variables["name"], "displayName": variables["displayName"], "description": "",
                "spec": variables["spec"], "project": {"name": "project", "entityName": "team"}}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}


@pytest.fixture
def pushed(dashboard, monkeypatch) -> dict[str, dict[str, Any]]:
    """The specifications that `--push` sends."""
    server = Server()
    monkeypatch.setattr("wandb.Api", lambda *_, **__: server)
    monkeypatch.setattr("wandb.login", lambda **_: True)
    dashboard.main(["--entity", "team", "--project", "project", "--tasks", *tiny_engine.NAMES, "--images", "2",
                    "--sweeps", "first", "second", "--push"])  # fmt: skip
    return server.saved


class Recorder(ModuleType):
    """A stand-in for wandb that keeps the keys that are logged and the configurations."""

    Settings = SimpleNamespace
    errors = SimpleNamespace(Error=RuntimeError)

    def __init__(self) -> None:
        super().__init__("wandb")
        self.keys: set[str] = set()
        self.config: dict[str, Any] = {}

    def init(self, *, config: dict[str, Any], **_: Any) -> SimpleNamespace:
        self.config = config
        return SimpleNamespace(log=lambda row, step: self.keys.update(row), finish=lambda exit_code: None,
                               log_artifact=lambda artifact: None,
                               config=SimpleNamespace(update=lambda facts, allow_val_change: None))  # fmt: skip

    def Image(self, array: Any, caption: str | None = None) -> None:
        assert array.ndim == 3

    def Artifact(self, name: str, type: str) -> SimpleNamespace:
        return SimpleNamespace(add_file=lambda path: None)


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> dict[str, Recorder]:
    """What a search and the training of a genotype log, with real parts on random images."""
    recorders = {"search": Recorder(), "atrc": Recorder()}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        for kind, recorder in recorders.items():
            patch.setitem(sys.modules, "wandb", recorder)
            config = tiny_engine.config(tmp_path_factory.mktemp("logged"), kind=kind, iterations=1, validate_every=1)
            tiny_engine.run_training(replace(config, logger=LoggerConfig(mode="offline", images=2)))
    return recorders


def shown(specification: Any) -> set[str]:
    """Every logged key in a specification, wherever it stands."""
    if isinstance(specification, list):
        return set().union(*map(shown, specification)) if specification else set()
    if not isinstance(specification, dict):
        return set()
    own = (
        [*specification.get("metrics", []), *specification.get("mediaKeys", [])]
        if "chartTitle" in specification
        else []
    )
    own += [key.removeprefix("summary:") for key in specification.get("columnPinned", {}) if key.startswith("summary:")]
    return set(own).union(*map(shown, specification.values()))


def test_views_show_what_a_search_logs_and_nothing_else(pushed, logged):
    keys = set().union(*map(shown, pushed.values()))
    assert keys == logged["search"].keys
    probabilities = [key for key in keys if key.startswith("search/probabilities/")]
    assert len(probabilities) == 2 * 4 + 2 * 5


def test_a_retrained_network_logs_all_but_the_search(pushed, logged):
    keys = set().union(*(shown(view) for name, view in pushed.items() if name != "Search dynamics"))
    without_head = {"train/depth_aux"}  # no label context reads depth
    assert keys - {"genotype"} - without_head == logged["atrc"].keys


def test_every_metric_of_every_task_is_shown(dashboard):
    tasks = build_tasks(TASKS, num_classes={"semseg": 5}, edge_positive_weight=0.8, edge_max_distance=0.1)
    scores, draw = Scores(tasks, Ranks()), torch.Generator().manual_seed(0)
    label = {
        "classes": torch.ones(24, 32).long().tril(),
        "binary": torch.ones(24, 32).long().tril(),
        "depth": torch.ones(1, 24, 32),
        "normals": torch.ones(3, 24, 32),
    }
    guess = {task.name: torch.rand(task.channels, 24, 32, generator=draw) for task in tasks}
    scores.add("0", guess, {task.name: label[task.label] for task in tasks})
    computed = {f"val/{key}" for key in scores.compute()} | {f"val/{task.name}/loss" for task in tasks}
    view = dashboard.views("team", "project", TASKS)[2]
    keys = {key for section in view.sections for panel in section.panels for key in dashboard.panel_keys(panel)}
    assert {key for key in keys if key.startswith("val/")} == computed


def test_seeds_of_a_name_are_one_line_with_its_band(pushed, logged):
    overview = pushed["Sweep overview"]["section"]
    assert [key["name"] for key in overview["runSets"][0]["grouping"]] == ["group"]
    assert {section["name"] for section in overview["panelBankConfig"]["sections"]} >= {"Scores", "Losses"}
    plots = [panel["config"] for section in overview["panelBankConfig"]["sections"] for panel in section["panels"]]
    assert len(plots) == 2 * len(tiny_engine.NAMES) + 2
    for plot in plots:
        chosen = {key: plot[key] for key in ("groupBy", "groupAgg", "groupArea", "aggregate")}
        assert chosen == {"groupBy": "group", "groupAgg": "mean", "groupArea": "minmax", "aggregate": True}
    assert (
        "config:seed.value" in overview["runSets"][0]["runFeed"]["columnPinned"]
        and logged["search"].config["seed"] == 0
    )


def test_the_report_is_of_the_sweeps_named(pushed):
    report = pushed["Comparison of first, second"]
    grids = [block for block in report["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 5
    for grid in grids:
        (runset,) = grid["metadata"]["runSets"]
        assert "first" in json.dumps(runset["filters"]) and "second" in json.dumps(runset["filters"])
        assert runset["grouping"] == [{"section": "run", "name": "group"}]
    assert '"search"' in json.dumps(pushed["Search dynamics"]["section"]["runSets"][0]["filters"])


def test_without_push_all_is_printed_and_nobody_is_asked(dashboard, monkeypatch, capsys):
    monkeypatch.setattr("wandb.Api", lambda *_, **__: pytest.fail("asks the server"))
    dashboard.main(["--entity", "team", "--tasks", "semseg", "sal"])
    printed = capsys.readouterr().out
    for words in ("View: Sweep overview", "View: System", "Report: Comparison of all sweeps", "predictions/4",
                  "search/probabilities/sal/semseg/slabel", "val/sal/max_f_mean_pr"):  # fmt: skip
        assert words in printed
    assert "search/probabilities/sal/sal/slabel" not in printed and "depth" not in printed


@pytest.mark.parametrize(
    ("login", "words"),
    [(lambda **_: False, "run `wandb login`"), (lambda **_: 1 / 0, "cannot be reached or refuses: division by zero;")],
)
def test_a_push_that_fails_is_one_line(dashboard, monkeypatch, login, words):
    monkeypatch.setattr("wandb.login", login)
    with pytest.raises(UserError, match="W&B") as raised:
        dashboard.main(["--entity", "team", "--push"])
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_task_is_one_line(dashboard):
    with pytest.raises(UserError, match=r"segmentation.*semseg"):
        dashboard.main(["--entity", "team", "--tasks", "segmentation"])
