"""The compiled CPU path of local attention against the float64 oracle, and its threads, processes and fallback."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from local_attention_oracle import oracle

from atrc_exp.ops import local_attention, local_attention_cpu, registration

SIZES = [(1, 1), (1, 40), (40, 1), (2, 5), (3, 3), (8, 16), (9, 17), (16, 24), (21, 35)]
TOLERANCE = 1e-5  # max |error| / max |value|: that of float32 in the tests of the other paths


@pytest.fixture(autouse=True)
def _seed_and_threads():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """q, k, v and the gradient of the output."""
    return [torch.randn(shape).to(dtype) for _ in range(4)]


def forward_backward(q, k, v, g, kernel_size=9, border="zero", scale=None):
    scale = q.shape[1] ** -0.5 if scale is None else scale
    out, lse = local_attention_cpu.forward(q, k, v, kernel_size, scale, border == "zero")
    return out, lse, *local_attention_cpu.backward(g, q, k, v, out, lse, kernel_size, scale)


def references(q, k, v, g, kernel_size=9, border="zero", scale=None):
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    out, lse = oracle(*exact, kernel_size, border, scale)
    return [x.detach() for x in (out, lse, *torch.autograd.grad(out, exact, g.double()))]


def check(inputs, kernel_size=9, border="zero", scale=None, tolerance=TOLERANCE):
    expected = references(*inputs, kernel_size, border, scale)
    values = forward_backward(*inputs, kernel_size, border, scale)
    for name, value, reference in zip(("out", "lse", "dq", "dk", "dv"), values, expected, strict=True):
        # Where the terms of dq and dk cancel, rounding is that of the terms.
        error = (value.double() - reference).abs().max() / reference.abs().max().clamp_min(0.5)
        assert error <= tolerance, (name, error.item())


@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("kernel_size", [1, 3, 9])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size, kernel_size, border):
    check(maps(2, 5, *size), kernel_size, border)


@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("kernel_size", [5, 7, 11, 19])
def test_windows_that_do_not_fill_groups_of_taps(kernel_size, border):
    check(maps(2, 3, 12, 21), kernel_size, border)


@pytest.mark.parametrize("channels", [1, 33, 64, 65])
def test_channels(channels):
    check(maps(1, channels, 11, 19))


@pytest.mark.parametrize("border", ["zero", "mask"])
def test_large_scores(border):
    """Scores of some 1e4, of either sign: one weight is 1, the others are 0, and nothing overflows."""
    q, k, v, g = maps(1, 4, 9, 20)
    q, k = (torch.round(x * 4) * 25 for x in (q, k))  # products without rounding, so that ties stay ties
    values = forward_backward(q, k, v, g, 5, border, scale=1.0)
    assert all(x.isfinite().all() for x in values)
    out, lse, *_ = references(q, k, v, g, 5, border, scale=1.0)
    assert lse.abs().max() > 1e4
    torch.testing.assert_close(values[0].double(), out, rtol=0, atol=2e-2)
    torch.testing.assert_close(values[1].double(), lse, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_inputs_are_computed_in_float32(dtype):
    inputs = maps(2, 5, 9, 17, dtype=dtype)
    q, k, v, g = (x.float() for x in inputs)
    out, lse = local_attention_cpu.forward(*inputs[:3], 5, 0.3, True)
    expected, expected_lse = local_attention_cpu.forward(q, k, v, 5, 0.3, True)
    assert torch.equal(out, expected.to(dtype)) and torch.equal(lse, expected_lse)
    gradients = local_attention_cpu.backward(inputs[3], *inputs[:3], out, lse, 5, 0.3)
    exact = local_attention_cpu.backward(g, q, k, v, out.float(), lse, 5, 0.3)
    assert all(torch.equal(ours, theirs.to(dtype)) for ours, theirs in zip(gradients, exact, strict=True))


def test_not_a_number_stays_in_sight():
    q, k, v, _ = maps(2, 3, 12, 20)
    q[0, 1, 3, 4] = k[1, 0, 6, 7] = torch.nan
    out, lse = local_attention_cpu.forward(q, k, v, 3, 0.5, True)
    lost = torch.zeros(2, 12, 20, dtype=torch.bool)
    lost[0, 3, 4] = lost[1, 5:8, 6:9] = True
    assert torch.equal(out.isnan().any(1), lost) and torch.equal(lse.isnan(), lost)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("border", ["zero", "mask"])
def test_same_bits_for_any_number_of_threads(batch, border):
    inputs = maps(batch, 5, 21, 35)
    expected = forward_backward(*inputs, 9, border)
    for threads in (2, 3, 100):
        torch.set_num_threads(threads)
        values = forward_backward(*inputs, 9, border)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(values, expected, strict=True))


def test_several_callers_at_once():
    torch.set_num_threads(2)
    inputs = maps(2, 5, 9, 17)
    expected = forward_backward(*inputs)
    with ThreadPoolExecutor(3) as callers:
        for values in callers.map(lambda _: forward_backward(*inputs), range(6)):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(values, expected, strict=True))


PROGRAM = """
import multiprocessing, sys
import torch
from atrc_exp.ops import local_attention

