"""Which implementation an operator takes, and what reaches the kernels, seen without a GPU."""

import contextlib
import re
import subprocess
import sys
import warnings

import pytest
import torch

from atrc_exp.errors import UserError
from atrc_exp.kernels import local_attention as cuda
from atrc_exp.kernels.build import SOURCES
from atrc_exp.kernels.driver import load_kernels
from atrc_exp.kernels.plan import Unsupported, make_plan
from atrc_exp.ops import local_attention, registration


def maps(count: int) -> list[torch.Tensor]:
    return [torch.randn(1, 3, 5, 6) for _ in range(count)]


@pytest.fixture
def broken(monkeypatch):
    def raise_unsupported(*_):
        raise Unsupported("the reason")

    monkeypatch.setattr(cuda, "forward", raise_unsupported)
    monkeypatch.setattr(cuda, "backward", raise_unsupported)
    registration._warn_once.cache_clear()


def test_falls_back_with_one_warning(broken):
    q, k, v = maps(3)
    with pytest.warns(UserWarning, match="runs in PyTorch, as the CUDA kernels cannot: the reason") as caught:
        for _ in range(2):
            out, lse = registration._forward_cuda(q, k, v, 3, 0.5, True, "auto")
            gradients = registration._backward_cuda(out, q, k, v, out, lse, 3, 0.5, "auto")
    assert len(caught) == 1
    assert torch.equal(out, local_attention(q, k, v, 3, scale=0.5, backend="torch"))
    expected = torch.ops.atrc_exp.local_attention_bwd(out, q, k, v, out, lse, 3, 0.5, "torch")
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


def test_forced_backend_is_never_silent(broken):
    q, k, v = maps(3)
    with pytest.raises(UserError, match=r"backend is 'cuda'.*cannot run: the reason"):
        registration._forward_cuda(q, k, v, 3, 0.5, True, "cuda")
    with pytest.raises(UserError, match="backend is 'cuda'"):
        registration._backward_cuda(q, q, k, v, q, q[:, 0], 3, 0.5, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registration._forward_cuda(q, k, v, 3, 0.5, True, "torch")


def test_failure_to_load_is_not_tried_twice(monkeypatch):
    attempts = []

    def capability(device):
        attempts.append(device)
        return (7, 0)

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    plan = make_plan(torch.float32, 4, 13, 1, 2**17)
    for _ in range(2):
        with pytest.raises(Unsupported):
            load_kernels(plan, 63)
    assert attempts == [63]


def parameters(source: str, kernel: str) -> list[tuple[str, str]]:
    """(kind, name) of a kernel's parameters, read from its source."""
    text = (SOURCES / source).read_text()
    (listed,) = re.findall(rf"local_attention_{kernel}\(([^)]*)\)", text)
    pairs = [part.split() for part in re.sub(r"\s+", " ", listed).split(",")]
    return [("pointer" if "*" in " ".join(words) else words[-2], words[-1]) for words in pairs]


@pytest.mark.parametrize(("dtype", "source"), [(torch.float32, "strip.cu"), (torch.bfloat16, "tensor_core.cu")])
def test_launch_arguments_are_the_parameters_of_the_sources(dtype, source, monkeypatch):
    launches = {}

    class Recorder:
        def launch(self, name, blocks, *arguments):
            launches[name] = (blocks, arguments)

    monkeypatch.setattr(cuda, "_plan", lambda size, q, *_: make_plan(q.dtype, q.shape[1], size, 1, 2**18))
    monkeypatch.setattr(cuda, "_load", lambda plan: Recorder())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    named = {name: torch.randn(2, 3, 9, 17).to(dtype) for name in ("q", "k", "v", "g")}
    named["out"], named["lse"] = cuda.forward(named["q"], named["k"], named["v"], 9, 0.25, True)
    inputs = [named[name] for name in ("g", "q", "k", "v", "out", "lse")]
    named["dq"], named["dk"], named["dv"] = cuda.backward(*inputs, 9, 0.25)
    named["delta"] = launches["dq"][1][7]
    numbers = {"channels": 3, "height": 9, "width": 17, "scale": 0.25, "zero_border": 1}
    for kernel in ("forward", "dq", "dkv"):
        blocks, arguments = launches[kernel]
        assert blocks == 2 * 2 * 2
        expected = parameters(source, kernel)
        assert len(arguments) == len(expected)
        for argument, (kind, name) in zip(arguments, expected, strict=True):
            if kind == "pointer":
                assert argument is named[name.lstrip("*")], (kernel, name)
            else:
                assert type(argument).__name__ == kind and argument == numbers[name], (kernel, name)
    assert named["delta"].shape == (2, 9, 17)


def test_import_needs_no_cuda():
    program = (
        "import sys; sys.modules['cuda'] = None; import atrc_exp.ops\n"
        "bad = {'hydra', 'albumentations', 'wandb', 'cv2', 'trimesh', 'matplotlib', 'sklearn', 'numba'}\n"
        "import torch; assert not torch.cuda.is_initialized(); print(sorted(bad & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr
