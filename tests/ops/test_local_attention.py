"""Local attention on the CPU against the float64 oracle, and the op's contract with PyTorch."""

import pytest
import torch
from local_attention_oracle import oracle
from torch.utils.flop_counter import FlopCounterMode

from atrc_exp.errors import UserError
from atrc_exp.ops import local_attention

SIZES = [(1, 1), (1, 40), (2, 5), (3, 3), (8, 16), (9, 17), (16, 16)]
# max |error| / max |value| that rounding explains (out, gradients): twice the largest of a rounding model.
TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (6e-3, 1e-2), torch.float16: (8e-4, 1.4e-3)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def inputs(*shape: int, dtype: torch.dtype = torch.float64, grad: bool = True) -> list[torch.Tensor]:
    return [torch.randn(shape).to(dtype).requires_grad_(grad) for _ in range(3)]


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return ((value - reference).abs().max() / reference.abs().max().clamp_min(1e-30)).item()


@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size, kernel_size, border):
    qkv = inputs(2, 5, *size)
    out = local_attention(*qkv, kernel_size, border)
    reference, lse = oracle(*qkv, kernel_size, border)
    torch.testing.assert_close(out, reference, rtol=0, atol=1e-13)
    _, op_lse = torch.ops.atrc_exp.local_attention_fwd(*qkv, kernel_size, 5**-0.5, border == "zero", "torch")
    torch.testing.assert_close(op_lse, lse, rtol=0, atol=1e-13)
    g = torch.randn_like(out)
    for ours, theirs in zip(torch.autograd.grad(out, qkv, g), torch.autograd.grad(reference, qkv, g), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [1, 33])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_error_of_each_dtype_is_its_rounding(dtype, channels, backend):
    qkv = inputs(1, channels, 11, 14, dtype=dtype)
    out = local_attention(*qkv, backend=backend)
    assert out.dtype == dtype
    exact = [x.detach().double().requires_grad_() for x in qkv]
    reference, _ = oracle(*exact, 9, "zero")
    g = torch.randn_like(out)
    tolerance, gradient_tolerance = TOLERANCE[dtype]
    assert relative_error(out.double(), reference) < tolerance
    gradients = torch.autograd.grad(out, qkv, g)
    for ours, theirs in zip(gradients, torch.autograd.grad(reference, exact, g.double()), strict=True):
        assert ours.dtype == dtype
        # With one channel dq and dk are sums that nearly cancel: their own scale is too small a yardstick.
        assert relative_error(ours.double(), theirs) < gradient_tolerance * (4 if channels == 1 else 1)


def test_uniform_weights_of_zero_queries():
    q, k, v = inputs(1, 2, 6, 7, grad=False)
    rows = torch.tensor([min(y + 2, 5) - max(y - 2, 0) + 1 for y in range(6)])
    columns = torch.tensor([min(x + 2, 6) - max(x - 2, 0) + 1 for x in range(7)])
    n_inside = rows[:, None] * columns[None, :]
    sums = local_attention(q * 0, k, v, 5, "zero") * 25
    torch.testing.assert_close(local_attention(q * 0, k, v, 5, "mask") * n_inside, sums)
    torch.testing.assert_close(local_attention(q * 0, k, v * 0 + 1, 5, "zero")[0, 0] * 25, n_inside.double())


def test_border_modes_agree_away_from_the_border():
    qkv = inputs(1, 3, 12, 13, grad=False)
    zero, mask = (local_attention(*qkv, 9, border) for border in ("zero", "mask"))
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(zero[inner], mask[inner])
    assert not torch.allclose(zero[..., 0, :], mask[..., 0, :])


