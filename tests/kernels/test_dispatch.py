"""Which implementation an operator takes, and what reaches the kernels, seen without a GPU."""

import subprocess
import sys
import warnings

import pytest
import torch

from atrc_exp.errors import UserError
from atrc_exp.kernels.plan import Unsupported
from atrc_exp.ops import local_attention, registration
from atrc_exp.ops import local_attention_cuda as cuda


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
    with pytest.warns(UserWarning, match="PyTorch.*: the reason") as caught:
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


def test_form_that_ran_is_known(broken, monkeypatch):
    q, k, v = maps(3)

    def forms(call, *arguments):
        registration.forms_that_ran.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*arguments)
        return registration.forms_that_ran

    lse = torch.zeros(1, 5, 6)
    assert forms(registration._forward_cuda, q, k, v, 3, 0.5, True, "auto") == {"torch"}
    assert forms(registration._backward_cuda, q, q, k, v, q, lse, 3, 0.5, "auto") == {"torch"}
    monkeypatch.setattr(cuda, "forward", lambda *_: (q, lse))
    monkeypatch.setattr(cuda, "backward", lambda *_: (q, k, v))
    assert forms(registration._forward_cuda, q, k, v, 3, 0.5, True, "auto") == {"cuda"}
    assert forms(registration._backward_cuda, q, q, k, v, q, lse, 3, 0.5, "auto") == {"cuda"}
    assert forms(local_attention, q, k, v, 3) == {"cpu-compiled"}
    assert forms(local_attention, q.double(), k.double(), v.double(), 3) == {"torch"}


def test_import_needs_no_cuda():
    program = (
        "import sys; sys.modules['cuda'] = None; import atrc_exp.ops\n"
        "bad = {'hydra', 'albumentations', 'wandb', 'cv2', 'trimesh', 'matplotlib', 'sklearn', 'numba'}\n"
        "import torch; assert not torch.cuda.is_initialized(); print(sorted(bad & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr
