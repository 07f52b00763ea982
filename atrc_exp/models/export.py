"""A trained network as one file that runs without this package: `torch.export` program and ONNX."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.func import functional_call

from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.ops import local_attention_rows

TOLERANCE = 1e-4
"""Largest difference of an exported output from the network's, relative to the largest absolute value of the latter."""

Outputs = Mapping[str, Tensor]
Reader = Callable[[Path], Callable[[Tensor], Outputs]]


class Predictions(nn.Module):
    """The network as a function from images to final predictions by task.

    Its tensors stand in one flat table: the code of a traced program reaches them as attributes, and "global", the name
    of a context, is a word of Python.
    """

    def __init__(self, predict: nn.Module) -> None:
        super().__init__()
        self.call = partial(functional_call, predict)  # hidden in a function, so that its tensors have one place
        self.names: dict[str, str] = {}
        for name, tensor in (*predict.named_parameters(), *predict.named_buffers()):
            self.names[name] = name.replace(".", "__")
            self.register_buffer(self.names[name], tensor.detach())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {task: (B, task.channels, H, W)}."""
        return self.call({name: getattr(self, flat) for name, flat in self.names.items()}, (image,)).final


def trace(network: Predictions, size: tuple[int, int]) -> ExportedProgram:
    """Trace the network in evaluation mode for any number of images (3, height, width) of this size.

    Only standard operators are left: local attention, an operator of this package, is taken apart.
    """
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(network, (torch.zeros(2, 3, *size),), dynamic_shapes={"image": {0: batch}})
    return program.run_decompositions({torch.ops.atrc_exp.local_attention_fwd.default: local_attention_rows.forward})


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a `.pt2` file, to be read by `torch.export.load`."""
    torch.export.save(program, path)


def read_program(path: Path) -> Callable[[Tensor], Outputs]:
    """The function that a `.pt2` file holds."""
    return torch.export.load(path).module()


def save_onnx(program: ExportedProgram, path: Path, tasks: tuple[str, ...], metadata: Mapping[str, Any]) -> None:
    """Write a `.onnx` file, weights included, with the input `image` and one output named after each task.

    Args:
        metadata: by name, kept in the file as JSON texts.
    """
    model = torch.onnx.export(program, (), input_names=["image"], output_names=list(tasks), dynamo=True, verbose=False,
                              dynamic_shapes={"image": {0: "batch"}})  # fmt: skip
    assert model is not None
    model.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    model.save(path, external_data=False)


def read_onnx(path: Path) -> Callable[[Tensor], Outputs]:
    """The function that an `.onnx` file holds, on ONNX Runtime's CPU provider."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def call(image: Tensor) -> dict[str, Tensor]:
        arrays = session.run(names, {"image": image.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return call


def save_checked(
    path: Path, save: Callable[[Path], None], read: Reader, expected: list[tuple[Tensor, Outputs]]
) -> dict[str, float]:
    """Write a file, read it again and compare its outputs; a file that disagrees is not left behind.

    Args:
        expected: batches of images with the network's own outputs.

    Returns:
        The largest relative difference by task, see `TOLERANCE`.

    Raises:
        UserError: an output is missing, has another shape, or differs by more than the tolerance.
    """
    with replacing(path) as temporary:
        save(temporary)
        call = read(temporary)
        differences: dict[str, float] = {}
        with torch.no_grad():
            for image, outputs in expected:
                found = call(image)
                for task, output in outputs.items():
                    difference = _difference(found.get(task), output)
                    differences[task] = max(difference, differences.get(task, 0.0))
        wrong = [f"{task} by {value:.1e}" for task, value in differences.items() if not value <= TOLERANCE]
        if wrong:
            raise UserError(
                f"{path.name} differs from the network: {', '.join(wrong)} of its largest value (allowed: "
                f"{TOLERANCE:.0e}); the file is not kept. Another export.size or version of torch may do better"
            )
    return differences


def _difference(found: Tensor | None, expected: Tensor) -> float:
    """Largest difference relative to the largest absolute value; infinite where there is nothing to compare."""
    if found is None or found.shape != expected.shape:
        return float("inf")
    scale = expected.abs().amax().clamp(min=torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().amax() / scale)
