"""Run folders made by hand: what a finished search or training leaves for the reports."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from atrc_exp.files import write_json
from atrc_exp.genotype import Genotype, candidates, save

MakeRun = Callable[..., Path]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make_run(runs_dir: Path) -> MakeRun:
    """Write `runs/<name>/seed<seed>/summary.json` with the given headline values; keywords replace entries of it."""

    def make(name: str, seed: int, headline: Mapping[str, float | None], **changes: Any) -> Path:
        summary = {
            "version": 1,
            "name": name,
            "seed": seed,
            "stage": "retrain",
            "dataset": {"name": "rooms", "fingerprint": "0123456789abcdef", "packaging": "A", "notes": []},
            "backbone": "hrnet_w18_small_v2",
            "distillation": "none",
            "tasks": list(headline),
            "iteration": 40,
            "metrics": {},
            "losses": {},
            "headline": dict(headline),
            "search": None,
            "parameters": 4_520_000,
            "seconds": 10.0,
            "status": "done",
        }
        folder = runs_dir / name / f"seed{seed}"
        write_json(folder / "summary.json", summary | changes)
        return folder

    return make


@pytest.fixture
def make_search(make_run: MakeRun) -> MakeRun:
    """Write a finished search whose genotype is given by one word of initials a target row, e.g. "ng tl"."""
    names = {"n": "none", "g": "global", "l": "local", "t": "tlabel", "s": "slabel"}

    def make(name: str, seed: int, tasks: str, rows: str, **changes: Any) -> Path:
        keys = tasks.split()
        blocks = {
            target: {source: names[initial] for source, initial in zip(keys, row, strict=True)}
            for target, row in zip(keys, rows.split(), strict=True)
        }
        chances = {
            target: {s: {c: 0.6 if c == blocks[target][s] else 0.1 for c in candidates(target, s)} for s in keys}
            for target in keys
        }
        found = changes.pop("headline", dict.fromkeys(keys, 0.5))
        folder = make_run(name, seed, found, stage="search", distillation="search", **changes)
        save(Genotype(tuple(keys), blocks, {"probabilities": chances}), folder / "genotype.json")
        return folder

    return make