def attend(_):
    torch.set_num_threads(2)
    return local_attention(x, x, x, 3).tolist()

assert "numba" not in sys.modules
torch.manual_seed(0)
x = torch.randn(2, 3, 8, 9)
before = attend(0)
with multiprocessing.get_context("fork").Pool(1) as children:
    assert children.apply_async(attend, (0,)).get(timeout=60) == before
assert attend(0) == before
"""


def test_import_is_light_a_forked_process_has_its_own_threads_and_all_end():
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr


@pytest.fixture
def no_kernels(monkeypatch):
    """As where numba cannot be imported."""
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("vectors", "local_attention_cpu_scratch", "local_attention_cpu_kernels"):
        monkeypatch.delitem(sys.modules, f"atrc_exp.ops.{name}", raising=False)
        monkeypatch.delattr(f"atrc_exp.ops.{name}", raising=False)
    local_attention_cpu._load.cache_clear()
    registration._warn_once.cache_clear()
    yield
    local_attention_cpu._load.cache_clear()


def test_pytorch_takes_over_with_one_warning(no_kernels):
    q, k, v, g = maps(1, 3, 6, 7)
    results = []
    with pytest.warns(UserWarning, match="PyTorch.*numba") as caught:
        for backend in ("auto", "torch"):
            leaves = [x.clone().requires_grad_() for x in (q, k, v)]
            out = local_attention(*leaves, 3, backend=backend)
            results.append([out, *torch.autograd.grad(out, leaves, g)])
    assert len(caught) == 1
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("dtype", "backend", "compiled"),
    [
        (torch.float32, "auto", True),
        (torch.bfloat16, "auto", True),
        (torch.float32, "torch", False),
        (torch.float64, "auto", False),
    ],
    ids=str,
)
def test_who_computes(monkeypatch, dtype, backend, compiled):
    calls = []
    for name in ("forward", "backward"):
        function = getattr(local_attention_cpu, name)
        monkeypatch.setattr(local_attention_cpu, name, lambda *x, f=function: calls.append(f.__name__) or f(*x))
    x = torch.randn(1, 2, 4, 5, dtype=dtype, requires_grad=True)
    local_attention(x, x, x, 3, backend=backend).sum().backward()
    assert calls == (["forward", "backward"] if compiled else [])


@pytest.mark.slow
def test_vectors_of_eight(tmp_path):
    """The length of processors without AVX-512, in a process and a cache of its own."""
    code = (
        "import llvmlite.binding as llvm; features, llvm.get_host_cpu_features = llvm.get_host_cpu_features, dict\n"
        "from atrc_exp.ops import vectors; assert vectors.LANES == 8\n"
        "llvm.get_host_cpu_features = features\n"
        f"import pytest; raise SystemExit(pytest.main([{__file__!r}, '-n0', '-k', 'definition or windows or bits']))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stdout
