"""`stage=export`: the trained network of a run as `torch.export` program and ONNX, each compared with the network."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.errors import UserError, missing_extra
from atrc_exp.files import write_json
from atrc_exp.models import export
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.configurations import run_folder
from atrc_exp.runs.files import SUMMARY
from atrc_exp.stages.common import load_run

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 3)  # the programs are made with two images


def run(config: Config) -> None:
    """Write `network.pt2`, `network.onnx` and `export.json`, with the differences found, to `output` or the run folder.

    The network is that of the run's last checkpoint, in float32 whatever it was trained in.

    Raises:
        UserError: missing packages, a run that is a search, unfinished or needs labels, or a file that disagrees.
    """
    _check(config)
    engine = replace(config.engine, device="cpu", precision="fp32", channels_last=False, compile=False)
    tasks = build_tasks_of(config)
    trained = load_run(replace(config, engine=engine), Ranks.start("cpu"), tasks)
    network = export.Predictions(trained.predict).eval()
    height, width = config.export.size or config.dataset.crop
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(number, 3, height, width, generator=generator) for number in BATCHES]
    with torch.no_grad():
        expected = [(image, network(image)) for image in images]
    print(f"{trained.folder}, iteration {trained.iteration}: images (batch, 3, {height}, {width})")
    program = export.trace(network, (height, width))
    folder = Path(config.output).expanduser() if config.output else trained.folder
    names = tuple(task.name for task in tasks)
    normalisation, class_names = trained.normalisation.as_dict(), trained.dataset["class_names"]
    metadata = {**normalisation, "tasks": names, "class_names": {t: class_names[t] for t in names if t in class_names}}
    writers = {
        "network.pt2": (partial(export.save_program, program), export.read_program),
        "network.onnx": (partial(export.save_onnx, program, tasks=names, metadata=metadata), export.read_onnx),
    }
    differences = {}
    for name, (save, read) in writers.items():
        differences[name] = export.save_checked(folder / name, save, read, expected)
        found = ", ".join(f"{task} {value:.1e}" for task, value in differences[name].items())
        print(f"{folder / name}: largest difference from the network, of its largest value: {found}")
    write_json(folder / "export.json", {
        "version": 1,
        "run": str(trained.folder),
        "iteration": trained.iteration,
        "input": {"name": "image", "shape": ["batch", 3, height, width], **normalisation},
        "outputs": {task.name: {"channels": task.channels, "loss": task.loss} for task in tasks},
        "differences": differences,
    })  # fmt: skip


def _check(config: Config) -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise missing_extra("stage=export", missing, "export")
    folder = run_folder(config)
    if config.distillation.name == "search":
        raise UserError(
            f"run={config.run}: is a search, whose network holds all candidates; vote and retrain first: "
            f"+experiment=..._atrc genotype={folder.parent}"
        )
    if not (folder / SUMMARY).is_file():
        raise UserError(f"run={config.run}: is not finished (no summary.json); start its command again to finish it")
    if config.distillation.regions == "labels":
        raise UserError(f"run={config.run}: predicts for labelled images only (distillation.regions=labels)")
