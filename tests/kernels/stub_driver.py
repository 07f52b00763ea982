"""A stand-in for a machine with two GPUs: stub_driver.c in the driver's place, and PyTorch's guards as they are."""

import ctypes
import re
import shutil
import struct
import subprocess
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atrc_exp.kernels import driver, launch
from atrc_exp.kernels.build import SOURCES
from atrc_exp.kernels.plan import Plan
from atrc_exp.ops import local_attention_cuda as cuda

HERE = Path(__file__).parent


class OnFirst(torch.Tensor):
    """A tensor of the CPU that says it is on the first GPU."""

    device = torch.device("cuda", 0)


class OnSecond(torch.Tensor):
    """A tensor of the CPU that says it is on the second GPU."""

    device = torch.device("cuda", 1)


class StubMachine:
    """Records of the driver's calls, and the state of PyTorch that they depend on."""

    def __init__(self, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stub = ctypes.CDLL(str(library))
        self.stub.stub_text.restype = ctypes.c_char_p
        self.stub.stub_set_context.argtypes = [ctypes.c_void_p]
        self.stub.stub_context.restype = ctypes.c_void_p
        self.stub.stub_fail(b"", 0)
        self.stub.stub_clear()
        self.plans: list[Plan] = []
        self.capturing = False
        self.checks: list[tuple[Any, ...]] = []
        self._current = threading.local()
        patched = {
            "device": self._guard, "set_device": self._set_device, "current_stream": self._stream,
            "is_current_stream_capturing": lambda: self.capturing, "get_device_capability": lambda device: (9, 0),
            "get_device_properties": lambda device: SimpleNamespace(shared_memory_per_block_optin=227 * 1024),
        }  # fmt: skip
        for name, value in patched.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(driver, "_LIBRARY", str(library))
        monkeypatch.setattr(launch, "machine_code", self._code)
        monkeypatch.setattr(cuda, "check", lambda *arguments: self.checks.append(arguments))
        for state in ("_ready", "_loaded", "_checked"):
            monkeypatch.setattr(cuda, state, type(getattr(cuda, state))())
        driver._driver.cache_clear()
        self._set_device(0)

    def fail(self, function: str, status: int) -> None:
        """Let every call of this function answer so; "" for none."""
        self.stub.stub_fail(function.encode(), status)

    def records(self, kind: str) -> list[dict[str, str]]:
        """Fields of the calls that were written down as `kind`: load or launch."""
        lines = [line.split() for line in self.stub.stub_text().decode().splitlines()]
        return [dict(field.split("=") for field in line[1:]) for line in lines if line[0] == kind]

    def count(self, line: str) -> int:
        """How often this line was written."""
        return self.stub.stub_text().decode().splitlines().count(line)

    def context(self, device: int) -> str:
        """The context of a device, as records show it."""
        return hex(0xC0 + device)

    def _code(self, plan: Plan, capability: tuple[int, int]) -> bytes:
        self.plans.append(plan)
        return b"\x7fELF"

    def _index(self) -> int:
        return getattr(self._current, "index", 0)

    def _set_device(self, device: int) -> None:
        self._current.index = device
        self.stub.stub_set_context(0xC0 + device)

    def _stream(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_stream=0x50 + self._index())

    def _guard(self, device: torch.device) -> "Guard":
        return Guard(self, device.index)


class Guard:
    """`torch.cuda.device`: it does nothing where the index is right already, be there a context or not."""

    def __init__(self, machine: StubMachine, index: int) -> None:
        self.machine, self.index = machine, index

    def __enter__(self) -> None:
        self.before = self.machine._index()
        if self.before != self.index:
            self.machine._set_device(self.index)

    def __exit__(self, *_: object) -> None:
        if self.before != self.index:
            self.machine._set_device(self.before)


def build(folder: Path) -> Path:
    """Compile the stub, or skip where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    library = folder / "libcuda_stub.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(HERE / "stub_driver.c")]
    subprocess.run([*command, "-lpthread", "-o", str(library)], check=True)
    return library


def parameters(source: str, kernel: str) -> list[tuple[str, str]]:
    """(kind, name) of a kernel's parameters, read from its source; kind is "pointer", "int" or "float"."""
    text = (SOURCES / source).read_text()
    (listed,) = re.findall(rf"local_attention_{kernel}\(([^)]*)\)", text)
    pairs = [part.split() for part in re.sub(r"\s+", " ", listed).split(",")]
    return [("pointer" if "*" in " ".join(words) else words[-2], words[-1].lstrip("*")) for words in pairs]


def arguments(source: str, record: dict[str, str]) -> dict[str, int | float]:
    """Arguments of a launch by name, read as C lays out the parameters that the source declares."""
    declared = parameters(source, record["kernel"].removeprefix("local_attention_"))
    layout = "".join({"pointer": "P", "int": "i", "float": "f"}[kind] for kind, _ in declared)
    values = struct.unpack(layout, bytes.fromhex(record["arguments"]))
    found: dict[str, int | float] = defaultdict(int)
    found.update(zip((name for _, name in declared), values, strict=True))
    return dict(found)
