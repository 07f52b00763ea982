"""A module in a user's own file: it trains by the public command, and is imported only where the user says so."""

import subprocess
import sys
from pathlib import Path

import pytest
import small_rooms
import torch

from atrc_exp.config import Config, DistillationConfig, StageConfig
from atrc_exp.errors import UserError
from atrc_exp.models.distillation.custom import build
from atrc_exp.stages import run_stage

SOURCE = '''
from pathlib import Path

from torch import nn

Path(__file__).with_name("imported").touch()


class Mean(nn.Module):
    """Every task's features plus a learned share of the mean over tasks."""

    label_tasks = ()

    def __init__(self, tasks, channels, share=0.1):
        super().__init__()
        self.share = nn.Parameter(share * __import__("torch").ones(channels, 1, 1))

    def forward(self, features, aux_logits, valid=None):
        mean = sum(features.values()) / len(features)
        return {task: x + self.share * mean for task, x in features.items()}


class NoLabelTasks(nn.Module):
    def __init__(self, tasks, channels):
        super().__init__()


def function(tasks, channels):
    raise AssertionError("must not be called")
'''
MINE = ("+experiment=rooms_hrnet18_multi_task", "name=mine", "distillation=custom", "tasks=[depth,edge]",
        "distillation._target_=users_module.Mean")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Folder of the user's file, on the search path as the working folder is."""
    (tmp_path / "users_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("users_module", None)


def test_a_module_in_a_users_file_trains_and_is_allowed_anew_for_its_run(folder, rooms):
    config = small_rooms.command(folder, rooms, *MINE, *small_rooms.QUICK, "allow=[users_module]",
                                 "+distillation.options.share=0.3")  # fmt: skip
    run_stage(config)
    run = folder / "runs" / "mine" / "seed0"
    weights = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["network"]
    assert weights["distillation.share"].mean() == pytest.approx(0.3, abs=0.05)

    evaluate = ("stage=evaluate", f"run={run}", "logger=none")
    with pytest.raises(UserError, match=r"users_module\.Mean.*allow=\[\].*give allow=\[users_module\]"):
        small_rooms.as_typed(*evaluate)
    again = small_rooms.as_typed(*evaluate, "allow=[users_module]")
    assert again.distillation._target_ == "users_module.Mean"
    run_stage(again)
    assert (run / "evaluation.json").is_file()


@pytest.mark.parametrize("allow", [[], ["users"], ["users_module.Mean"], ["other", "users_modul"], [""]])
def test_a_module_outside_the_allowed_ones_is_refused_and_not_imported(folder, allow):
    with pytest.raises(UserError, match=r"distillation\._target_=users_module\.Mean"):
        Config(
            allow=allow,
            dataset=small_rooms.dataset(),
            stage=StageConfig(name="profile"),
            distillation=DistillationConfig(name="custom", _target_="users_module.Mean"),
        )
    assert not (folder / "imported").exists() and "users_module" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Mean", "MODULE.CLASS"),
        ("users_modul.Mean", "no module 'users_modul'"),
        ("users_module.inner.Mean", "no module 'users_module.inner'"),
        ("users_module.Means", "'Means' is no class in users_module"),
        ("users_module.function", "derives from torch.nn.Module"),
        ("users_module.NoLabelTasks", "label_tasks"),
    ],
)
def test_what_cannot_be_a_module_is_named(folder, target, message):
    with pytest.raises(UserError, match=message):
        build(target, {}, ("depth",), 4)


def test_errors_inside_the_users_file_are_left_as_they_are(folder):
    (folder / "broken_users_module.py").write_text("import surely_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        build("broken_users_module.Mean", {}, ("depth",), 4)
    with pytest.raises(TypeError, match="shares"):
        build("users_module.Mean", {"shares": 1}, ("depth",), 4)


def test_target_and_custom_belong_together():
    with pytest.raises(UserError, match=r"distillation\._target_=None: must be given"):
        DistillationConfig(name="custom")
    with pytest.raises(UserError, match=r"distillation\._target_=a\.B: .*null .*distillation=pap"):
        DistillationConfig(name="pap", _target_="a.B")
    with pytest.raises(UserError, match=r"distillation\.options"):
        DistillationConfig(name="pap", options={"share": 1})


def test_the_command_line_refuses_in_one_line(folder):
    done = subprocess.run(
        [sys.executable, "-m", "atrc_exp", *MINE], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and done.stderr.startswith("error: distillation._target_=users_module.Mean:")
    assert done.stderr.count("\n") == 1 and not (folder / "imported").exists()


HOSTILE = """
from torch import nn
import torch.nn.functional as F


class Base(nn.Module):
    label_tasks = ()

    def __init__(self, tasks, channels):
        super().__init__()
        self.calls = 0

    def forward(self, features, aux_logits, valid=None):
        self.calls += 1
        return self.refine(dict(features))

    def refine(self, maps):
        return maps


class Half(Base):
    def refine(self, maps):
        return {task: F.avg_pool2d(x, 2) for task, x in maps.items()}


class Forgetful(Base):
    def refine(self, maps):
        return {"depth": maps["depth"]}


class Eager(Base):
    def refine(self, maps):
        return {**maps, "normals": maps["depth"]}


class Thin(Base):
    def refine(self, maps):
        return {**maps, "edge": maps["edge"][:, :3]}


class Listed(Base):
    def refine(self, maps):
        return list(maps.values())


class Nothing(Base):
    def refine(self, maps):
        return dict.fromkeys(maps)


class Late(Base):
    def refine(self, maps):
        return maps if self.calls == 1 else {}
"""


@pytest.mark.parametrize(("name", "parts"), [
    ("Half", ["depth", "(2, 4, 3, 4)", "(2, 4, 6, 8)"]), ("Thin", ["edge", "(2, 3, 6, 8)", "(2, 4, 6, 8)"]),
    ("Forgetful", ["depth", "edge"]), ("Eager", ["depth, edge, normals"]), ("Listed", ["list"]),
    ("Nothing", ["NoneType", "depth"]),
])  # fmt: skip
def test_what_does_not_fit_the_features_is_named_at_the_first_call(folder, name, parts):
    (folder / "users_module.py").write_text(HOSTILE)
    module = build(f"users_module.{name}", {}, ("depth", "edge"), 4)
    with pytest.raises(UserError, match=f"users_module.{name}") as caught:
        module({task: torch.ones(2, 4, 6, 8) for task in ("depth", "edge")}, {})
    assert all(part in str(caught.value) for part in parts)


def test_later_calls_are_not_checked(folder):
    (folder / "users_module.py").write_text(HOSTILE)
    module = build("users_module.Late", {}, ("depth",), 4)
    features = {"depth": torch.ones(2, 4, 6, 8)}
    assert module(features, {}) == features and module(features, {}) == {}


def test_a_training_with_a_misfit_ends_in_one_message(folder, rooms):
    (folder / "users_module.py").write_text(HOSTILE)
    config = small_rooms.command(folder, rooms, *MINE[:-1], "distillation._target_=users_module.Half",
                                 *small_rooms.QUICK, "allow=[users_module]")  # fmt: skip
    with pytest.raises(UserError, match=r"distillation\._target_=users_module\.Half: returned a map"):
        run_stage(config)
    assert not (folder / "runs" / "mine" / "seed0" / "summary.json").exists()
