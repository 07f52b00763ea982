"""The example of docs/library.md on a network that is not ours: it stands there to the letter, runs, and trains."""

import runpy
import textwrap
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parent / "examples" / "foreign_network.py"


@pytest.fixture(scope="module")
def example():
    torch.manual_seed(0)
    return runpy.run_path(str(FILE))


def test_the_page_prints_the_example():
    page = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
    assert textwrap.indent(FILE.read_text(encoding="utf-8"), "    ") in page


def test_the_example_runs_and_refines_both_tasks(example):
    for refined in (example["mixed"], example["fixed"]):
        assert {task: x.shape for task, x in refined.items()} == dict.fromkeys(("semseg", "depth"), (2, 64, 4, 6))


@pytest.mark.parametrize("kind", ["atrc", "search"])
def test_a_step_reaches_encoder_heads_contexts_and_architecture(example, kind):
    """The context branch starts at zero (its batch norm): contexts and architecture move from the second step on."""
    module, encoder = example[kind], example["encoder"]
    parts = [module, encoder, example["heads"], example["labels"]]
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.1)
    torch.manual_seed(0)
    image, losses = torch.rand(2, 3, 64, 96), []
    for step in range(3):
        noise = example["gumbel_noise"](4, seed=0, step=0)
        sample = [example["ArchSample"](1.0, noise)] if kind == "search" else []
        maps = encoder(image)["high"]
        features = {task: head(maps) for task, head in example["heads"].items()}
        aux_logits = {task: head(maps.detach()) for task, head in example["labels"].items()}
        outputs = module(features, aux_logits, *sample)
        loss = sum((x - 1).square().mean() for x in outputs.values())
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        if step == 1:
            for part in parts:
                gradients = [p.grad for p in part.parameters() if p.grad is not None]
                assert gradients and all(gradient.isfinite().all() for gradient in gradients)
            assert next(encoder.parameters()).grad.any()
            assert all(head.weight.grad.any() for head in (*example["heads"].values(), *example["labels"].values()))
            assert all(p.grad.any() for n, p in module.blocks.named_parameters() if n.endswith("value.0.weight"))
            if kind == "search":
                assert module.arch.grad[~module.excluded].ne(0).all()
        optimizer.step()
    assert losses[2] < losses[0]
