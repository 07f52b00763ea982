"""The command line before Hydra reads it, and the advice for values that Hydra cannot read."""

import os
import shlex
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from small_rooms import as_typed

from atrc_exp import __version__
from atrc_exp.config import STAGES, BalanceConfig, Config
from atrc_exp.config.arguments import prepared, quoted, readable
from atrc_exp.config.checks import free_keys, path_keys
from atrc_exp.config.hydra_errors import USER_MISTAKES, explain
from atrc_exp.config.keys import USED_BY, is_used, require_used
from atrc_exp.errors import UserError


def message(*overrides: str) -> str:
    with pytest.raises(USER_MISTAKES) as caught:
        as_typed(*overrides)
    return explain(caught.value)


def test_options_may_stand_between_overrides():
    assert prepared(["seed=0,1", "-m", "optim.lr=1", "--config-dir", "a=b", "x=-1"]) == [
        "-m", "--config-dir", "a=b", "seed=0,1", "optim.lr=1", "x=-1"
    ]  # fmt: skip
    assert prepared(["seed=0", "--cfg", "job", "dataset=nyud"]) == ["--cfg", "job", "seed=0", "dataset=nyud"]


@pytest.mark.parametrize("arguments", [["=3"], ["seed=1", "+=3"]])
def test_an_override_has_a_key(arguments):
    with pytest.raises(UserError, match="KEY=VALUE"):
        prepared(arguments)


def test_home_is_expanded_in_every_path_key_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for key in path_keys(Config):
        assert readable(f"{key}=~/a") == f"{key}=/home/somebody/a" and readable(f"+{key}=~") == f"+{key}=/home/somebody"
        assert readable(f"{key}=~/a,b,~/c") == f"{key}=/home/somebody/a,b,/home/somebody/c"
        assert readable(f"{key}=a~/b") == f"{key}=a~/b"
    assert readable("name=~/a") == "name=~/a"
    config = as_typed('dataset.root="~/a"', 'runs_dir="~/b"', 'dataset.cache_dir="~"', 'backbone.weights="~/w.pth"')
    assert (config.dataset.root, config.runs_dir) == ("/home/somebody/a", "/home/somebody/b")
    assert (config.dataset.cache_dir, config.backbone.weights) == ("/home/somebody", "/home/somebody/w.pth")


def test_every_key_that_is_documented_as_a_file_or_folder_is_a_path():
    named = {"run", "checkpoint", "init", "predictions", "input", "image", "output", "genotype", "runs_dir",
             "dataset.root", "dataset.cache_dir", "dataset.codebook", "backbone.weights", "branching.file",
             "prepare.source", "evaluation.boundary_ids"}  # fmt: skip
    assert path_keys(Config) == named


def test_what_a_resumed_run_may_change_is_where_and_how_it_runs():
    """Everything that changes a number of a result is bound to the run: its length and its batch among it."""
    allowed = {"dataset.root", "engine.workers", "engine.device", "logger", "engine.progress", "engine.compile",
               "engine.checkpoint_every", "engine.log_every", "engine.accumulate"}  # fmt: skip
    free, groups = free_keys(Config), {"allow", "benchmark", "export", "logger", "predict", "prepare"}
    assert allowed <= free
    bound = {"seed", "tasks", "engine.iterations", "engine.batch_size", "engine.precision", "dataset.crop", "optim.lr",
             "search.arch_lr", "genotype", "loss_weights", "evaluation.absent", "debug.overfit"}  # fmt: skip
    assert not bound & free and not {key.partition(".")[0] for key in bound} & free
    assert {key for key in free if "." not in key} - path_keys(Config) == groups


@pytest.mark.parametrize("sign", ["(", ")", "=", "#", "'", '"', "~/", " x(", "[", "a:b(", "$(", "%{"])
def test_the_advice_for_a_path_is_read_by_shell_and_hydra_as_that_path(sign):
    given = f"dataset.root=/data/a{sign}b"
    text = message(given)
    assert given in text
    (word,) = shlex.split(text[text.index("Hydra: ") + 7 :])
    assert OverridesParser.create().parse_override(word).value() == f"/data/a{sign}b"


def test_quoting_gives_any_text_back():
    signs, draw = string.printable[:95], np.random.default_rng(0)
    for _ in range(200):
        text = "".join(draw.choice(list(signs + "\\\"'()"), size=12)).strip() + "x"
        if "${" in text:
            continue
        (word,) = shlex.split(quoted(f"a.b={text}"))
        assert OverridesParser.create().parse_override(word).value() == text


