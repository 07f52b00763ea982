"""Training steps before and after.

Before: blocks by themselves, local attention as a loop over shifts, losses of class maps at the labels' size.
After: what blocks share computed once, compiled attention, losses that resize image by image, channels-last memory.

python tests/models/benchmark_blocks.py docs/benchmark_cpu.json
"""

import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import torch

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in (".", "ops")]

import plain_losses
import shift_loop
import small_rooms

from atrc_exp.config import BackboneConfig, Config, DistillationConfig, EngineConfig, StageConfig
from atrc_exp.config.derived import build_tasks_of, genotype_of
from atrc_exp.files import write_json
from atrc_exp.losses import resized
from atrc_exp.models import build_network
from atrc_exp.models.distillation.atrc import ContextBlocks
from atrc_exp.models.network import Network
from atrc_exp.ops import local_attention_cpu
from atrc_exp.runs.environment import describe_environment
from atrc_exp.tasks import Task
from atrc_exp.training.benchmark import Subject, measure, random_batches, table

PRESENT = local_attention_cpu.forward, local_attention_cpu.backward, resized.cross_entropy
PLAIN = shift_loop.forward, shift_loop.backward, plain_losses.cross_entropy


def _build(
    config: Config, share_work: bool, functions: tuple[Callable, Callable, Callable]
) -> tuple[Network, tuple[Task, ...]]:
    tasks = build_tasks_of(config)
    network = build_network(config, tasks, genotype_of(config))
    for module in network.modules():
        if isinstance(module, ContextBlocks):
            module.share_work = share_work

    def use(operators: ModuleType = local_attention_cpu, losses: ModuleType = resized) -> None:
        operators.forward, operators.backward, losses.cross_entropy = functions

    network.register_forward_pre_hook(lambda *_: use())  # holds until the next step, its backward pass included
    return network, tasks


def before(config: Config) -> tuple[Network, tuple[Task, ...]]:
    return _build(config, False, PLAIN)


def after(config: Config) -> tuple[Network, tuple[Task, ...]]:
    return _build(config, True, PRESENT)


def settings(name: str, crop: tuple[int, int], batch_size: int) -> Config:
    return Config(
        name=name,
        dataset=small_rooms.dataset(crop=list(crop)),
        backbone=BackboneConfig(name="hrnet_w18_small_v2", weights="random"),
        distillation=DistillationConfig(name=name),
        genotype="published/nyud_hrnet18" if name == "atrc" else None,
        engine=EngineConfig(batch_size=batch_size, device="cpu"),
        stage=StageConfig(name="benchmark"),
    )


def main() -> None:
    """Measure, print and write."""
    rows = []
    for crop, batch_size in (((64, 96), 2), ((64, 96), 4), ((160, 224), 2)):
        for name in ("search", "atrc"):
            config = settings(name, crop, batch_size)
            contiguous = replace(config, engine=replace(config.engine, channels_last=False))
            subjects = [
                Subject(f"{name}, {form}", setting, build, random_batches)
                for form, setting, build in (
                    ("after", config, after),
                    ("after, contiguous", contiguous, after),
                    ("before, channels last", config, before),
                    ("before", contiguous, before),
                )
            ]
            measured = measure(subjects, steps=7, warmup=1)
            of_this = [each.row(measured[0]) for each in measured]  # ratios to "after": how many times as long
            print(crop, batch_size, table(of_this), sep="\n", flush=True)
            rows += of_this
            write_json(Path(sys.argv[1]), {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                **describe_environment(torch.device("cpu")),
                "threads": torch.get_num_threads(), "note": "a shared machine, other jobs may run beside; forms "
                "took turns step by step, and ratios are medians over turns", "machine": platform.machine(),
                "configurations": rows,
            })  # fmt: skip


if __name__ == "__main__":
    main()
