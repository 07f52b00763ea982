"""A table's runs from one command: hours beforehand, what is run, failures, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from atrc_exp.files import write_json
from atrc_exp.report.campaign import hours
from atrc_exp.report.campaign import run as campaign
from atrc_exp.report.campaign.hours import estimate
from atrc_exp.report.campaign.plan import Overrides, steps, table_rows
from atrc_exp.report.campaign.run import main

QUICK = ("backbone=timm", "backbone.name=mobilenetv3_small_050", "backbone.weights=random")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def planned(*presets, overrides):
    rows = [row for row in table_rows("1") if row.preset in presets]
    return steps("1", "rooms", rows, overrides)[0]


class Measured:
    """Stands in for the process that measures: leaves the benchmark.json of its overrides."""

    def __init__(self, fails=False):
        self.fails, self.commands = fails, []

    def __call__(self, command, **_):
        self.commands.append(command[3:])
        if self.fails:
            return SimpleNamespace(returncode=2, stderr="error: does not fit into memory\n")
        (name,) = (argument.partition("=")[2] for argument in command if argument.startswith("+experiment="))
        rows = [{"projected_hours": 1.5}]
        write_json(Path("runs") / name / "benchmark.json",
                   {"overrides": command[3:], "device": "abacus", "configurations": rows})  # fmt: skip
        return SimpleNamespace(returncode=0)


@pytest.fixture
def measured(monkeypatch):
    process = Measured()
    monkeypatch.setattr(hours.subprocess, "run", process)
    return process


def test_a_preset_is_measured_once_for_the_same_overrides(measured):
    overrides = Overrides.parse(["engine.iterations=7", "seed=0,1", "benchmark.steps=2", "hydra/launcher=joblib"])
    (step,) = planned("pap", overrides=overrides)
    found = estimate(step)
    assert (found.hours, found.device, found.note) == (1.5, "abacus", "")
    (command,) = measured.commands
    assert command[:3] == ["stage=benchmark", "+experiment=rooms_hrnet18_pap", "engine.iterations=7"]
    assert "seed=0" in command and "benchmark.data=random" in command and command[-1] == "benchmark.steps=2"
    again = Overrides.parse(["engine.iterations=7", "seed=1,2", "hydra/launcher=joblib"])
    assert estimate(*planned("pap", overrides=again)) == found
    assert len(measured.commands) == 1
    others = Overrides.parse(["engine.iterations=8"])
    estimate(*planned("pap", overrides=others))
    assert len(measured.commands) == 2


def test_without_a_vote_another_network_is_measured_and_said_so(measured):
    overrides = Overrides.parse(["seed=0"])
    _, atrc = planned("atrc", overrides=overrides)
    assert estimate(atrc).note == "as T-label, there is no vote yet"
    assert "distillation=tlabel" in measured.commands[0] and not any("genotype" in o for o in measured.commands[0])
    Path("runs/rooms_hrnet18_search").mkdir(parents=True)  # what the measurement of the search leaves
    assert estimate(atrc).note == "as T-label, there is no vote yet" and len(measured.commands) == 1
    write_json(Path("runs/rooms_hrnet18_search/genotype.json"), {})
    assert estimate(atrc).note == ""
    assert "genotype=runs/rooms_hrnet18_search" in measured.commands[1]


def test_what_cannot_be_measured_has_no_hours_and_a_reason(monkeypatch):
    monkeypatch.setattr(hours.subprocess, "run", Measured(fails=True))
    overrides = Overrides.parse(["seed=0"])
    found = estimate(*planned("pap", overrides=overrides))
    assert found.hours is None and found.note == "not measured: does not fit into memory"


def test_dry_run_says_how_many_runs_and_hours_and_runs_nothing(measured, capsys, monkeypatch):
    monkeypatch.setattr(campaign.subprocess, "Popen", None)
    write_json(Path("runs/rooms_hrnet18_pap/seed0/summary.json"), {})
    main(["1", "--dataset", "rooms", "--rows", "pap,psd", "--dry-run", "seed=0,1,2"])
    printed = capsys.readouterr().out
    assert re.search(r"5 of 6 .*\b7\.50 hours.* abacus", printed)
    (line,) = (line for line in printed.splitlines() if line.startswith("│ rooms_hrnet18_pap"))
    assert [cell.strip() for cell in line.split("│")][1:6] == ["rooms_hrnet18_pap", "3", "2", "1.50", "3.00"]


def test_failures_do_not_stop_the_others_interruptions_do(monkeypatch, capsys):
    overrides = Overrides.parse(["seed=0"])
    three = planned("pap", "psd", "nddr", overrides=overrides)
    ran = []

    def wait(codes):
        def run(command):
            ran.append(command[4])
            return codes[len(ran) - 1]

        return run

    monkeypatch.setattr(campaign, "_wait", wait([(3, 0), (0, 0), (0, 0)]))
    assert campaign.run(three) == 1
    assert len(ran) == 3 and "not complete: rooms_hrnet18_pap;" in capsys.readouterr().err
    ran.clear()
    monkeypatch.setattr(campaign, "_wait", wait([(143, 15)]))
    assert campaign.run(three) == 143 and len(ran) == 1
    ran.clear()
    monkeypatch.setattr(campaign, "_wait", wait([(0, 2)]))  # it was done when the signal came
    assert campaign.run(three) == 130 and len(ran) == 1


def test_a_finished_table_runs_nothing(monkeypatch):
    overrides = Overrides.parse(["seed=0"])
    (step,) = planned("pap", overrides=overrides)
    for folder in step.runs():
        write_json(folder / "summary.json", {})
    monkeypatch.setattr(campaign, "_wait", None)
    assert campaign.run([step]) == 0


def test_sigterm_is_handed_on_and_waited_for(tmp_path):
    """The command has the time to write its checkpoint."""
    script = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("started").touch()
time.sleep(60)
"""

    def terminate():
        while not Path("started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    assert campaign._wait([sys.executable, "-c", script]) == (143, signal.SIGTERM)
    assert Path("saved").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["1", "--rows", "papp"], "Table 1 has single_task, multi_task"), (["1", "tasks=[depth]"], "set by the table"),
     (["1", "engine.iteratons=3"], "Did you mean 'iterations'"), (["1", "--dataset", "room"], "no dataset is called")],
)  # fmt: skip
def test_mistakes_are_one_message(arguments, part):
    with pytest.raises(SystemExit, match=part):
        main(arguments)


