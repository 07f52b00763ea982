"""How long a training step takes and how much memory it needs, for several configurations side by side.

Configurations take turns, step by step, so that what else the machine does falls on all of them; ratios are taken
within a turn. Peak memory is measured in a process of its own for each.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice, repeat
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from atrc_exp.config import Config
from atrc_exp.data.batch import Batch
from atrc_exp.errors import UserError
from atrc_exp.losses import build_losses
from atrc_exp.models.network import Network
from atrc_exp.models.predictor import Predictor
from atrc_exp.models.search.strategies.build import build_strategy
from atrc_exp.processes.memory import peak_mib
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs.checkpoint import seed_all
from atrc_exp.tasks import CODEWORDS, Task
from atrc_exp.training.record import LossRecord
from atrc_exp.training.setup import images_per_micro_batch, parameter_count, place_network, use_determinism
from atrc_exp.training.state import build_state
from atrc_exp.training.step import Objective, train_step

PHASES = ("data", "forward", "backward", "optimiser")
_MEMORY_STEPS = 2  # the first creates the optimisers' states


@dataclass(frozen=True)
class Subject:
    """What is measured under one name. Plain data and functions of modules, since it travels to another process."""

    label: str
    config: Config
    build: Callable[[Config], tuple[Network, tuple[Task, ...]]]
    """Network and tasks of a configuration."""
    batches: Callable[[Config, tuple[Task, ...], torch.device, int], Iterable[Batch]]
    """Micro-batches of so many steps, `engine.accumulate` for each."""


@dataclass(frozen=True)
class Measurement:
    """Times of one subject, a list entry for each measured step."""

    label: str
    config: Config
    parameters: int
    seconds: list[dict[str, float]]
    """By phase; "step" is all of it by the wall clock."""
    peak_mib: float
    """Peak of a process that does nothing else: resident memory on the CPU, allocated memory on a CUDA device."""

    def row(self, base: "Measurement") -> dict[str, Any]:
        """Medians, and what follows from them for the configured number of iterations."""
        medians = {phase: median(step[phase] for step in self.seconds) for phase in (*PHASES, "step")}
        engine = self.config.engine
        ratios = [own["step"] / other["step"] for own, other in zip(self.seconds, base.seconds, strict=True)]
        return {
            "label": self.label,
            "network": f"{self.config.backbone.name}, {self.config.distillation.name}",
            "tasks": self.config.task_names,
            "crop": list(self.config.dataset.crop),
            "batch_size": engine.batch_size,
            "precision": engine.precision,
            "parameters": self.parameters,
            "seconds": medians,
            "images_per_second": engine.batch_size / medians["step"],
            "peak_memory_mib": self.peak_mib,
            "iterations": engine.iterations,
            "projected_hours": engine.iterations * medians["step"] / 3600,
            "step_ratio": median(ratios),
            "memory_ratio": self.peak_mib / base.peak_mib,
        }


def measure(subjects: list[Subject], *, steps: int, warmup: int) -> list[Measurement]:
    """Measure the memory of each subject, then `steps` turns after `warmup` unmeasured ones.

    Raises:
        UserError: a subject that does not fit, or what building it raises.
    """
    peaks = [_peak_in_own_process(subject) for subject in subjects]
    runners = [Runner(subject, steps + warmup) for subject in subjects]
    seconds: list[list[dict[str, float]]] = [[] for _ in subjects]
    for _ in range(steps + warmup):
        for runner, measured in zip(runners, seconds, strict=True):
            measured.append(runner.step())
    return [
        Measurement(subject.label, subject.config, parameter_count(runner.network), measured[warmup:], peak)
        for subject, runner, measured, peak in zip(subjects, runners, seconds, peaks, strict=True)
    ]


class Runner:
    """Trains one subject step by step, and times the phases of each."""

    def __init__(self, subject: Subject, steps: int) -> None:
        config, self.ranks = subject.config, Ranks.start(subject.config.engine.device)
        if self.ranks.world > 1:
            raise UserError("stage=benchmark measures one process; start it without torchrun")
        images_per_micro_batch(config, self.ranks)
        use_determinism(config.engine.deterministic)
        seed_all(config.seed)
        network, tasks = subject.build(config)
        self.config, self.network = config, place_network(network, config, self.ranks)
        codebook = F.normalize(torch.randn(CODEWORDS, 3), dim=1)  # its values take no part in the time
        self.losses = build_losses(tasks, tuple(network.aux_heads), codebook, network.initial_scales).to(
            self.ranks.device
        )
        predict = Predictor(self.network, config, codebook).to(self.ranks.device)
        self.objective = Objective(predict, self.losses).train()
        record, strategy = LossRecord([], self.ranks.device), build_strategy(config, self.network)
        self.state = build_state(config, self.network, strategy, record, "", codebook)
        self.bilevel = strategy is not None and config.search.bilevel
        self.batches = iter(subject.batches(config, tasks, self.ranks.device, steps * (1 + self.bilevel)))
        self.clock = Clock(self.ranks.device)
        self.objective.register_forward_pre_hook(lambda *_: self.clock.begin("forward"))
        self.objective.register_forward_hook(lambda *_: self.clock.begin("backward"))
        self.state.optimizer.register_step_pre_hook(lambda *_: self.clock.begin("optimiser"))

    def step(self) -> dict[str, float]:
        """Seconds by phase of one training step; the clipping of gradients counts as backward."""
        self.clock.begin("data")
        micro_batches = self._micro_batches()
        held_out = self._micro_batches() if self.bilevel else []
        train_step(self.config, self.state, self.objective, self.losses, micro_batches, self.ranks, held_out)
        return self.clock.stop()

    def _micro_batches(self) -> list[Batch]:
        return list(islice(self.batches, self.config.engine.accumulate))


class Clock:
    """Time by phase: events of the CUDA stream where there is one, so that no phase waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[tuple[str, float, Any]] = []

    def begin(self, phase: str) -> None:
        """End the running phase and start another; a phase may come several times in a step."""
        event = None
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self.marks.append((phase, time.perf_counter(), event))

    def stop(self) -> dict[str, float]:
        """Wait for the device; seconds by phase, and "step" from the first mark to now."""
        self.begin("end")
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = dict.fromkeys(PHASES, 0.0)
        for (phase, began, event), (_, ended, next_event) in zip(self.marks, self.marks[1:], strict=False):
            seconds[phase] += ended - began if event is None else event.elapsed_time(next_event) / 1000
        seconds["step"] = time.perf_counter() - self.marks[0][1]
        self.marks.clear()
        return seconds


def _peak_in_own_process(subject: Subject) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_peak, subject).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):
            raise UserError(
                f"{subject.label}: a training step does not fit into memory "
                f"(engine.batch_size={subject.config.engine.batch_size}); lower engine.batch_size, raise "
                "engine.accumulate, set engine.precision=bf16 or engine.activation_checkpointing=true"
            ) from None


def _peak(subject: Subject) -> float:
    runner = Runner(subject, _MEMORY_STEPS)
    for _ in range(_MEMORY_STEPS):
        runner.step()
    return peak_mib(runner.ranks.device)


def random_batches(config: Config, tasks: Iterable[Task], device: torch.device, steps: int) -> Iterator[Batch]:
    """The same random micro-batch again and again, in the format of the dataset and on the device."""
    images = config.engine.batch_size // config.engine.accumulate
    height, width = config.dataset.crop
    batch = Batch(
        torch.randn(images, 3, height, width, device=device),
        {task.name: task.kind.random(task, images, height, width).to(device) for task in tasks},
        [str(index) for index in range(images)],
        torch.tensor([[height, width]] * images),
    )
    return repeat(batch, steps * config.engine.accumulate)
