"""From a plan to machine code: NVRTC at run time, with a cache on disk.

NVRTC and its Python binding come with PyTorch's own CUDA wheels, so nothing else is needed: no toolkit, no
host compiler. Compiling needs no GPU either.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atrc_exp.files import replacing
from atrc_exp.kernels.plan import Plan, Unsupported

SOURCES = Path(__file__).parent
HEADERS = ("primitives.cuh", "geometry.cuh", "tensor_core.cuh", "products_16.cuh", "products_tf32.cuh", "strip.cuh")
further_options: list[str] = []  # of NVRTC: the benchmark asks for line numbers, which a profiler shows
DIGEST_BYTES = hashlib.sha256().digest_size


def check(result: tuple[Any, ...]) -> Any:
    """Unpack what a function of `cuda.bindings` returns, (status, value...).

    Raises:
        Unsupported: for any status but success.
    """
    status, *values = result
    if int(status) != 0:
        raise Unsupported(f"CUDA reports {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


def machine_code(plan: Plan, capability: tuple[int, int]) -> bytes:
    """Machine code of `plan` for a device of this compute capability, from the cache or compiled.

    Raises:
        Unsupported: NVRTC is not installed, cannot be loaded, or does not compile for the device.
    """
    nvrtc = load_nvrtc()
    target = choose_target(capability, check(_guarded(nvrtc.nvrtcGetSupportedArchs)))
    version = check(_guarded(nvrtc.nvrtcVersion))
    path = _cache_folder() / f"{_key(plan, target, version)}.bin"
    code = _read(path)
    if code is None:
        code, _ = compile_plan(plan, target)
        _write(path, code)
    return code


def choose_target(capability: tuple[int, int], supported: Sequence[int]) -> str:
    """`sm_XY` (machine code) where NVRTC knows the device, else `compute_XY` (PTX) of the nearest older one.

    Machine code runs on every driver of the same major CUDA version; PTX only on one as new as NVRTC.

    Raises:
        Unsupported: below compute capability 8.0, which the instructions of the kernels need.
    """
    major, minor = capability
    number = 10 * major + minor
    if number < 80:
        raise Unsupported(f"compute capability {major}.{minor} (the kernels need 8.0 or newer)")
    if number in supported:
        return f"sm_{number}"
    older = [arch for arch in supported if 80 <= arch < number]
    if not older:
        raise Unsupported(f"compute capability {major}.{minor}, which NVRTC (up to {max(supported)}) cannot target")
    return f"compute_{max(older)}"


def compile_plan(plan: Plan, target: str) -> tuple[bytes, str]:
    """Compile for `target`; return the code and the compiler's log, which counts registers and spills.

    Raises:
        Unsupported: NVRTC is not installed, cannot be loaded, or reports an error.
    """
    nvrtc = load_nvrtc()
    headers = [(SOURCES / name).read_bytes() for name in HEADERS]
    names = [name.encode() for name in HEADERS]
    source = (SOURCES / plan.source).read_bytes()
    program = check(nvrtc.nvrtcCreateProgram(source, plan.source.encode(), len(names), headers, names))
    try:
        options = [option.encode() for option in _options(plan, target)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        # NVRTC writes into the buffer. CPython shares all bytes objects of length 1 (an empty log), so never pass one.
        log = b" " * max(2, check(nvrtc.nvrtcGetProgramLogSize(program)))
        check(nvrtc.nvrtcGetProgramLog(program, log))
        text = log.partition(b"\0")[0].decode(errors="replace")
        if int(status) != 0:
            raise Unsupported(f"{plan.source} does not compile for {target}: {status.name}\n{text}")
        binary = target.startswith("sm_")
        size = check(nvrtc.nvrtcGetCUBINSize(program) if binary else nvrtc.nvrtcGetPTXSize(program))
        code = b" " * size
        check(nvrtc.nvrtcGetCUBIN(program, code) if binary else nvrtc.nvrtcGetPTX(program, code))
        return code, text
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def load_nvrtc() -> Any:
    """The binding of NVRTC, imported on the first use.

    Raises:
        Unsupported: it is not installed or its library cannot be loaded.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise Unsupported(f"cuda.bindings cannot be imported ({error})") from error
    return nvrtc


def _guarded(function: Any) -> tuple[Any, ...]:
    """Call the first function of a library, which loads it and may find it missing."""
    try:
        return function()
    except (RuntimeError, OSError) as error:
        raise Unsupported(f"NVRTC cannot be loaded ({error})") from error


def _options(plan: Plan, target: str) -> list[str]:
    constants = [f"-D{name}={value}" for name, value in plan.definitions]
    return [f"-arch={target}", "-std=c++17", "--ptxas-options=-v", *further_options, *constants]


def _key(plan: Plan, target: str, version: tuple[int, int]) -> str:
    digest = hashlib.sha256(repr((_options(plan, target), version)).encode())
    for name in (plan.source, *HEADERS):
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "atrc_exp" / "kernels"


def _read(path: Path) -> bytes | None:
    """The cached code, or None where there is none or its digest does not fit."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Keep the code for the next process. A cache that cannot be written costs a second, and no more."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)
    except OSError:
        pass
