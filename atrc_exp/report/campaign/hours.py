"""How long the runs of a table take on this machine: seconds of a training step, from `stage=benchmark`.

Each preset is measured for a few steps on random data, unless its `benchmark.json` comes from the same overrides.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from atrc_exp import genotype
from atrc_exp.bmtas import tree as branchings
from atrc_exp.errors import UserError
from atrc_exp.files import read_json
from atrc_exp.genotype import PUBLISHED
from atrc_exp.report.campaign.plan import Step

FILE = "benchmark.json"
MEASUREMENT = ("benchmark.data=random", "benchmark.steps=3", "benchmark.warmup=1")
_APART = ("stage", "seed", "runs_dir", "logger", "benchmark", "hydra")
"""Keys that do not change the time of a step."""


@dataclass(frozen=True)
class Estimate:
    """Hours of one run; None where they could not be measured."""

    hours: float | None
    device: str
    note: str = ""
    """What was measured in place of it, or why nothing was."""


def estimate(step: Step) -> Estimate:
    """Read or measure the hours of one run of a step. A failed measurement is printed and leaves None."""
    config = step.configs[0]
    if config.stage.name == "branch":
        return Estimate(None, "", "not measured: a branch search has steps of its own")
    arguments, note = _stand_in(step)
    arguments = [f"+experiment={step.preset}", *arguments, *step.overrides.composable]
    path = Path(config.runs_dir) / config.name / FILE
    if not _is_measured(path, arguments):
        command = ["stage=benchmark", *arguments, f"seed={step.seeds[0]}", *MEASUREMENT, *step.overrides.benchmark]
        print(f"measuring a step of {step.preset}", flush=True)
        done = subprocess.run([sys.executable, "-m", "atrc_exp", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return Estimate(None, "", f"not measured: {reason[-1].removeprefix('error: ')}")
    written = read_json(path)
    return Estimate(written["configurations"][0]["projected_hours"], written["device"], note)


def _stand_in(step: Step) -> tuple[list[str], str]:
    """Return the overrides of what is measured. Where searches have yet to run, another network stands in."""
    config = step.configs[0]
    own, notes = list(step.variants[:1]), []
    if (
        config.genotype
        and not config.genotype.startswith(PUBLISHED)
        and not _exists(config.genotype, genotype.FILE_NAME)
    ):
        own, notes = ["distillation=tlabel"], ["as T-label, there is no vote yet"]
    if config.branching.file and not _exists(config.branching.file, branchings.FILE_NAME):
        own, notes = [*own, "branching.file=null"], [*notes, "not branched, there is no branching yet"]
    return own, "; ".join(notes)


def _exists(source: str, name: str) -> bool:
    """Whether there is such a file, or one in the folder; the folder alone may hold nothing but measurements."""
    return Path(source).is_file() or (Path(source) / name).is_file()


def _is_measured(path: Path, arguments: list[str]) -> bool:
    """Whether the file tells of a measurement with these overrides; one that cannot be read is measured anew."""
    try:
        return path.is_file() and _of_step(read_json(path).get("overrides", ())) == _of_step(arguments)
    except (UserError, AttributeError):
        return False


def _of_step(overrides: list[str]) -> set[str]:
    return {o for o in overrides if o.lstrip("+~").partition("=")[0].partition(".")[0].partition("/")[0] not in _APART}
