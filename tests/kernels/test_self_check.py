"""The check of kernels at their first use: what it sees, and what it leaves alone."""

import random

import emulator
import numpy as np
import pytest
import torch

from atrc_exp.kernels.plan import Unsupported, make_plan
from atrc_exp.ops import local_attention_cuda_check as self_check
from atrc_exp.ops import local_attention_torch

HOPPER = 227 * 1024
RESULTS = ("out", "lse", "dq", "dk", "dv")


class PyTorchKernels:
    """In the kernels' place: the same results from PyTorch, of which one may be spoilt."""

    def __init__(self, plan, kernel_size, spoil=lambda border, name, value: value):
        self.plan, self.device, self.kernel_size, self.spoil = plan, torch.device("cpu"), kernel_size, spoil
        self.shapes, self.border = [], ""

    def forward(self, q, k, v, scale, zero_border):
        self.shapes.append(tuple(q.shape))
        self.border = "zero" if zero_border else "mask"
        out, lse = local_attention_torch.forward(q, k, v, self.kernel_size, scale, zero_border)
        return self._spoilt(("out", "lse"), (out, lse))

    def backward(self, g, q, k, v, out, lse, scale):
        gradients = local_attention_torch.backward(g, q, k, v, out, lse, self.kernel_size, scale)
        return self._spoilt(("dq", "dk", "dv"), gradients)

    def _spoilt(self, names, values):
        return tuple(self.spoil(self.border, name, value) for name, value in zip(names, values, strict=True))


@pytest.mark.parametrize(("vector", "width"), [(4, 36), (2, 34), (1, 33)])
def test_right_kernels_pass_and_random_numbers_stay(vector, width):
    kernels = PyTorchKernels(make_plan(torch.float32, 3, 5, vector, HOPPER), 5)
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    self_check.check(kernels, torch.float32, 3, 5)
    assert kernels.shapes == 2 * [(2, 3, 19, width)]
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("fault", ["one pixel", "not a number"])
def test_every_wrong_result_is_seen(border, name, fault):
    def spoil(mode, result, value):
        if (mode, result) != (border, name):
            return value
        value = value.clone()
        value.view(-1)[-1] = float("nan") if fault == "not a number" else value.view(-1)[-1] + 1e-3 * value.abs().max()
        return value

    kernels = PyTorchKernels(make_plan(torch.float32, 3, 5, 4, HOPPER), 5, spoil)
    with pytest.raises(Unsupported, match=f"{name}, border {border}"):
        self_check.check(kernels, torch.float32, 3, 5)


def test_device_is_waited_for_once(monkeypatch):
    waits = []
    for call in ("tolist", "item", "cpu", "__bool__", "__float__"):
        original = getattr(torch.Tensor, call)
        monkeypatch.setattr(torch.Tensor, call, lambda x, *_, f=original, name=call: (waits.append(name), f(x))[1])
    self_check.check(PyTorchKernels(make_plan(torch.float32, 3, 5, 4, HOPPER), 5), torch.float32, 3, 5)
    assert waits == ["tolist"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "channels", "kernel_size", "vector"),
    [(torch.float32, 5, 9, 4), (torch.bfloat16, 33, 9, 4), (torch.float16, 7, 5, 2), (torch.float32, 1, 15, 1)],
    ids=str,
)
def test_emulated_kernels_pass(dtype, channels, kernel_size, vector, tmp_path):
    """The limits leave room for the kernels' own rounding, so that a right device is never refused."""
    plan = make_plan(dtype, channels, kernel_size, vector, HOPPER)
    program = emulator.build(plan, (), tmp_path)
    shape = (2, channels, 19, self_check.WIDTHS[vector])
    maps = dict(zip("gqkv", self_check.inputs(shape, dtype, torch.device("cpu")), strict=True))
    found = []
    for border in ("zero", "mask"):
        results = emulator.results(program, maps, border, channels**-0.5)
        found += [results[name] for name in RESULTS]
    assert not self_check.difference(found, self_check.reference(*maps.values(), kernel_size), dtype)
    found[-1] = found[-1] * 1.05
    assert "dv, border mask" in self_check.difference(found, self_check.reference(*maps.values(), kernel_size), dtype)
