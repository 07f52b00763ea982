"""The command line answers at once: what can be said without PyTorch is said before it is imported."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "timm", "cv2", "albumentations", "wandb", "matplotlib", "numba", "torchmetrics", "sklearn")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--cfg", "job"], 0, "name: ${dataset.name}_hrnet18_search"),
        (["optim.lrr=1"], 2, "unknown key 'optim.lrr'"),
        (["engine.batch_size=0"], 2, "engine.batch_size=0: must be >= 1"),
        (["dataset=nyud", "dataset.root=/nowhere"], 2, "dataset.root=/nowhere: does not exist"),
        (["distillation=atrc", "stage=retrain", "genotype=/nowhere"], 2, "genotype file /nowhere does not exist"),
        (["stage=evaluate", "run=/nowhere"], 2, "run=/nowhere: does not exist"),
        (["-m", "seed=0,1", "optim.lrr=1"], 2, "unknown key 'optim.lrr'"),
        (["-m", "seed=0,1", "runs_dir=/dev/null/runs"], 2, "error: cannot use /dev/null/runs"),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.jobs=2", "seed=0,1"], 2, "Did you mean 'n_jobs'?"),
        (["-m", "--cfg", "job", "seed=0,1"], 2, "error: Only one of --run, --multirun, --cfg"),
    ],
)
def test_answers_need_no_heavy_import(tmp_path, arguments, code, text):
    program = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print('heavy:', *sorted(set(sys.modules) & set({HEAVY!r}))))\n"
        "runpy.run_module('atrc_exp', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"
