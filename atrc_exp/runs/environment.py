"""Versions, commit and hardware that the results of a run depend on."""

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless", "hydra-core", "albumentations",
    "torchmetrics", "wandb",
)  # fmt: skip


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit and hardware that results depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {"versions": versions, "commit": _commit(), "host": socket.gethostname(), "platform": sys.platform,
            "cpus": os.cpu_count(), "device": f"{device.type} ({name})"}  # fmt: skip


def _cpu_name() -> str:
    """Return the model of the processor, which Linux tells in /proc alone."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout the package runs from, with "+" where files differ; None for an installed package."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package.parent), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
