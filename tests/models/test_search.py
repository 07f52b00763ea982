import math
from dataclasses import replace

import pytest
import torch

from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS
from atrc_exp.models import ATRC, SearchATRC
from atrc_exp.models.search import ArchSample, gumbel_noise

TASKS = ("a", "b")
C = 6
BLOCKS = 4


@pytest.fixture
def search() -> SearchATRC:
    module = SearchATRC(TASKS, C, kernel_size=3)
    for fusion in module.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    return module


@pytest.fixture
def inputs():
    features = {task: torch.randn(2, C, 5, 6) for task in TASKS}
    return features, {task: torch.randn(2, 3, 5, 6) for task in TASKS}


def sample(temperature: float = 0.7, step: int = 0) -> ArchSample:
    return ArchSample(temperature, gumbel_noise(BLOCKS, seed=3, step=step))


def record_computed(module: SearchATRC) -> set[str]:
    """Names of the context modules that run from now on."""
    computed = set()
    module.blocks.register_forward_pre_hook(lambda _, given: computed.update(".".join(block) for block in given[0]))
    return computed


def test_blocks_and_candidates(search):
    assert list(search.blocks["a"]["b"]) == ["global", "local", "tlabel", "slabel"]
    assert list(search.blocks["a"]["a"]) == ["global", "local", "tlabel"]
    assert search.label_tasks == TASKS
    assert search.arch.shape == (BLOCKS, 5) and not search.arch.any()
    assert search.frozen.dtype == torch.int64 and (search.frozen == -1).all()
    assert {"arch", "frozen", "blocks.a.b.slabel.query.0.weight"} <= set(search.state_dict())
    assert not any(isinstance(m, torch.nn.Dropout2d) and m.p for m in search.modules())


def test_probabilities_and_entropy_count_valid_candidates_only(search):
    with torch.no_grad():
        search.arch[:, 4] = 50.0  # must not matter on the diagonal
        search.arch[1:3, 4] = 0.0
    expected = torch.tensor([[0.25] * 4 + [0], [0.2] * 5, [0.2] * 5, [0.25] * 4 + [0]])
    torch.testing.assert_close(search.probabilities(), expected)
    assert float(search.entropy().detach()) == pytest.approx((2 * math.log(4) + 2 * math.log(5)) / 4)


def test_entropy_gradient_is_finite_and_right(search):
    with torch.no_grad():
        search.arch.copy_(torch.randn(BLOCKS, 5))
        search.arch[1, 0] = 200.0  # the other probabilities underflow
    search.frozen[2] = 1  # a frozen block stays in the mean
    search.entropy().backward()
    p = search.probabilities().double()
    for block in range(BLOCKS):
        valid = [i for i in range(5) if i != 4 or block in (1, 2)]
        entropy = -sum(float(p[block, i]) * math.log(float(p[block, i])) for i in valid if p[block, i] > 0)
        for i in valid:
            if p[block, i] > 0:
                expected = -float(p[block, i]) * (math.log(float(p[block, i])) + entropy) / BLOCKS
                assert float(search.arch.grad[block, i]) == pytest.approx(expected, abs=1e-6)
    assert search.arch.grad.isfinite().all()
    assert not search.arch.grad[[0, 3], 4].any()


def test_named_candidates_are_mixed_and_no_others(inputs):
    module = SearchATRC(TASKS, C, kernel_size=3, types=["axial", "none", "local"])
    for fusion in module.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    assert module.types == ("none", "local", "axial") and module.arch.shape == (BLOCKS, 3)
    assert module.label_tasks == () and set(module.blocks["a"]["a"]) == {"local", "axial"}
    with torch.no_grad():
        module.arch.copy_(torch.randn(BLOCKS, 3))
    features, _ = inputs
    draw = ArchSample(0.7, gumbel_noise(BLOCKS, 3, 0, len(module.types)))
    refined = module.eval()(features, {}, draw)["a"]
    outputs = []
    for block, source in enumerate(TASKS):
        z = ((module.arch.detach()[block] + draw.noise[block]) / draw.temperature).softmax(0)
        blocks, pair = module.blocks["a"][source], (features["a"], features[source])
        outputs.append(z[1] * blocks["local"](*pair) + z[2] * blocks["axial"](*pair))
    torch.testing.assert_close(refined, module.fusions["a"](features["a"], outputs))
    with torch.no_grad():
        module.arch.copy_(torch.eye(3)[[2, 0, 1, 2]])
    found = module.genotype()
    assert [found.blocks[t][s] for t, s in found.pairs()] == ["axial", "none", "local", "axial"]
    assert list(found.details["probabilities"]["a"]["a"]) == ["none", "local", "axial"]