def test_several_values_without_m_come_with_the_three_ways_out():
    text = message("seed=0,1")
    assert "-m" in text and "'seed=[0,1]'" in text and "'seed=\"0,1\"'" in text
    text = message("dataset.root=/data/a,b")
    assert shlex.split(text[text.index("twice: ") + 7 :]) == ['dataset.root="/data/a,b"']


@pytest.mark.parametrize(("given", "part"), [("seed", "KEY=VALUE"), ("tasks=[a", "tasks=[A,B]")])
def test_what_is_no_override_is_said(given, part):
    assert part in message(given)


VALUES = {
    "pixel": "pixel=[1,2]",
    "branching": "branching.layers=stage",
    "search": "search.arch_lr=1",
    "optim": "optim=adamw_poly",
    "engine.save_predictions": "engine.save_predictions=true",
    "evaluation": "evaluation.absent=skip",
    "prepare": "prepare.values=true",
    "benchmark": "benchmark.steps=2",
    "predict": "predict.overlap=0",
    "export": "export.size=null",
    "importance": "importance.seed=1",
    "backbone": "backbone=hrnet18",
    "neck": "neck=skip",
    "distillation": "distillation.dropout=0",
    "loss_weights": "+loss_weights.depth=1",
    "task_losses": "+task_losses.depth=l2",
    "task_forms": "+task_forms.depth=regression",
    "genotype_blocks": "genotype_blocks={}",
    "genotype": "genotype=null",
}
SEEN_WITHOUT_A_RUN = ("search", "retrain", "branch", "profile", "generate", "prepare", "report", "benchmark")
NETWORKS = {"retrain": ["distillation=global"], "branch": ["distillation=none"]}


@pytest.mark.parametrize("stage", SEEN_WITHOUT_A_RUN)
def test_keys_of_other_stages_are_refused_by_name_and_its_own_are_not(stage):
    config = as_typed(f"stage={stage}", "dataset.packed=true", *NETWORKS.get(stage, []))
    for key in USED_BY:
        override = VALUES.get(key, f"{key}=x")
        if is_used(key, stage):
            require_used(config, [override, "seed=1"])
        else:
            with pytest.raises(UserError) as caught:
                require_used(config, ["seed=1", override])
            text = str(caught.value)
            assert override.lstrip("+") in text and f"stage={stage} does not use it" in text


def test_the_command_line_and_files_are_looked_at():
    assert "predict.overlap=0.5" in message("predict.overlap=0.5")  # the default's value has no effect either
    assert "image=x" in message("stage=evaluate", "run=y", "image=x")
    values = replace(as_typed(), input="a.png")
    with pytest.raises(UserError, match=r"input=a\.png"):
        require_used(values, [])


def test_keys_of_another_balance_are_refused():
    assert "balance=torchjd" in message("balance.aggregator=upgrad")  # the default's value, too
    assert "balance=uncertainty" in message("balance=dwa", "balance.lr=0.1")
    own = {"uncertainty": ["lr"], "dwa": ["interval", "temperature"], "torchjd": ["aggregator", "cagrad_c"]}
    assert {key for keys in own.values() for key in keys} | {"name"} == set(BalanceConfig.__dataclass_fields__)
    for name, keys in own.items():
        as_typed(f"balance={name}", *(f"balance.{key}={getattr(BalanceConfig(), key)}" for key in keys))


def test_a_weights_key_on_a_training_points_to_init():
    assert "init=runs/a/seed0" in message("run=runs/a/seed0")


def test_keys_of_every_stage_are_in_the_schema():
    for key, stages in USED_BY.items():
        node = Config
        for part in key.split("."):
            assert part in node.__dataclass_fields__, key
            node = node.__dataclass_fields__[part].type
        assert set(stages) <= set(STAGES)


@pytest.mark.parametrize(
    "name", ["''", "..", "../a", "/tmp/a", "a//b", "a/", "a/../b", ".hidden", "seed0", "a/seed3", "' '"]
)
def test_names_that_are_no_folder_below_the_runs_are_refused(name):
    assert "name=" in message(f"name={name}") and "a/b" in message(f"name={name}")


@pytest.mark.parametrize("name", ["a", "a/b", "a_${optim.lr}", "a.b", "seeds", "seedless/x"])
def test_other_names_are_taken(name):
    assert as_typed(f"name={name}").name == name.replace("${optim.lr}", "0.01")


def test_the_version_is_the_packages(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "atrc_exp", "seed=1", "--version"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120, env=os.environ)  # fmt: skip
    assert done.returncode == 0 and done.stdout.split() == ["atrc_exp", __version__]
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert "atrc_exp.__version__" in pyproject and f'"{__version__}"' not in pyproject
