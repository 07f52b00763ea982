"""Which kernel runs for given inputs, with which compile-time constants and how much shared memory.

Pure arithmetic: no CUDA, no tensors. The sources assert the same shared-memory sizes at compile time.
"""

from dataclasses import dataclass

import torch

MAX_CHANNELS = 128
MAX_KERNEL_SIZE = 15
ELEMENTS = {torch.float32: "float", torch.bfloat16: "bf16", torch.float16: "f16"}
# float32 is three products of TF32 where the parts of a map fit a thread's registers, and on devices whose tensor cores
# are fast enough: a multiprocessor with less shared memory does TF32 at a quarter of an A100's rate, and multiply-adds
# at twice.
MAX_TF32_CHANNELS = 48
TF32_SHARED_BYTES = 160 * 1024
# Tiles of queries (rows, columns) of the tensor-core kernels, best first: larger ones read less halo.
TENSOR_CORE_TILES = ((8, 16), (8, 8), (4, 8))
STRIP_TILE = (8, 16)
# Shared memory that CUDA keeps for itself in every block; a multiprocessor has as much more than one block may ask for.
RESERVED_BYTES = 1024


class Unsupported(Exception):
    """The CUDA kernels cannot run these inputs on this machine; the message says why."""


@dataclass(frozen=True)
class Plan:
    """One specialisation of one CUDA source.

    `definitions` are its -D constants; `shared_bytes` the shared memory that a block of each kernel takes.
    """

    source: str
    definitions: tuple[tuple[str, str | int], ...]
    threads: int
    tile: tuple[int, int]
    shared_bytes: dict[str, int]

    def __hash__(self) -> int:
        return hash((self.source, self.definitions))

    def blocks(self, batch: int, height: int, width: int) -> int:
        """Thread blocks that cover a batch of images."""
        rows, columns = self.tile
        return batch * -(-height // rows) * -(-width // columns)


def make_plan(dtype: torch.dtype, channels: int, kernel_size: int, vector: int, shared_limit: int) -> Plan:
    """Choose the kernels for maps of `channels` channels.

    Args:
        vector: elements that one copy may move, 1, 2 or 4: it divides the width and the alignment of all tensors.
        shared_limit: bytes of shared memory that a block may ask for on the device.

    Raises:
        Unsupported: outside the range of all kernels.
    """
    if dtype not in ELEMENTS:
        raise Unsupported(f"dtype {dtype} (the kernels take {', '.join(map(str, ELEMENTS))})")
    if channels > MAX_CHANNELS:
        raise Unsupported(f"{channels} channels (the kernels take up to {MAX_CHANNELS})")
    if kernel_size > MAX_KERNEL_SIZE:
        raise Unsupported(f"kernel size {kernel_size} (the kernels take up to {MAX_KERNEL_SIZE})")
    candidates: list[Plan] = []
    tf32 = channels <= MAX_TF32_CHANNELS and shared_limit >= TF32_SHARED_BYTES
    if kernel_size <= 9 and (dtype != torch.float32 or tf32):
        candidates = [
            tensor_core_plan(dtype, channels, kernel_size, vector, tile, shared_limit) for tile in TENSOR_CORE_TILES
        ]
    # 16-bit elements become float32 on their way to the strip kernels' shared memory, one by one.
    candidates.append(strip_plan(dtype, kernel_size, vector if dtype == torch.float32 else 1, shared_limit))
    for plan in candidates:
        if max(plan.shared_bytes.values()) <= shared_limit:
            return plan
    raise Unsupported(f"{shared_limit} bytes of shared memory a block (the kernels need {plan.shared_bytes})")


def tensor_core_plan(
    dtype: torch.dtype, channels: int, kernel_size: int, vector: int, tile: tuple[int, int], shared_limit: int
) -> Plan:
    """tensor_core.cu for kernel sizes up to 9, whose products are of TF32 for float32."""
    rows, columns = tile
    padded_channels, element_bytes = -(-channels // 8) * 8, dtype.itemsize
    queries = rows * columns
    halo = (rows + kernel_size - 1) * (columns + 8)
    # Bytes of a map with halo and without.
    wide, narrow = (element_bytes * padded_channels * (pixels + 8) for pixels in (halo, queries))
    shared_bytes = {
        "forward": 2 * wide + narrow,
        "dq": 2 * wide + 2 * narrow + 8 * queries,
        "dkv": 2 * wide + 2 * narrow + 8 * halo,
    }
    constants: dict[str, str | int] = {
        "ELEMENT": ELEMENTS[dtype],
        "ELEMENT_BYTES": element_bytes,
        "CHANNELS": padded_channels,
        "KERNEL_SIZE": kernel_size,
        "VECTOR": vector,
        "TILE_ROWS": rows,
        "TILE_COLUMNS": columns,
    }
    warps = dict.fromkeys(shared_bytes, 16 if element_bytes == 2 and padded_channels <= 48 else 8)
    return _plan("tensor_core.cu", constants, 2 * queries, tile, shared_bytes, shared_limit, warps)


def strip_plan(dtype: torch.dtype, kernel_size: int, vector: int, shared_limit: int) -> Plan:
    """strip.cu for any type, kernel size and number of channels."""
    rows, columns = STRIP_TILE
    strip, chunk = (8, 4) if kernel_size <= 9 else (4, 2)
    halo_columns = -(-(kernel_size // 2) // 4) * 4
    halo = (rows + kernel_size - 1) * (columns + 2 * halo_columns + 4)
    stage = chunk * (halo + rows * (columns + 4))
    partials = chunk * kernel_size * (rows + 2) * columns
    shared = 4 * (2 * stage + 2 * partials)
    threads = rows * columns // strip * kernel_size
    constants: dict[str, str | int] = {
        "ELEMENT": ELEMENTS[dtype],
        "KERNEL_SIZE": kernel_size,
        "VECTOR": vector,
    }
    shared_bytes = {"forward": shared, "dq": shared, "dkv": shared + 8 * halo}
    warps = {"forward": 16, "dq": 8, "dkv": 8}  # a backward holds two sets of scores
    return _plan("strip.cu", constants, threads, STRIP_TILE, shared_bytes, shared_limit, warps)


def _plan(
    source: str,
    constants: dict[str, str | int],
    threads: int,
    tile: tuple[int, int],
    shared_bytes: dict[str, int],
    shared_limit: int,
    warps: dict[str, int],
) -> Plan:
    """Add what the sources assert and are compiled for.

    `warps` of each kernel that a multiprocessor should hold at once: 16 leave a thread 128 registers, 8 leave it 255.
    Shared memory bounds the number of blocks, since the registers of further blocks would lie idle.
    """
    derived: dict[str, str | int] = {"BLOCK_THREADS": threads}
    for name, size in shared_bytes.items():
        fitting = (shared_limit + RESERVED_BYTES) // (size + RESERVED_BYTES)
        derived[f"SHARED_{name.upper()}"] = size
        derived[f"{name.upper()}_BLOCKS"] = max(1, min(fitting, warps[name] // -(-threads // 32)))
    return Plan(source, tuple((constants | derived).items()), threads, tile, shared_bytes)