def test_label_maps_are_read_where_a_candidate_reads_them():
    assert SearchATRC(TASKS, C, types=["none", "slabel"]).label_tasks == TASKS
    assert SearchATRC(("a",), C, types=["none", "slabel"]).label_tasks == ()  # no S-label on the diagonal


@pytest.mark.parametrize("options", [{"types": ["local", "axial"], "self_attention": False}, {"types": ["slabel"]}])
def test_a_block_without_candidates_is_refused(options):
    with pytest.raises(UserError, match="none"):
        SearchATRC(TASKS, C, **options)


def test_gumbel_noise_depends_on_seed_and_step_alone():
    first = gumbel_noise(BLOCKS, 3, 7)
    torch.rand(10)
    assert torch.equal(first, gumbel_noise(BLOCKS, 3, 7))
    assert not torch.equal(first, gumbel_noise(BLOCKS, 3, 8))
    assert not torch.equal(first, gumbel_noise(BLOCKS, 7, 3))
    many = gumbel_noise(20_000, 0, 0)
    assert float(many.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(many.var()) == pytest.approx(math.pi**2 / 6, rel=0.03)


def test_weights_are_gumbel_softmax_of_the_logits(search, inputs):
    """The output equals the mixture written out, for one target."""
    with torch.no_grad():
        search.arch.copy_(torch.randn(BLOCKS, 5))
    draw = sample()
    features, logits = inputs
    refined = search.eval()(features, logits, draw)["a"]
    density = {t: x.flatten(2).softmax(2).view_as(x) for t, x in logits.items()}
    outputs = []
    for block, source in enumerate(TASKS):
        valid = 4 if source == "a" else 5
        z = [
            math.exp(float(search.arch.detach()[block, i] + draw.noise[block, i]) / draw.temperature)
            for i in range(valid)
        ]
        z = [x / sum(z) for x in z]
        modules, pair = search.blocks["a"][source], (features["a"], features[source])
        mixture = z[1] * modules["global"](*pair) + z[2] * modules["local"](*pair)
        mixture = mixture + z[3] * modules["tlabel"](*pair, density["a"])
        if source != "a":
            mixture = mixture + z[4] * modules["slabel"](*pair, density[source])
        outputs.append(mixture)
    torch.testing.assert_close(refined, search.fusions["a"](features["a"], outputs))


def test_block_that_froze_unknown_to_the_host_computes_all_and_gives_the_frozen_one(search, inputs):
    """The output and every gradient of a step that knows are those of one that does not know yet."""
    with torch.no_grad():
        search.arch.copy_(torch.randn(BLOCKS, 5))
        search.frozen.copy_(torch.tensor([1, -1, 0, 3]))
    steps = []
    for known in ((1, -1, 0, 3), (-1, -1, 0, -1), None):
        search.zero_grad(set_to_none=False)
        refined = search.train()(*inputs, replace(sample(), chosen=known))
        sum((x * x.detach().cos()).sum() for x in refined.values()).backward()
        gradients = {name: p.grad.clone() for name, p in search.named_parameters() if p.grad is not None}
        steps.append((refined, gradients))
    (expected, wanted), (late, found), (read, _) = steps
    for task in TASKS:
        torch.testing.assert_close(late[task], expected[task])
        torch.testing.assert_close(read[task], expected[task])
    assert not found["arch"][[0, 2, 3]].any() and found["arch"][1].any()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted.get(name, torch.zeros_like(gradient)), msg=name)


def test_step_that_is_told_what_is_frozen_reads_no_values(search, inputs):
    """Tensors of the meta device have none to read."""
    features, logits = ({task: x.to("meta") for task, x in maps.items()} for maps in inputs)
    refined = search.to("meta").train()(features, logits, replace(sample(), chosen=(1, -1, 0, 3)))
    assert {task: x.shape for task, x in refined.items()} == {task: x.shape for task, x in features.items()}


