"""Ten jobs of one multirun, which the basic launcher runs in one process."""

import gc
import multiprocessing
import os
from pathlib import Path

import pytest
import small_rooms

from atrc_exp.stages import run_stage


@pytest.mark.slow
def test_no_file_or_process_is_left_over(tmp_path: Path, rooms: Path) -> None:
    open_files, children = [], []
    for seed in range(10):
        command = ("+experiment=rooms_hrnet18_multi_task", *small_rooms.QUICK, "engine.workers=1", f"seed={seed}")
        run_stage(small_rooms.command(tmp_path, rooms, *command))
        gc.collect()  # a loader's pipes are closed with the loader
        open_files.append(len(os.listdir("/proc/self/fd")))
        children.append(len(multiprocessing.active_children()))
    assert children == [0] * 10
    assert max(open_files[5:]) <= max(open_files[:5]), open_files
