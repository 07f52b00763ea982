"""Exported networks: standard operators only, any batch, the same outputs; what disagrees is not kept."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, save
from atrc_exp.models import export
from atrc_exp.ops import local_attention_rows

BLOCKS = {"semseg": {"semseg": "local", "depth": "slabel"}, "depth": {"semseg": "global", "depth": "tlabel"}}


@pytest.mark.parametrize("zero_border", [True, False])
@pytest.mark.parametrize("kernel_size", [3, 9])
def test_rows_are_the_operator(kernel_size, zero_border):
    q, k, v = (torch.randn(2, 3, 7, 10, dtype=torch.float64) for _ in range(3))
    wanted = torch.ops.atrc_exp.local_attention_fwd(q, k, v, kernel_size, 0.7, zero_border, "torch")
    for ours, theirs in zip(local_attention_rows.forward(q, k, v, kernel_size, 0.7, zero_border), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


class OneConvolution(nn.Module):
    """A backbone of one map, since tracing a whole one takes long and tells nothing about the contexts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, channels, 4, 4)

    def forward(self, image):
        return [self.layer(image)]


@pytest.fixture
def network(make_network, tmp_path):
    """All contexts, with batch norms as after a training: at the start the contexts are switched off."""
    save(Genotype(("semseg", "depth"), BLOCKS), tmp_path / "genotype.json")
    built = make_network("atrc", tasks=("semseg", "depth"), genotype=str(tmp_path / "genotype.json"), kernel_size=3)
    built.backbone = OneConvolution(sum(built.backbone.channels))
    for norm in (module for module in built.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    return export.Predictions(built.eval()).eval()


@pytest.mark.slow
def test_all_contexts_run_for_any_batch_and_without_this_package(network, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    images = [torch.randn(number, 3, 32, 64) for number in (1, 2, 5)]
    with torch.no_grad():
        expected = [(image, network(image)) for image in images]
    program = export.trace(network, (32, 64))
    assert not [node for node in program.graph.nodes if "atrc_exp" in str(node.target)]
    pt2, onnx = tmp_path / "network.pt2", tmp_path / "network.onnx"
    save_onnx = partial(export.save_onnx, program, tasks=("semseg", "depth"), metadata={"mean": [0.5, 0.25]})
    differences = export.save_checked(pt2, partial(export.save_program, program), export.read_program, expected)
    assert set(differences) == {"semseg", "depth"} and max(differences.values()) < 1e-5
    export.save_checked(onnx, save_onnx, export.read_onnx, expected)
    session = runtime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    assert {value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    assert json.loads(session.get_modelmeta().custom_metadata_map["mean"]) == [0.5, 0.25]
    outputs = export.read_onnx(onnx)(images[2])
    assert {task: x.shape for task, x in outputs.items()} == {"semseg": (5, 40, 32, 64), "depth": (5, 1, 32, 64)}
    for task, output in outputs.items():
        torch.testing.assert_close(output, expected[2][1][task], rtol=1e-3, atol=1e-4)
    with pytest.raises(AssertionError, match="Guard failed"):
        export.read_program(pt2)(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    "found",
    [
        {"depth": torch.ones(1, 2)},
        {"depth": torch.ones(1, 2), "edge": torch.ones(1, 1)},
        {"depth": torch.ones(1, 2), "edge": torch.full((1, 2), torch.nan)},
        {"depth": torch.ones(1, 2), "edge": torch.tensor([[100.0, 1.02]])},
    ],
)
def test_a_file_that_disagrees_is_not_left_and_the_one_before_stays(tmp_path, found):
    path = tmp_path / "network.pt2"
    path.write_text("before")
    expected = [(torch.zeros(1), {"depth": torch.ones(1, 2), "edge": torch.tensor([[100.0, 1.0]])})]
    with pytest.raises(UserError, match=r"network\.pt2 .*edge by ") as caught:
        export.save_checked(path, lambda file: file.write_text("new"), lambda _: lambda _: found, expected)
    assert "depth" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["network.pt2"] and path.read_text() == "before"


def test_differences_are_relative_to_the_largest_value(tmp_path):
    expected = [(torch.zeros(1), {"edge": torch.tensor([[100.0, 1.0]])})]
    found = {"edge": torch.tensor([[100.0, 1.005]])}
    result = export.save_checked(tmp_path / "a.pt2", lambda file: file.touch(), lambda _: lambda _: found, expected)
    assert result["edge"] == pytest.approx(5e-5, rel=1e-3)