def test_training_needs_a_sample(search, inputs):
    with pytest.raises(ValueError, match="ArchSample"):
        search.train()(*inputs)


def test_evaluation_takes_the_argmax_and_the_frozen_index(search, inputs):
    with torch.no_grad():
        search.arch.copy_(torch.eye(5)[[2, 4, 0, 3]])
        search.frozen[0] = 1  # frozen earlier, though the logits have moved on
    computed = record_computed(search)
    with torch.no_grad():
        refined = search.eval()(*inputs)
    assert computed == {"a.a.global", "a.b.slabel", "b.b.tlabel"}
    genotype = search.genotype()
    assert [genotype.blocks[t][s] for t, s in genotype.pairs()] == ["global", "slabel", "none", "tlabel"]
    assert genotype.details["frozen"]["a"] == {"a": True, "b": False}
    probabilities = genotype.details["probabilities"]["b"]["b"]
    assert list(probabilities) == list(CONTEXTS[:4]) and sum(probabilities.values()) == pytest.approx(1)

    fixed = ATRC(genotype, C, kernel_size=3).eval()  # the same network without search gives the same features
    state = fixed.state_dict()
    for name, value in search.state_dict().items():
        if name in state and state[name].shape == value.shape:
            state[name] = value
    state["fusions.b.context.0.weight"] = search.fusions["b"].context[0].weight[:, C // 2 :]  # b <- a is none
    fixed.load_state_dict(state)
    for norm in (m for m in fixed.blocks.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        assert (norm.weight == 1).all() and not norm.bias.any()  # as the search's norms without affine part
    with torch.no_grad():
        expected = fixed(*inputs)
    for task in TASKS:
        torch.testing.assert_close(refined[task], expected[task])


def test_candidates_of_weight_zero_are_not_computed(search, inputs):
    computed = record_computed(search)
    search.frozen.copy_(torch.tensor([1, -1, 0, 3]))
    refined = search.train()(*inputs, sample())
    assert computed == {"a.a.global", "a.b.global", "a.b.local", "a.b.tlabel", "a.b.slabel", "b.b.tlabel"}
    sum(x.square().sum() for x in refined.values()).backward()
    for norm in (m for m in search.blocks.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        ran = norm.num_batches_tracked == 1
        assert ran == bool(norm.running_mean.any())
    assert search.blocks["b"]["b"]["tlabel"].value[1].num_batches_tracked == 1
    assert search.blocks["b"]["b"]["global"].value[1].num_batches_tracked == 0
    assert search.blocks["a"]["a"]["local"].query[0].weight.grad is None
    assert search.arch.grad[1].any() and not search.arch.grad[[0, 2, 3]].any()


def test_freezing_is_final(search, inputs):
    gap = 0.3
    with torch.no_grad():
        search.arch[1] = torch.tensor([0.0, 0, 0, 0, 1.5])  # 0.528 against 0.118
        search.arch[2] = torch.tensor([0.0, 1.0, 0, 0, 0])  # 0.405 against 0.149
    search.eval()(*inputs)
    assert (search.frozen == -1).all()  # evaluation freezes nothing
    assert search.freeze_converged(gap).tolist() == [False, True, False, False]
    assert search.frozen.tolist() == [-1, 4, -1, -1]
    with torch.no_grad():
        search.arch[1] = torch.tensor([3.0, 0, 0, 0, 0])
    assert not search.freeze_converged(gap).any()
    assert search.frozen.tolist() == [-1, 4, -1, -1]
    assert search.genotype().blocks["a"]["b"] == "slabel"
    restored = SearchATRC(TASKS, C, kernel_size=3)
    restored.load_state_dict(search.state_dict())
    assert restored.frozen.tolist() == [-1, 4, -1, -1]


def test_gap_of_exactly_the_threshold_freezes(search):
    with torch.no_grad():
        search.arch[0, 0] = 1.0
    top, second = search.probabilities()[0].topk(2).values
    assert search.freeze_converged(float(top - second)).nonzero().tolist() == [[0]]


def test_first_architecture_gradient_is_zero(inputs):
    """The fusion starts at zero, so no candidate matters in the first step (only the entropy moves the logits)."""
    module = SearchATRC(TASKS, C, kernel_size=3)
    sum(x.square().sum() for x in module(*inputs, sample()).values()).backward()
    assert not module.arch.grad.any()