@pytest.mark.slow
def test_command_line_runs_what_is_missing_and_ends_with_the_table(tmp_path, rooms):
    settings = (f"dataset.root={rooms}", "dataset.rooms.train=4", "dataset.rooms.val=2", "engine.iterations=1",
                "dataset.rooms.image_size=[32,48]", f"dataset.cache_dir={tmp_path / 'cache'}", "engine.batch_size=2",
                "engine.workers=0", "logger=none", "seed=0,1", "benchmark.steps=1", *QUICK,
                "backbone=timm", "backbone.name=mobilenetv3_small_050", "backbone.weights=random")  # fmt: skip
    command = [sys.executable, "-m", "atrc_exp.report.campaign", "1", "--dataset", "rooms", "--rows", "atrc"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs missing" in done.stdout and "Rows of Table 1 on rooms" in done.stdout
    row = json.loads((tmp_path / "runs/paper/table_1_rooms.json").read_text())["rows"][-1]
    assert row["n"] == "2" and row["title"] == "ATRC"
    again = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=1200, check=False)
    assert again.returncode == 0 and "0 of 4 runs missing" in again.stdout and "+ python" not in again.stdout


@pytest.mark.slow
def test_the_study_is_the_rows_of_several_tables_each_once(capsys, monkeypatch):
    """Four single tasks, nine networks, the search and two trainings of their vote with five seeds; four with three."""
    monkeypatch.setattr(campaign.subprocess, "Popen", None)
    monkeypatch.setattr(campaign, "estimate", lambda step: hours.Estimate(1.5, "abacus"))
    main(["study", "--dataset", "rooms", "--backbone", "lite", "--dry-run"])
    runs = 5 * (4 + 9 + 1 + 2) + 3 * (2 + 2)
    assert re.search(f"{runs} of {runs} .*{1.5 * runs:.2f} hours", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="--rows pap"):
        main(["study", "--rows", "pap"])
