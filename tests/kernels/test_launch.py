"""What reaches the CUDA driver, and what becomes of its answers, seen by a stub in its place."""

import threading

import pytest
import stub_driver
import torch
from stub_driver import OnFirst, OnSecond, StubMachine

from atrc_exp.errors import UserError
from atrc_exp.kernels.driver import DriverError
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.ops import local_attention_cuda as cuda
from atrc_exp.ops import registration

FUNCTIONS = (
    "cuCtxGetCurrent", "cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelGetFunction", "cuFuncSetAttribute",
    "cuLaunchKernel",
)  # fmt: skip
SHAPE = (2, 33, 19, 36)
# Blocks: 3 rows of tiles of 8, 3 columns of 16, 2 images. Threads: 16 strips x 9 offsets; 8 warps. Shared bytes: as
# kernels/NOTES.md lists them for K = 9, and as the sources assert.
EXPECTED = [
    (torch.float32, 33, "tensor_core.cu", 256, {"forward": 147200, "dq": 169984, "dkv": 172032}),
    (torch.float32, 90, "strip.cu", 144, {"forward": 65536, "dq": 65536, "dkv": 69120}),
    (torch.bfloat16, 33, "tensor_core.cu", 256, {"forward": 73600, "dq": 85504, "dkv": 87552}),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return stub_driver.build(tmp_path_factory.mktemp("stub"))


@pytest.fixture
def machine(library, monkeypatch):
    yield StubMachine(library, monkeypatch)
    stub_driver.driver._driver.cache_clear()


def maps(count: int, shape=SHAPE, dtype=torch.float32, offset: int = 0, device=OnSecond) -> list[torch.Tensor]:
    size = torch.Size(shape).numel()
    return [torch.zeros(offset + size, dtype=dtype)[offset:].view(shape).as_subclass(device) for _ in range(count)]


@pytest.mark.parametrize(("dtype", "channels", "source", "threads", "shared"), EXPECTED)
def test_launches_are_what_the_sources_expect(machine, dtype, channels, source, threads, shared):
    shape = (2, channels, 19, 36)
    q, k, v, g = maps(4, shape, dtype)
    out, lse = registration._forward_cuda(q, k, v, 9, 0.25, True, "cuda")
    dq, dk, dv = registration._backward_cuda(g, q, k, v, out, lse, 9, 0.25, "cuda")
    assert out.shape == shape and out.dtype == dtype
    assert lse.shape == (2, 19, 36) and lse.dtype == torch.float32
    (load,) = machine.records("load")
    assert load["context"] == machine.context(1) and load["code"] == "ELF"
    launches = machine.records("launch")
    assert [x["kernel"] for x in launches] == [f"local_attention_{name}" for name in ("forward", "dq", "dkv")]
    tensors = {"q": q, "k": k, "v": v, "g": g, "out": out, "lse": lse, "dq": dq, "dk": dk, "dv": dv}
    numbers = {"channels": channels, "height": 19, "width": 36, "scale": 0.25, "zero_border": 1}
    deltas = set()
    for record, (name, shared_bytes) in zip(launches, shared.items(), strict=True):
        assert record["library"] == load["library"] and record["carveout"] == "100", name
        assert record["context"] == machine.context(1) and record["stream"] == "0x51"
        assert (record["grid"], record["block"]) == ("18,1,1", f"{threads},1,1")
        assert int(record["shared"]) == shared_bytes
        for argument, value in stub_driver.arguments(source, record).items():
            if argument == "delta":
                deltas.add(value)
            elif argument in tensors:
                assert value == tensors[argument].data_ptr(), (name, argument)
            else:
                assert value == numbers[argument], (name, argument)
    assert len(deltas) == 1 and deltas.isdisjoint(x.data_ptr() for x in tensors.values())
    assert machine._index() == 0 and machine.stub.stub_context() == 0xC0  # the guard has put the device back


def test_border_mode_reaches_the_kernel(machine):
    for zero_border in (True, False):
        registration._forward_cuda(*maps(3), 9, 1.0, zero_border, "cuda")
    modes = [stub_driver.arguments("tensor_core.cu", record)["zero_border"] for record in machine.records("launch")]
    assert modes == [1, 0]


@pytest.mark.parametrize(
    ("width", "offset", "vector"), [(36, 0, 4), (34, 0, 2), (33, 0, 1), (36, 2, 2), (36, 1, 1), (34, 1, 1)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_copies_are_as_wide_as_rows_and_every_address_allow(machine, dtype, width, offset, vector):
    shape = (1, 5, 12, width)
    (shifted,) = maps(1, shape, dtype, offset)
    for position in range(3):
        q_k_v = maps(3, shape, dtype)
        q_k_v[position] = shifted
        machine.plans.clear()
        for state in (cuda._ready, cuda._loaded):
            state.clear()
        registration._forward_cuda(*q_k_v, 9, 1.0, True, "cuda")
        (plan,) = machine.plans
        assert dict(plan.definitions)["VECTOR"] == vector, position
    shifted_g = [shifted, *maps(4, shape, dtype), torch.zeros(1, 12, width).as_subclass(OnSecond)]
    registration._backward_cuda(*shifted_g, 9, 1.0, "cuda")
    assert dict(cuda._kernels(9, shifted).plan.definitions)["VECTOR"] == vector
    used = machine.records("launch")[-1]["library"]
    assert used == machine.records("launch")[-2]["library"] == machine.records("launch")[-3]["library"]


@pytest.mark.parametrize("which", range(5))
def test_kernels_see_contiguous_maps(machine, which):
    """Channels last, as the networks keep their maps."""
    given = maps(5)
    values = torch.arange(given[which].numel(), dtype=torch.float32).view(SHAPE).as_subclass(OnSecond)
    given[which] = values.contiguous(memory_format=torch.channels_last)
    lse = torch.zeros(2, 19, 36).as_subclass(OnSecond)
    if which < 3:
        registration._forward_cuda(*given[:3], 9, 1.0, True, "cuda")
    registration._backward_cuda(*given[3:4], *given[:3], given[4], lse, 9, 1.0, "cuda")
    name = "qkvg"[which] if which < 4 else "out"
    for record in machine.records("launch"):
        pointer = stub_driver.arguments("tensor_core.cu", record).get(name)
        if record["kernel"].endswith("forward") and name not in "qkv":
            continue
        assert pointer is None or pointer != given[which].data_ptr(), record["kernel"]
    assert machine.records("launch")


def test_maps_of_no_image_need_no_kernel(machine):
    out, lse = registration._forward_cuda(*maps(3, (0, 33, 19, 36)), 9, 1.0, True, "cuda")
    gradients = registration._backward_cuda(*maps(5, (0, 33, 19, 36)), lse, 9, 1.0, "cuda")
    assert {tuple(x.shape) for x in (out, *gradients)} == {(0, 33, 19, 36)} and lse.shape == (0, 19, 36)
    assert not machine.plans and not machine.records("launch")


def test_thread_without_a_context_gets_that_of_the_device(machine):
    """PyTorch's guard sets none for device 0, which a new thread takes to be current."""
    failures = []
    lse = torch.zeros(2, 19, 36).as_subclass(OnFirst)

    def forward():
        registration._forward_cuda(*maps(3, device=OnFirst), 9, 1.0, True, "cuda")

    def backward():  # on a thread of its own, as autograd's
        registration._backward_cuda(*maps(5, device=OnFirst), lse, 9, 1.0, "cuda")

    def work(call):
        try:
            assert machine.stub.stub_context() is None
            call()
        except BaseException as error:
            failures.append(error)

    for call in (forward, forward, backward):  # loading needs a context; so does a launch of what is loaded
        thread = threading.Thread(target=work, args=(call,))
        thread.start()
        thread.join()
    assert not failures
    assert [x["context"] for x in machine.records("launch")] == 4 * [machine.context(0)]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("status", "error"), [(700, DriverError), (719, DriverError), (900, DriverError), (2, torch.OutOfMemoryError)]
)
@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_what_fails_is_told_and_tried_again(machine, function, status, error, backend):
    machine.fail(function, status)
    for _ in range(2):
        with pytest.raises(error, match=rf"{function}.*{status}") as caught:
            registration._forward_cuda(*maps(3), 9, 1.0, True, backend)
    if function in FUNCTIONS[2:]:
        assert "local_attention_forward" in str(caught.value)
    assert machine.count(f"{function} failed") == 2
    machine.fail("", 0)
    registration._forward_cuda(*maps(3), 9, 1.0, True, backend)
    assert len(machine.records("launch")) == 1


def test_failure_of_a_backward_names_its_kernel(machine):
    out, lse = registration._forward_cuda(*maps(3), 9, 1.0, True, "auto")
    machine.fail("cuLaunchKernel", 700)
    with pytest.raises(DriverError, match="local_attention_dq"):
        registration._backward_cuda(*maps(4), out, lse, 9, 1.0, "auto")


@pytest.mark.parametrize("status", [209, 222])
def test_what_cannot_run_here_is_tried_once_a_plan(machine, status):
    machine.fail("cuLibraryLoadData", status)
    for _ in range(2):
        with pytest.raises(UserError, match=f"backend is 'cuda'.*{status}"):
            registration._forward_cuda(*maps(3), 9, 1.0, True, "cuda")
    assert machine.count("cuLibraryLoadData failed") == 1


def test_other_plans_and_devices_do_not_suffer(machine):
    machine.fail("cuLibraryLoadData", 209)
    with pytest.raises(Unsupported):
        cuda.forward(*maps(3), 9, 1.0, True)
    machine.fail("", 0)
    cuda.forward(*maps(3, dtype=torch.bfloat16), 9, 1.0, True)
    cuda.forward(*maps(3, device=OnFirst), 9, 1.0, True)
    assert [x["context"] for x in machine.records("launch")] == [machine.context(1), machine.context(0)]


def test_each_plan_is_loaded_and_checked_once_a_device(machine):
    for _ in range(3):
        registration._forward_cuda(*maps(3), 9, 1.0, True, "cuda")
    registration._forward_cuda(*maps(3, (5, 33, 7, 8)), 9, 1.0, False, "cuda")  # other sizes, the same plan
    registration._forward_cuda(*maps(3, (2, 34, 19, 36)), 9, 1.0, True, "cuda")  # 40 channels with padding, as 33
    assert len(machine.records("load")) == len(machine.checks) == 1
    assert machine.checks[0][1:] == (torch.float32, 33, 9)
    registration._forward_cuda(*maps(3, dtype=torch.bfloat16), 9, 1.0, True, "cuda")
    assert len(machine.records("load")) == len(machine.checks) == 2


def test_check_waits_for_the_end_of_a_capture(machine):
    machine.capturing = True
    registration._forward_cuda(*maps(3), 9, 1.0, True, "cuda")
    assert not machine.checks and len(machine.records("launch")) == 1
    machine.capturing = False
    registration._forward_cuda(*maps(3), 9, 1.0, True, "cuda")
    assert len(machine.checks) == 1 and len(machine.records("load")) == 1


def test_wrong_results_are_an_error_or_one_warning(machine, monkeypatch):
    def mismatch(*arguments):
        machine.checks.append(arguments)
        raise Unsupported("they compute wrong results")

    monkeypatch.setattr(cuda, "check", mismatch)
    registration._warn_once.cache_clear()
    with pytest.raises(UserError, match="wrong results"):
        registration._forward_cuda(*maps(3), 9, 1.0, True, "cuda")
    with pytest.warns(UserWarning, match="wrong results") as caught:
        for _ in range(2):
            with pytest.raises(TorchForm):  # it would run on the device, which is not there
                monkeypatch.setattr(registration, "_forward_torch", torch_form)
                registration._forward_cuda(*maps(3), 9, 1.0, True, "auto")
    assert len(caught) == 1 and len(machine.checks) == 1
    assert not machine.records("launch")


class TorchForm(Exception):
    """The form of the operation in PyTorch was taken."""


def torch_form(*_):
    raise TorchForm
