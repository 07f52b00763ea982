"""The stable imports work without the libraries that only some commands need."""

import subprocess
import sys

import pytest

OPTIONAL = ("hydra", "albumentations", "wandb", "cv2", "trimesh")

STABLE = (
    "from atrc_exp.genotype import load, save, vote, agreement, light_kappa",
    "from atrc_exp.losses import build_losses",
    "from atrc_exp.metrics import build_metrics",
    "from atrc_exp.metrics.delta import delta_m",
    "from atrc_exp.metrics.boundary import evaluate",
    "from atrc_exp.models import ATRC, SearchATRC, build_network",
    "from atrc_exp.models.contexts import GlobalContext, LabelContext, LocalContext",
    "from atrc_exp.ops import local_attention",
)

BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_stable_imports_need_no_optional_library():
    result = run(BLOCKER + "\n".join(STABLE))
    assert result.returncode == 0, result.stderr


def test_the_blocker_blocks():
    for name in OPTIONAL:
        assert f"{name} is blocked" in run(f"{BLOCKER}\nimport {name}").stderr


def test_light_imports_stay_light():
    """The package, metrics, genotypes and the table of distillation modules cost neither PyTorch nor torchmetrics."""
    code = "import atrc_exp, atrc_exp.config.help, atrc_exp.models.distillation, atrc_exp.metrics\n"
    code += "import atrc_exp.metrics.delta, atrc_exp.genotype, sys\n"
    result = run(code + "print(*{'torch', 'torchmetrics', 'hydra', 'wandb'} & set(sys.modules))")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
