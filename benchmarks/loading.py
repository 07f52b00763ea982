"""Samples a second that one core loads, against a plain loop over the same files.

    python benchmarks/loading.py nyud=/data/NYUDv2 pascal=/data/PASCAL_MT --output data_benchmark.json

Times are CPU times of one thread, so that other load on the machine counts as little as possible. The pipelines take
turns on the same images, batch by batch; a comparison is the median of the ratios of neighbours. The train pipeline
ends with a collated batch in main memory. The plain one is then normalised; `finish` does that for
the others, on the GPU where there is one; it stands in a row of its own, and with it in the pipeline, as it runs on a
CPU. The steps of the training transform stand in rows by themselves, too.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import plain_loading as plain
import torch

from atrc_exp.config import Config
from atrc_exp.config.compose import composed
from atrc_exp.config.derived import build_tasks_of
from atrc_exp.data.augment import EvalTransform, TrainTransform
from atrc_exp.data.batch import join
from atrc_exp.data.finish import finish
from atrc_exp.data.loader import build_datasets, crop_labels, needed_labels
from atrc_exp.data.readers.datasets import open_reader
from atrc_exp.data.readers.reader import IMAGE
from atrc_exp.data.readers.sample import Source
from atrc_exp.errors import UserError
from atrc_exp.files import write_json
from atrc_exp.normalisation import IMAGENET
from atrc_exp.runs.environment import describe_environment

Times = dict[str, dict[str, list[float]]]
"""CPU seconds an image by stage and pipeline, one value a batch and round; the rounds of one batch are neighbours."""

Step = Callable[[Any], Any]
_BATCH = 8
_CPU = torch.device("cpu")


def measure(config: Config, *, images: int, rounds: int) -> dict[str, Any]:
    """Time the plain, the decoding and the packed pipeline on the first training images of a dataset.

    Args:
        images: how many, rounded down to whole batches of 8 (to one smaller batch where there are fewer).
        rounds: how often each batch is loaded by each pipeline; the first round warms the caches and is left out.

    Returns:
        Milliseconds an image, samples a second and ratios to the plain pipeline (above 1 is faster) by stage.
    """
    with tempfile.TemporaryDirectory() as cache:
        dataset = replace(config.dataset, cache_dir=cache)
        decoding = build_datasets(replace(config, dataset=replace(dataset, packed=False)))
        started = time.thread_time()
        packed = build_datasets(replace(config, dataset=replace(dataset, packed=True)))
        packing = time.thread_time() - started
        size = sum(path.stat().st_size for path in Path(cache, "packed").rglob("*.bin"))
        order = np.random.default_rng(0).permutation(len(decoding.train))[:images]  # random access
        batches = [order[start : start + _BATCH] for start in range(0, max(len(order) - _BATCH + 1, 1), _BATCH)]
        bench = _Bench(config, {"decoded": decoding.train, "packed": packed.train})
        for number in range(rounds + 1):
            for batch in batches:
                bench.time(batch.tolist(), number)
    total = sum(decoding.info.counts.values())
    return {
        "reader": config.dataset.reader,
        "packaging": decoding.info.packaging,
        "tasks": config.task_names,
        "crop": list(config.dataset.crop),
        "images": len(batches) * len(batches[0]),
        "packing_ms_per_image": round(1e3 * packing / total, 2),
        "packed_mib_per_image": round(size / total / 2**20, 3),
        "stages": {stage: _summary(pipelines, len(batches)) for stage, pipelines in bench.times.items()},
    }


class _Bench:
    """All pipelines over one dataset, and the times they took."""

    def __init__(self, config: Config, sources: dict[str, Source]) -> None:
        self.sources, self.reader, self.crop = (
            sources,
            open_reader(config.dataset, needed_labels(config)),
            config.dataset.crop,
        )
        self.tasks, self.guide = build_tasks_of(config), crop_labels(config)
        self.train = TrainTransform(self.crop, self.tasks, self.guide)
        self.evaluate = EvalTransform(self.crop, self.tasks)
        self.times: Times = defaultdict(lambda: defaultdict(list))

    def time(self, batch: list[int], number: int) -> None:
        """Load one batch by every pipeline, stage by stage."""
        self._time_plain(batch, number)
        for name, source in self.sources.items():
            self._time_source(name, source, batch, number)
        self._time_steps(batch, number)
        for name in self.times["load"]:
            load, train, evaluation, finishing = (
                self.times[stage][name][-1] if name in self.times[stage] else 0.0
                for stage in ("load", "train transform", "evaluation transform", "finish on a CPU")
            )
            self.times["train pipeline"][name].append(load + train)
            self.times["train pipeline with finish on a CPU"][name].append(load + train + finishing)
            self.times["evaluation pipeline"][name].append(load + evaluation)

    def _time_source(self, name: str, source: Source, batch: list[int], number: int) -> None:
        def timed(stage: str, work: Callable[[], Any]) -> Any:
            return self._timed(stage, name, len(batch), work)

        seeds = [(number, index) for index in batch]
        samples = timed("load", lambda: [source.load(index, self.train.names) for index in batch])
        collated = timed("train transform", lambda: join(list(map(self.train, samples, seeds))))
        timed("evaluation transform", lambda: [self.evaluate(sample) for sample in samples])
        timed("finish on a CPU", lambda: finish(collated, self.tasks, _CPU, IMAGENET))

    def _time_plain(self, batch: list[int], number: int) -> None:
        def timed(stage: str, work: Callable[[], Any]) -> Any:
            return self._timed(stage, "plain", len(batch), work)

        ids, draw = next(iter(self.sources.values())).ids, np.random.default_rng((number, *batch))
        arrays = timed("load", lambda: [plain.read(self.reader, ids[index], self.tasks) for index in batch])
        steps = self._plain_steps(draw)
        timed("train transform", lambda: plain.collate([_in_turn(steps.values(), item) for item in arrays]))
        timed("evaluation transform", lambda: [plain.normalise(item, self.tasks, self.crop) for item in arrays])

    def _time_steps(self, batch: list[int], number: int) -> None:
        """The steps of both training transforms, each on the whole batch."""
        ids, source = next(iter(self.sources.values())).ids, self.sources["packed"]
        arrays = [plain.read(self.reader, ids[index], self.tasks) for index in batch]
        for name, step in self._plain_steps(np.random.default_rng((number, *batch))).items():
            arrays = self._timed(f"step: {name}", "plain", len(batch), partial(_each, step, arrays))
        samples = [source.load(index, self.train.names) for index in batch]
        arrays = [{IMAGE: sample.image, **sample.labels} for sample in samples]
        for name, step in self.train.steps((number, *batch)).items():
            arrays = self._timed(f"step: {name}", "ours", len(batch), partial(_each, step, arrays))

    def _plain_steps(self, draw: np.random.Generator) -> dict[str, Step]:
        return {
            "scale and crop": lambda item: plain.scale_and_crop(item, self.tasks, self.crop, self.guide, draw),
            "flip": lambda item: plain.flip(item, self.tasks, draw),
            "colours": lambda item: plain.colours(item, draw),
            "padding, channels first": lambda item: plain.normalise(item, self.tasks, self.crop),
        }

    def _timed(self, stage: str, pipeline: str, images: int, work: Callable[[], Any]) -> Any:
        started = time.thread_time()
        result = work()
        self.times[stage][pipeline].append((time.thread_time() - started) / images)
        return result


def _each(step: Step, items: list[Any]) -> list[Any]:
    return [step(item) for item in items]


def _in_turn(steps: Iterable[Step], item: Any) -> Any:
    for step in steps:
        item = step(item)
    return item


def _summary(pipelines: dict[str, list[float]], first: int) -> dict[str, Any]:
    """Medians without the first values."""
    kept = {name: seconds[first:] for name, seconds in pipelines.items()}
    summary = {
        "ms": {name: round(1e3 * median(seconds), 3) for name, seconds in kept.items()},
        "samples_per_second": {name: round(1 / median(seconds), 1) for name, seconds in kept.items()},
    }
    if "plain" in kept:
        summary["times_the_plain_loop"] = {
            name: round(median(base / own for base, own in zip(kept["plain"], seconds, strict=True)), 2)
            for name, seconds in kept.items()
            if name != "plain"
        }
    return summary


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the datasets named on the command line and print or write one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="DATASET=ROOT", help="an option of conf/dataset and its files")
    parser.add_argument("--config-dir", type=Path, help="folder of one's own options, as for python -m atrc_exp")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="JSON file to write; standard output otherwise")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(_CPU),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "datasets": {},
    }
    for given in options.datasets:
        name, _, root = given.partition("=")
        overrides = [f"dataset={name}", f"dataset.root='{root}'", "dataset.procedural=false"]
        if options.config_dir:
            overrides.append(f"hydra.searchpath=['file://{options.config_dir.resolve()}']")
        result["datasets"][given] = measure(composed(overrides), images=options.images, rounds=options.rounds)
    if options.output:
        write_json(options.output, result)
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
