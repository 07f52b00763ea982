"""The CUDA kernels on a GPU, against the float64 oracle and PyTorch's promises about streams and graphs."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from local_attention_oracle import oracle

from atrc_exp.errors import UserError
from atrc_exp.kernels import launch
from atrc_exp.ops import local_attention, registration
from atrc_exp.ops import local_attention_cuda as cuda
from atrc_exp.ops.local_attention_cuda_check import check as check_kernels

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZES = [(1, 1), (1, 40), (2, 5), (3, 3), (8, 16), (9, 17), (16, 16), (37, 53), (107, 140)]
TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (6e-3, 1e-2), torch.float16: (8e-4, 1.4e-3)}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def maps(*shape: int, dtype: torch.dtype, count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to("cuda", dtype) for _ in range(count)]


def forward_backward(q, k, v, g, kernel_size=9, border="zero", backend="cuda"):
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out = local_attention(q, k, v, kernel_size, border, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), g)]


def check(values, q, k, v, g, kernel_size=9, border="zero"):
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    out, _ = oracle(*exact, kernel_size, border)
    references = [out, *torch.autograd.grad(out, exact, g.double())]
    tolerance, gradient_tolerance = TOLERANCE[q.dtype]
    if q.shape[1] == 1:  # the terms of dq and dk nearly cancel, and only the rounding of `out` and dS is left
        gradient_tolerance *= 4
    allowed = [tolerance] + 3 * [gradient_tolerance]
    for name, value, reference, limit in zip(("out", "dq", "dk", "dv"), values, references, allowed, strict=True):
        error = (value.double() - reference).abs().max() / reference.abs().max().clamp_min(0.5)
        assert error <= limit, (name, error.item())


@DTYPES
@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(size, border, dtype):
    inputs = maps(3 if size[0] < 50 else 1, 33, *size, dtype=dtype)
    check(forward_backward(*inputs, border=border), *inputs, border=border)


@DTYPES
@pytest.mark.parametrize("channels", [1, 8, 16, 31, 64, 90, 96, 128])
def test_channels(channels, dtype):
    inputs = maps(2, channels, 19, 36, dtype=dtype)
    check(forward_backward(*inputs), *inputs)


@DTYPES
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 11, 13, 15])
@pytest.mark.parametrize("width", [21, 22, 24])
def test_kernel_sizes_and_copy_widths(kernel_size, width, dtype):
    inputs = maps(2, 12, 18, width, dtype=dtype)
    check(forward_backward(*inputs, kernel_size), *inputs, kernel_size)


@DTYPES
@pytest.mark.parametrize("offset", [1, 2])
def test_storage_offset_that_breaks_alignment(offset, dtype):
    shifted = []
    for x in maps(1, 5, 12, 16, dtype=dtype):
        storage = torch.zeros(x.numel() + offset, device="cuda", dtype=dtype)
        storage[offset:] = x.flatten()
        shifted.append(storage[offset:].view_as(x))
    check(forward_backward(*shifted), *shifted)


@DTYPES
def test_ten_runs_give_the_same_bits(dtype):
    inputs = maps(2, 33, 37, 52, dtype=dtype)
    first = forward_backward(*inputs)
    for _ in range(9):
        assert all(torch.equal(a, b) for a, b in zip(first, forward_backward(*inputs), strict=True))


@DTYPES
def test_nothing_outside_the_maps_is_read_or_written(dtype):
    guarded, stores = [], []
    for x in maps(1, 7, 11, 20, dtype=dtype):
        store = torch.full((x.numel() + 8192,), float("nan"), device="cuda", dtype=dtype)
        store[4096:-4096] = x.flatten()
        stores.append(store)
        guarded.append(store[4096:-4096].view_as(x))
    check(forward_backward(*guarded), *guarded)
    assert all(store[:4096].isnan().all() and store[-4096:].isnan().all() for store in stores)


def test_side_stream():
    inputs = maps(1, 16, 24, 24, dtype=torch.bfloat16)
    expected = forward_backward(*inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        values = forward_backward(*inputs)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(expected, values, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_second_device():
    """The first stays current, as in a process that serves two; results are those of the first."""
    inputs = maps(1, 16, 24, 24, dtype=torch.float32)
    values = forward_backward(*(x.to("cuda:1") for x in inputs))
    assert torch.cuda.current_device() == 0 and all(x.device.index == 1 for x in values)
    check([x.to("cuda:0") for x in values], *inputs)
    pairs = zip(values, forward_backward(*inputs), strict=True)
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


def test_graph_capture_and_replay():
    q, k, v = maps(1, 16, 24, 24, dtype=torch.bfloat16, count=3)
    local_attention(q, k, v, backend="cuda")  # compiles and loads
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = local_attention(q, k, v, backend="cuda")
    q.copy_(q.flip(2))
    graph.replay()
    assert torch.equal(out, local_attention(q, k, v, backend="cuda"))


def test_memory_that_is_used_again():
    inputs = maps(1, 16, 24, 24, dtype=torch.float32)
    expected = forward_backward(*inputs)
    torch.cuda.empty_cache()
    filler = torch.full((2**24,), float("nan"), device="cuda")
    del filler
    assert all(torch.equal(a, b) for a, b in zip(expected, forward_backward(*inputs), strict=True))


def test_peak_memory_is_the_results():
    inputs = maps(8, 33, 107, 140, dtype=torch.float32)
    forward_backward(*inputs)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = forward_backward(*inputs)
    extra = torch.cuda.max_memory_allocated() - before - sum(x.numel() * x.element_size() for x in results)
    assert extra <= 4 * 2**20  # log-sum-exp, delta, and rounding of the allocator


def test_autocast_and_compile():
    q, k, v = maps(1, 16, 24, 24, dtype=torch.float32, count=3)
    with torch.autocast("cuda", torch.bfloat16):
        out = local_attention(q, k, v)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, local_attention(*(x.bfloat16() for x in (q, k, v)), backend="cuda"))
    compiled = torch.compile(lambda *x: local_attention(*x), fullgraph=True)
    assert torch.equal(compiled(q, k, v), local_attention(q, k, v))


@DTYPES
def test_channels_last_maps_and_gradients(dtype):
    """As the networks keep their maps; the results are those of contiguous ones, bit for bit."""
    inputs = maps(2, 33, 19, 36, dtype=dtype)
    turned = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    pairs = zip(forward_backward(*turned), forward_backward(*inputs), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_no_image():
    results = forward_backward(*maps(0, 16, 24, 24, dtype=torch.bfloat16))
    assert all(x.shape == (0, 16, 24, 24) for x in results)


def test_thread_that_has_not_touched_the_gpu():
    """It has no context, and PyTorch's guard sets none for device 0; neither has the backward's own thread."""
    inputs = maps(1, 16, 24, 24, dtype=torch.float32)
    expected = forward_backward(*inputs)
    with ThreadPoolExecutor(1) as pool:
        values = pool.submit(forward_backward, *inputs).result()
    assert all(torch.equal(a, b) for a, b in zip(expected, values, strict=True))
    program = (  # the first kernels of a process, loaded on a thread
        "import torch; from concurrent.futures import ThreadPoolExecutor; from atrc_exp.ops import local_attention\n"
        "x = torch.ones(1, 16, 24, 24, device='cuda')\n"
        "with ThreadPoolExecutor(1) as pool: pool.submit(local_attention, x, x, x, backend='cuda').result()\n"
        "torch.cuda.synchronize()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_backward_in_a_captured_graph(dtype):
    q, k, v, g = maps(1, 16, 24, 24, dtype=dtype)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.autograd.grad(local_attention(*leaves, backend="cuda"), leaves, g)  # compiles, loads and checks
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradients = torch.autograd.grad(local_attention(*leaves, backend="cuda"), leaves, g)
    with torch.no_grad():
        q.copy_(q.flip(2))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(gradients, forward_backward(q, k, v, g)[1:], strict=True))


@DTYPES
@pytest.mark.parametrize("border", ["zero", "mask"])
def test_large_logits(dtype, border):
    """Scores of about a thousand: nothing overflows, and one neighbour takes nearly all weight."""
    q, k, v, g = maps(1, 16, 19, 36, dtype=dtype)
    values = forward_backward(40 * q, 10 * k, v, g, border=border)
    assert all(x.isfinite().all() for x in values)
    out, _ = oracle((40 * q).double(), (10 * k).double(), v.double(), 9, border)
    assert (values[0].double() - out).abs().max() <= (1e-3 if dtype == torch.float32 else 3e-2) * out.abs().max()


@DTYPES
def test_outputs_lie_in_untouched_memory(dtype, monkeypatch):
    """Results go to the middle of larger buffers, whose ends stay not a number."""
    buffers = []

    def guarded(like, **_):
        buffers.append(torch.full((like.numel() + 8192,), float("nan"), device=like.device, dtype=like.dtype))
        return buffers[-1][4096:-4096].view(like.shape)

    inputs = maps(1, 7, 11, 20, dtype=dtype)
    expected = forward_backward(*inputs)
    monkeypatch.setattr(launch.torch, "empty_like", guarded)
    values = forward_backward(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(expected, values, strict=True))
    assert len(buffers) >= 5  # out, dq, dk, dv and delta
    assert all(x[:4096].isnan().all() and x[-4096:].isnan().all() and not x[4096:-4096].isnan().any() for x in buffers)


@DTYPES
def test_operator_keeps_the_promises_of_pytorch(dtype):
    q, k, v, g = maps(1, 8, 9, 12, dtype=dtype)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    leaves = [x.requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(
        torch.ops.atrc_exp.local_attention_fwd.default, (*leaves, 5, 0.3, True, "cuda"), test_utils=checks
    )
    lse = torch.zeros(1, 9, 12, device="cuda")
    plain = [x.detach() for x in (g, q, k, v, g)]
    torch.library.opcheck(
        torch.ops.atrc_exp.local_attention_bwd.default, (*plain, lse, 5, 0.3, "cuda"), test_utils=checks
    )


def test_every_plan_passes_its_check_within_50_milliseconds():
    """The check ran when the plan was prepared; again alone, without compiling and loading, it is fast."""
    for dtype in TOLERANCE:
        for kernel_size in (1, 3, 5, 7, 9, 11, 15):
            for channels in (16, 33, 90, 128):
                x = maps(1, channels, 8, 8, dtype=dtype, count=1)[0]
                local_attention(x, x, x, kernel_size, backend="cuda")
    slowest = 0.0
    for (dtype, channels, kernel_size, *_), kernels in list(cuda._ready.items()):
        torch.cuda.synchronize()
        start = time.perf_counter()
        check_kernels(kernels, dtype, channels, kernel_size)
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_over_two_to_the_31_elements(dtype):
    """The last images of a batch are right, and equal to the same images alone."""
    shape = (2**31 // (33 * 107 * 140) + 2, 33, 107, 140)
    needed = 9 * torch.Size(shape).numel() * dtype.itemsize
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of free memory")
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v, g = (torch.randn(shape, generator=generator, device="cuda", dtype=dtype) for _ in range(4))
    values = forward_backward(q, k, v, g)
    last = [x[-2:].clone() for x in (q, k, v, g)]
    assert all(torch.equal(x[-2:], y) for x, y in zip(values, forward_backward(*last), strict=True))
    check([x[-2:] for x in values], *last)


@pytest.mark.parametrize(
    ("shape", "dtype", "kernel_size"),
    [((1, 130, 6, 6), torch.float32, 9), ((1, 4, 6, 6), torch.float32, 17), ((1, 4, 6, 6), torch.float64, 9)],
)
def test_outside_their_range_pytorch_takes_over_with_one_warning(shape, dtype, kernel_size):
    registration._warn_once.cache_clear()
    inputs = maps(*shape, dtype=dtype)
    with pytest.warns(UserWarning, match="runs in PyTorch") as caught:
        values = forward_backward(*inputs, kernel_size, backend="auto")
        again = forward_backward(*inputs, kernel_size, backend="torch")
    assert len(caught) == 1
    assert all(torch.equal(a, b) for a, b in zip(values, again, strict=True))
    with pytest.raises(UserError, match="backend is 'cuda'"):
        forward_backward(*inputs, kernel_size, backend="cuda")


def test_inputs_on_two_devices_are_a_mistake():
    q, k, v = maps(1, 4, 6, 6, dtype=torch.float32, count=3)
    with pytest.raises(UserError, match=r"k is on cpu.*cuda"):
        local_attention(q, k.cpu(), v)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer(tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed")
    program = (
        "import torch; from atrc_exp.ops import local_attention\n"
        "for dtype in (torch.float32, torch.bfloat16):\n"
        "    maps = torch.randn(3, 1, 11, 9, 20, device='cuda').to(dtype)\n"
        "    q, k, v = (x.requires_grad_() for x in maps.unbind())\n"
        "    local_attention(q, k, v, backend='cuda').float().sum().backward()\n"
        "torch.cuda.synchronize()"
    )
    command = [
        "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        "--kernel-regex",
        "kns=local_attention",
    ]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    finished = subprocess.run(
        [*command, sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
