"""Data and a finished run that tests of several stages read."""

import os
from pathlib import Path

import pytest

# Before anything imports PyTorch: tests run in several processes, and OpenMP's threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exhaustive tests are slow ones too, for `-m slow`."""
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a few procedural rooms; read only."""
    import small_rooms

    from atrc_exp.rooms import generate

    root = tmp_path_factory.mktemp("data") / "rooms"
    generate(root, train=small_rooms.TRAIN, val=small_rooms.VAL, image_size=small_rooms.SIZE, seed=0, workers=1,
             progress=False)  # fmt: skip
    return root


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, rooms: Path) -> Path:
    """Folder of a finished multi-task run with its predictions; copy it before writing into it."""
    import small_rooms

    from atrc_exp.stages import run_stage

    folder = tmp_path_factory.mktemp("finished")
    run_stage(small_rooms.command(folder, rooms, "+experiment=rooms_hrnet18_multi_task", *small_rooms.QUICK,
                                  "engine.iterations=3", "engine.save_predictions=true"))  # fmt: skip
    return folder / "runs" / "rooms_hrnet18_multi_task" / "seed0"