@pytest.mark.parametrize("scale", [0.0, -0.3, 50.0])
@pytest.mark.parametrize("border", ["zero", "mask"])
def test_any_finite_scale(scale, border):
    qkv = inputs(1, 4, 5, 6)
    torch.testing.assert_close(
        local_attention(*qkv, 5, border, scale=scale), oracle(*qkv, 5, border, scale)[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_large_scores_stay_finite(backend):
    q, k, v = inputs(1, 4, 5, 6, dtype=torch.float32)
    q, k = q * 40, k * 40
    out = local_attention(q, k, v, 5, backend=backend)
    assert relative_error(out.double(), oracle(q, k, v, 5, "zero")[0]) < 1e-3
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "transposed"])
def test_any_memory_layout_of_inputs_and_gradient(layout):
    qkv = inputs(2, 4, 6, 8, grad=False)
    if layout == "channels_last":
        strided = [x.contiguous(memory_format=torch.channels_last) for x in qkv]
    elif layout == "sliced":
        strided = [torch.cat((x, x), 3)[..., 8:] for x in qkv]
    else:
        strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in qkv]
    assert not any(x.is_contiguous() for x in strided)
    strided = [x.requires_grad_() for x in strided]
    qkv = [x.requires_grad_() for x in qkv]
    out, expected = local_attention(*strided, 3), local_attention(*qkv, 3)
    assert out.is_contiguous() and torch.equal(out, expected)
    g = torch.randn(2, 4, 1, 1).double().expand(2, 4, 6, 8)
    for ours, theirs in zip(
        torch.autograd.grad(out, strided, g), torch.autograd.grad(expected, qkv, g.contiguous()), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_self_attention_adds_the_three_gradients():
    x = inputs(1, 3, 5, 5)[0]
    parts = [x.detach().clone().requires_grad_() for _ in range(3)]
    (total,) = torch.autograd.grad(local_attention(x, x, x, 3).square().sum(), x)
    torch.testing.assert_close(total, sum(torch.autograd.grad(local_attention(*parts, 3).square().sum(), parts)))


def test_gradient_of_a_subset():
    q, k, v = inputs(1, 3, 5, 5, grad=False)
    k.requires_grad_()
    (dk,) = torch.autograd.grad(local_attention(q, k, v, 3).sum(), k)
    (expected,) = torch.autograd.grad(oracle(q, k, v, 3, "zero")[0].sum(), k)
    torch.testing.assert_close(dk, expected)
    assert not local_attention(q, k.detach(), v, 3).requires_grad


@pytest.mark.parametrize("border", ["zero", "mask"])
def test_gradcheck(border):
    assert torch.autograd.gradcheck(lambda q, k, v: local_attention(q, k, v, 3, border), inputs(2, 2, 3, 4))


def test_opcheck():
    q, k, v = inputs(2, 3, 5, 6, dtype=torch.float32)
    out, lse = torch.ops.atrc_exp.local_attention_fwd(q, k, v, 3, 0.5, True, "auto")
    torch.library.opcheck(torch.ops.atrc_exp.local_attention_fwd, (q, k, v, 3, 0.5, True, "auto"))
    saved = [x.detach() for x in (out, q, k, v, out, lse)]
    torch.library.opcheck(torch.ops.atrc_exp.local_attention_bwd, (*saved, 3, 0.5, "auto"))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic):
    compiled = torch.compile(
        lambda *qkv: local_attention(*qkv, 5).square(), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for height, width in ((6, 7), (9, 4)):
        qkv = inputs(1, 3, height, width, dtype=torch.float32)
        out = compiled(*qkv)
        expected = local_attention(*qkv, 5).square()
        torch.testing.assert_close(out, expected)
        for ours, theirs in zip(
            torch.autograd.grad(out.sum(), qkv), torch.autograd.grad(expected.sum(), qkv), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_autocast_casts_down_but_never_from_float64():
    single, double = inputs(1, 3, 5, 5, dtype=torch.float32), inputs(1, 3, 5, 5)
    mixed = [single[0].bfloat16(), single[1], single[2]]
    with torch.autocast("cpu", torch.bfloat16):
        assert local_attention(*single, 3).dtype == torch.bfloat16
        assert local_attention(*mixed, 3).dtype == torch.bfloat16
        assert local_attention(*double, 3).dtype == torch.float64
        (gradient,) = torch.autograd.grad(local_attention(*single, 3).sum(), single[0])
    assert gradient.dtype == torch.float32


def test_shapes_without_data():
    assert local_attention(*inputs(0, 3, 5, 5), 3).shape == (0, 3, 5, 5)
    meta = [torch.empty(2, 3, 5, 5, device="meta", dtype=torch.bfloat16) for _ in range(3)]
    out, lse = torch.ops.atrc_exp.local_attention_fwd(*meta, 3, 1.0, True, "auto")
    assert (out.shape, out.dtype, lse.shape, lse.dtype) == (
        (2, 3, 5, 5),
        torch.bfloat16,
        (2, 5, 5),
        torch.float32,
    )
    with torch.inference_mode():
        assert local_attention(*inputs(1, 3, 5, 5, grad=False), 3).shape == (1, 3, 5, 5)


def test_flops_are_two_products_forward_and_five_backward():
    qkv = inputs(2, 3, 4, 5)
    with FlopCounterMode(display=False) as counter:
        local_attention(*qkv, 3).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    assert counts[torch.ops.atrc_exp.local_attention_fwd] == 4 * 9 * 3 * (2 * 4 * 5)
    assert counts[torch.ops.atrc_exp.local_attention_bwd] == 10 * 9 * 3 * (2 * 4 * 5)


def test_second_derivative_raises():
    qkv = inputs(1, 2, 3, 3)
    (dq,) = torch.autograd.grad(local_attention(*qkv, 3).sum(), qkv[0], create_graph=True)
    with pytest.raises(UserError, match="only first derivatives"):
        dq.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(1, 3, 5, 6)}, r"k has shape \(1, 3, 5, 6\).*that of q, \(1, 3, 5, 5\)"),
        ({"v": torch.zeros(1, 3, 5, 5).half()}, "v has dtype torch.float16.*torch.float32"),
        ({"k": torch.zeros(1, 3, 5, 5, device="meta")}, "k is on meta.*cpu"),
        ({"q": torch.zeros(3, 5, 5)}, r"q has shape \(3, 5, 5\).*\(B, C, H, W\)"),
        ({"q": torch.zeros(1, 3, 0, 5)}, r"q has shape \(1, 3, 0, 5\)"),
        ({"q": torch.zeros(1, 3, 5, 5, dtype=torch.int32)}, "q has dtype torch.int32.*torch.float16"),
        ({"kernel_size": 4}, "kernel_size is 4.*odd"),
        ({"kernel_size": -1}, "kernel_size is -1.*odd"),
        ({"kernel_size": 3.0}, "kernel_size is 3.0.*odd integer"),
        ({"border": "reflect"}, "border is 'reflect'.*zero, mask"),
        ({"backend": "triton"}, "backend is 'triton'.*auto, cuda, torch"),
        ({"backend": "cuda"}, "backend is 'cuda', but q is on cpu"),
        ({"scale": float("nan")}, "scale is nan.*finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named(change, message):
    arguments = {name: torch.zeros(1, 3, 5, 5) for name in "qkv"} | {"kernel_size": 3} | change
    with pytest.raises(UserError, match=message):
        local_attention(**arguments)
