"""What every distillation module must do, for the tasks of both datasets."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from atrc_exp.config import DistillationConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import uniform
from atrc_exp.models.distillation import DISTILLATIONS, build_distillation
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.tasks import Task, build_tasks

C = 6
DATASETS: dict[str, tuple[Task, ...]] = {
    name: build_tasks(tasks, num_classes={"semseg": classes}, edge_positive_weight=0.8, edge_max_distance=0.011)
    for name, tasks, classes in (
        ("nyud", ("semseg", "depth", "normals", "edge"), 40),
        ("pascal", ("semseg", "human_parts", "sal", "normals", "edge"), 21),
    )
}
RIVALS = ("cross_stitch", "nddr", "padnet_b", "padnet_c", "pap", "psd")
OTHERS = ("none", "custom", "mti_net")  # no module, whatever the user names, one that refines maps of several scales
MODULES = [name for name in DISTILLATIONS if name not in OTHERS]
SIZES = [(8, 12), (7, 5)]  # of the features; of images, the second would be no multiple of any stride


class Case:
    """A module with inputs for it."""

    def __init__(self, name: str, dataset: str, **options: object) -> None:
        self.tasks = DATASETS[dataset]
        names = tuple(task.name for task in self.tasks)
        genotype = uniform(names, "global").changed({names[0]: {names[1]: "slabel"}}) if name == "atrc" else None
        config = DistillationConfig(name=name, kernel_size=3, **options)
        module = build_distillation(config, names, C, genotype)
        assert module is not None
        self.name, self.module = name, module

    def inputs(
        self, size: tuple[int, int], batch: int = 2, dtype: torch.dtype = torch.float32
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        features = {task.name: torch.randn(batch, C, *size, dtype=dtype).relu() for task in self.tasks}
        logits = {
            task.name: torch.randn(batch, task.regions, *size, dtype=dtype)
            for task in self.tasks
            if task.name in self.module.label_tasks
        }
        return features, logits

    def __call__(self, features: dict[str, Tensor], logits: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.name == "search":
            sample = ArchSample(1.0, gumbel_noise(len(self.module.pairs), 0, 0)) if self.module.training else None
            return self.module(features, logits, sample)
        return self.module(features, logits)


@pytest.fixture(params=[(name, dataset) for name in MODULES for dataset in DATASETS], ids="-".join)
def case(request) -> Case:
    return Case(*request.param)


def loss(maps: Mapping[str, Tensor]) -> Tensor:
    return sum(((x.float() * torch.randn(x.shape)).mean() for x in maps.values()), torch.zeros(()))


@pytest.mark.parametrize("size", SIZES)
def test_shapes_keys_and_finite_gradients(case, size):
    features, logits = case.inputs(size)
    for x in (*features.values(), *logits.values()):
        x.requires_grad_()
    refined = case(features, logits)
    assert {task: x.shape for task, x in refined.items()} == {task: x.shape for task, x in features.items()}
    loss(refined).backward()
    for key, tensor in (*case.module.named_parameters(), *features.items()):
        assert tensor.grad is not None and tensor.grad.isfinite().all(), key
    assert all(x.grad is None or x.grad.isfinite().all() for x in logits.values())


def test_evaluation_of_one_image_is_that_of_a_batch(case):
    case.module.eval()
    features, logits = case.inputs((7, 5))
    with torch.no_grad():
        pair = case(features, logits)
        alone = case({t: x[:1] for t, x in features.items()}, {t: x[:1] for t, x in logits.items()})
        again = case(features, logits)
    for task, x in alone.items():
        torch.testing.assert_close(x, pair[task][:1], rtol=1e-4, atol=1e-5)
        assert torch.equal(pair[task], again[task])


def test_training_changes_batch_statistics_and_evaluation_does_not(case):
    def statistics() -> dict[str, Tensor]:
        return {key: x.clone() for key, x in case.module.named_buffers() if key.endswith("running_mean")}

    before = statistics()
    case.module.eval()
    case(*case.inputs((8, 12)))
    assert all(torch.equal(x, before[key]) for key, x in statistics().items())
    case.module.train()
    case(*case.inputs((8, 12)))
    assert all(not torch.equal(x, before[key]) for key, x in statistics().items())
    assert (len(before) == 0) == (case.name == "cross_stitch")


def test_channels_last_is_the_same_function(case):
    case.module.eval()
    features, logits = case.inputs((7, 5))
    with torch.no_grad():
        expected = case(features, logits)
        case.module.to(memory_format=torch.channels_last)  # as the engine does by default
        refined = case(features, logits)
    for task, x in refined.items():
        torch.testing.assert_close(x, expected[task], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_finite_and_close(case):
    case.module.eval()
    features, logits = case.inputs((7, 5))
    with torch.no_grad():
        expected = case(features, logits)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            refined = case({t: x.bfloat16() for t, x in features.items()}, {t: x.bfloat16() for t, x in logits.items()})
    for task, x in refined.items():
        assert x.dtype == torch.bfloat16
        torch.testing.assert_close(x.float(), expected[task], rtol=0.1, atol=0.1)
    case.module.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(case(features, logits)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in case.module.parameters())


def test_saved_weights_give_the_same_outputs(case, tmp_path):
    features, logits = case.inputs((7, 5))
    case(features, logits)  # batch statistics other than the initial ones
    torch.save(case.module.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(1)
    other = Case(case.name, "nyud" if case.tasks is DATASETS["nyud"] else "pascal")
    other.module.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    case.module.eval(), other.module.eval()
    with torch.no_grad():
        for x, y in zip(case(features, logits).values(), other(features, logits).values(), strict=True):
            assert torch.equal(x, y)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in MODULES if name != "search"])
def test_compiles_as_one_graph(name):
    """No graph breaks, same numbers. (The search reads on the host which blocks run, so it has a break.)"""
    case = Case(name, "nyud")
    case.module.eval()
    features, logits = case.inputs((8, 12))
    with torch.no_grad():
        expected = case(features, logits)
        compiled = torch.compile(case.module, fullgraph=True, backend="aot_eager")
        refined = compiled(features, logits)
    for task, x in refined.items():
        torch.testing.assert_close(x, expected[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RIVALS)
def test_one_task_alone(name):
    module = build_distillation(DistillationConfig(name=name), ("depth",), C)
    refined = module({"depth": torch.randn(2, C, 7, 5)}, {})
    loss(refined).backward()
    assert list(refined) == ["depth"] and all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", RIVALS)
def test_every_task_is_a_source_of_every_task(name):
    case = Case(name, "pascal")
    case.module.eval()
    features, _ = case.inputs((8, 12))
    with torch.no_grad():
        before = case(features, {})
        for source in features:
            after = case({**features, source: torch.randn_like(features[source]).relu()}, {})
            assert all(not torch.allclose(before[task], after[task], atol=1e-7) for task in features), source


@pytest.mark.parametrize("name", ["padnet_b", "padnet_c", "pap", "psd"])
def test_dropout_of_whole_channels_behind_the_tail(name):
    case = Case(name, "nyud", dropout=0.5)
    dropped = torch.stack([(x == 0).all(3).all(2) for x in case(*case.inputs((8, 12), batch=32)).values()])
    assert 0.4 < dropped.float().mean() < 0.65
    assert isinstance(case.module.tails["depth"][-1], nn.Dropout2d)


@pytest.mark.parametrize("name", ["atrc", "search", "global", "slabel"])
def test_without_self_attention_no_task_attends_to_itself(name):
    tasks = tuple(task.name for task in DATASETS["nyud"])
    genotype = uniform(tasks, "global").without_self_attention() if name == "atrc" else None
    module = build_distillation(DistillationConfig(name=name, self_attention=False), tasks, C, genotype)
    blocks = {(t, s): len(module.blocks[t][s]) for t in tasks for s in tasks}
    assert {pair for pair, number in blocks.items() if number == 0} == {(task, task) for task in tasks}
    if name == "search":
        module.freeze_converged(0.3)
        assert {tasks[k // 4] for k in module.frozen.nonzero().flatten().tolist()} <= set(tasks)
        chosen = module.genotype().blocks
        assert all(chosen[task][task] == "none" for task in tasks)
        assert sorted((module.frozen == 0).nonzero().flatten().tolist()) == [0, 5, 10, 15]
        assert module.entropy().isfinite() and module.entropy() > 0


def test_self_attention_belongs_to_contexts():
    with pytest.raises(UserError, match=r"distillation\.self_attention=false.*pap.*atrc, search"):
        DistillationConfig(name="pap", self_attention=False)
