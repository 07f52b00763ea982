"""Jobs of a multirun before they start: their number, and that no two of them write in one place."""

import shlex
import subprocess
import sys

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from atrc_exp.report.campaign.jobs import job_overrides


@pytest.mark.parametrize(
    ("overrides", "parameters", "jobs"),
    [
        (["seed=0,1,2,3,4"], None, 5),
        (["+experiment=x", "seed=range(3)", "tasks=[semseg],[depth]", "lr=0.1"], None, 6),
        (["tasks=[semseg,depth]", "name='a,b'"], None, 1),
        (["name=x_${missing}", "seed=0,1"], None, 2),
        (["seed=4"], {"seed": "0,1,2"}, 1),
        (["lr=choice(1,2)"], {"seed": "0,1,2"}, 6),
        (["db=glob(*)"], None, 2),
    ],
)
def test_number_of_jobs_of_a_command(tmp_path, overrides, parameters, jobs):
    for name in ("a", "b"):
        (tmp_path / "db").mkdir(exist_ok=True)
        (tmp_path / "db" / f"{name}.yaml").write_text("x: 1\n")
    config = OmegaConf.create({"hydra": {"sweeper": {"params": parameters}, "overrides": {"task": overrides}}})
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert len(job_overrides(config)) == jobs


def start(folder, *arguments, **environment):
    """The real command line, as it is without data and PyTorch: whatever is refused is refused before these."""
    import os

    return subprocess.run([sys.executable, "-m", "atrc_exp", "-m", *arguments], cwd=folder, capture_output=True,
                          text=True, timeout=120, env=os.environ | environment)  # fmt: skip


NOWHERE = ("dataset=nyud", "dataset.root=nowhere")  # every job fails at once, so that a sweep that starts is seen


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("optim.lr=0.01,0.02",), ["optim.lr"]),
        (("optim.lr=0.01,0.02", "seed=0,1", "hydra/launcher=joblib"), ["optim.lr"]),
        (("+experiment=rooms_hrnet18_multi_task", "distillation=none,global"), ["distillation"]),
        (("+experiment=rooms_hrnet18_multi_task", "+sweep=learning_rate", "optim.momentum=0.8,0.9",
          "optim.lr=0.01"), ["optim.momentum"]),
        (("optim.lr=0.01,0.02", "optim.power=0.8,0.9", "seed=0,1"), ["optim.lr", "optim.power"]),
        (("stage=profile", "genotype=a,b", "+experiment=rooms_hrnet18_atrc"), ["genotype"]),
        (("stage=evaluate", "run=somewhere", "evaluation.absent=zero,skip"), ["evaluation.absent"]),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_jobs_that_share_a_place_are_refused_before_any_starts_and_the_advice_works(tmp_path, arguments, keys):
    done = start(tmp_path, *NOWHERE, *arguments)
    assert done.returncode == 2 and all(key in done.stderr for key in keys), done.stderr
    assert "job 0" not in done.stderr and list(tmp_path.iterdir()) == []
    (advice,) = shlex.split(done.stderr[done.stderr.index(": add ") :])[2:3]
    followed = start(tmp_path, *NOWHERE, *arguments, advice)
    assert followed.returncode == 3 and "job 1" in followed.stderr, followed.stderr


@pytest.mark.slow
def test_jobs_with_names_of_their_own_start(tmp_path):
    single = ("+experiment=nyud_hrnet18_single_task", "tasks=[depth],[edge]", "seed=0,1", "dataset.root=nowhere")
    done = start(tmp_path, *single)
    assert done.returncode == 3 and "job 3 (runs/nyud_hrnet18_single_task_edge/seed1)" in done.stderr


def test_a_job_asked_for_twice_is_refused(tmp_path):
    done = start(tmp_path, *NOWHERE, "seed=0,1,0")
    assert done.returncode == 2 and "twice" in done.stderr and "seed=0,1,0" in done.stderr


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_multirun_inside_torchrun_is_refused_by_one_of_its_processes(tmp_path, rank):
    done = start(tmp_path, *NOWHERE, "seed=0,1", RANK=rank, WORLD_SIZE="2")
    assert done.returncode == 2 and ("joblib" in done.stderr) == (rank == "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_folder_is_called_after_the_sign_for_home(tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    preset = "# @package _global_\nruns_dir: ~/from_a_file\n"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(preset)
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    for given in (("runs_dir=~/given",), ("--config-dir", str(tmp_path / "conf"), "+experiment=mine")):
        assert start(work, *NOWHERE, "seed=0,1", *given, HOME=str(home)).returncode == 3
    assert {"given", "from_a_file"} <= {path.name for path in home.iterdir()} and list(work.iterdir()) == []
