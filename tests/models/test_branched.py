"""Branched encoders against the shared network, against single-task networks, and the supergraph they come from."""

import copy

import pytest
import small_rooms
import torch

from atrc_exp.bmtas.supergraph import BranchSearch, build_branch_search, layer_gflops
from atrc_exp.bmtas.tree import Branching, refine, save
from atrc_exp.config import BackboneConfig, BranchingConfig, Config, DistillationConfig, NeckConfig, StageConfig
from atrc_exp.errors import UserError
from atrc_exp.genotype import uniform
from atrc_exp.models import build_network
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.backbones.branched import BranchedBackbone, cut
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.tasks import build_tasks

NAMES = ("semseg", "depth", "edge")
TASKS = build_tasks(NAMES, num_classes={"semseg": 5}, edge_positive_weight=0.8, edge_max_distance=0.011)
SMALL = BackboneConfig(name="resnet10t", weights="random", out_indices=[1, 4], output_stride=16)
STAGES = [f"layer{n}" for n in range(1, 5)]
BLOCKS = [f"{stage}.0" for stage in STAGES]


def branching(*texts: str, layers: list[str] = BLOCKS) -> Branching:
    rows = {name: tuple(tuple(g.split()) for g in text.split("|")) for name, text in zip(layers, texts, strict=True)}
    return Branching(NAMES, rows)


SHARED = branching(*["semseg depth edge"] * 4)
SPLIT = branching(*["semseg | depth | edge"] * 4)
TREE = branching("semseg depth edge", "semseg edge | depth", "semseg edge | depth", "semseg | depth | edge")


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return build_backbone(SMALL).eval()


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def config(*, distillation: str = "none", file: str | None = None, layers: str = "block") -> Config:
    return Config(
        dataset=small_rooms.dataset(),
        backbone=SMALL,
        neck=NeckConfig(name="skip"),
        stage=StageConfig(name="profile"),
        distillation=DistillationConfig(name=distillation, channels=8),
        branching=BranchingConfig(file=file, layers=layers),
        genotype="given" if distillation == "atrc" else None,
    )


@pytest.mark.parametrize("layers", [BLOCKS, STAGES])
def test_nothing_split_is_the_shared_backbone(backbone, image, layers):
    branched = BranchedBackbone(backbone, branching(*["semseg depth edge"] * 4, layers=layers), NAMES).eval()
    assert sum(p.numel() for p in branched.parameters()) == sum(p.numel() for p in backbone.parameters())
    with torch.no_grad():
        expected, pyramids = backbone(image), branched(image)
    for task in NAMES:
        for ours, theirs in zip(pyramids[task], expected, strict=True):
            assert torch.equal(ours, theirs)


def _perturbed(branched: BranchedBackbone) -> BranchedBackbone:
    """Every copy gets weights of its own."""
    torch.manual_seed(5)
    for parameter in branched.layers.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return branched


@pytest.mark.parametrize("tree", [SPLIT, TREE])
def test_every_task_has_a_backbone_of_its_own_made_of_the_copies_on_its_way(backbone, image, tree):
    branched = _perturbed(BranchedBackbone(backbone, tree, NAMES)).eval()
    with torch.no_grad():
        pyramids = branched(image)
        for task in NAMES:
            own = copy.deepcopy(backbone)
            for stage, copies, groups in zip(STAGES, branched.layers, tree.layers.values(), strict=True):
                index = next(number for number, group in enumerate(groups) if task in group)
                getattr(own.model, stage)[0] = copies[index]
            for ours, theirs in zip(pyramids[task], own(image), strict=True):
                torch.testing.assert_close(ours, theirs)
    assert not torch.equal(pyramids["semseg"][-1], pyramids["edge"][-1])


def test_gradient_of_a_task_reaches_its_own_branch_only(backbone, image):
    branched = BranchedBackbone(backbone, TREE, NAMES)
    branched(image)["depth"][-1].mean().backward()
    reached = [[block.conv1.weight.grad is not None for block in copies] for copies in branched.layers]
    assert reached == [[True], [False, True], [False, True], [False, True, False]]


@pytest.mark.parametrize("distillation", ["none", "search", "atrc"])
def test_network_with_a_branched_encoder_trains_with_and_without_contexts(tmp_path, image, distillation):
    save(TREE, tmp_path / "branching.json")
    genotype = uniform(NAMES, "slabel") if distillation == "atrc" else None
    torch.manual_seed(0)
    network = build_network(config(distillation=distillation, file=str(tmp_path)), TASKS, genotype)
    sample = ArchSample(1.0, gumbel_noise(9, 0, 0)) if distillation == "search" else None
    output = network(image, sample)
    assert {t: x.shape for t, x in output.final.items()} == {t.name: (2, t.channels, 12, 16) for t in TASKS}
    assert set(output.aux) == (set() if distillation == "none" else set(NAMES))
    sum(x.square().mean() for x in output.final.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.backbone_parameters())


def test_shared_branching_gives_the_multi_task_network(tmp_path, image):
    save(SHARED, tmp_path / "branching.json")
    shared = build_network(config(), TASKS).eval()
    branched = build_network(config(file=str(tmp_path)), TASKS).eval()
    state = {}
    for name in branched.state_dict():
        source = name
        if name.startswith("backbone.layers."):
            layer, rest = name.removeprefix("backbone.layers.").split(".0.", 1)
            source = f"backbone.model.layer{int(layer) + 1}.0.{rest}"
        elif name.startswith("backbone.stem."):
            number, rest = name.removeprefix("backbone.stem.").split(".", 1)
            source = f"backbone.model.{('conv1', 'bn1', 'act1', 'maxpool')[int(number)]}.{rest}"
        state[name] = shared.state_dict()[source]
    branched.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(branched(image).final, shared(image).final)


@pytest.mark.parametrize(
    ("branches", "tasks", "message"),
    [
        (SHARED, ("semseg", "depth"), "for the tasks semseg, depth, edge, the run has semseg, depth"),
        (branching("semseg depth edge", layers=["layer1.0"]), NAMES, "the layers layer1.0, resnet10t has layer1.0, "),
    ],
)
def test_branchings_that_do_not_fit_are_refused(backbone, branches, tasks, message):
    with pytest.raises(UserError, match=message):
        BranchedBackbone(backbone, branches, tasks)


def test_only_resnets_are_cut():
    other = build_backbone(BackboneConfig(name="mobilenetv3_small_050", weights="random"))
    with pytest.raises(UserError, match=r"mobilenetv3_small_050: only ResNets .*resnet50"):
        cut(other, "block")
    stem = build_backbone(BackboneConfig(name="resnet10t", weights="random", out_indices=[0, 4]))
    with pytest.raises(UserError, match="out_indices from 1 on"):
        cut(stem, "block")


def test_resnet50_has_16_layers_whose_cost_is_counted_by_hand():
    dilated = BackboneConfig(name="resnet50", weights="random", out_indices=[1, 4], output_stride=16)
    with torch.device("meta"):
        layers = cut(build_backbone(dilated), "block")
    names = [f"layer{s}.{b}" for s, blocks in enumerate((3, 4, 6, 3), 1) for b in range(blocks)]
    assert list(layers.layers) == names and layers.outputs == ["layer1.2", "layer4.2"]
    costs = dict(zip(names, layer_gflops(layers.stem, list(layers.layers.values())).tolist(), strict=True))
    assert costs["layer1.1"] == pytest.approx(2 * 128**2 * (2 * 256 * 64 + 9 * 64 * 64) / 1e9)
    assert costs["layer4.0"] == pytest.approx(2 * 32**2 * (1024 * 512 + 9 * 512**2 + 512 * 2048 + 1024 * 2048) / 1e9)


@pytest.fixture
def search(image) -> BranchSearch:
    torch.manual_seed(0)
    return build_branch_search(config(), TASKS)


def test_supergraph_mixes_the_copies_by_their_weights(search, image):
    search.eval()
    torch.manual_seed(5)
    for parameter in search.encoder.layers.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    weights = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.1, 0.0, 0.9]])
    with torch.no_grad():
        x, outputs = search.encoder.stem(image), []
        for copies, row in zip(search.encoder.layers, weights, strict=True):
            x = torch.stack([w * copy(x) for w, copy in zip(row, copies, strict=True)]).sum(0)
            outputs.append(x)
        for ours, theirs in zip(search.encoder(image, weights), (outputs[0], outputs[3]), strict=True):
            torch.testing.assert_close(ours, theirs)
        one_hot = torch.nn.functional.one_hot(torch.tensor([2, 0, 1, 2]), 3).float()
        torch.testing.assert_close(search(image, "edge", [2, 0, 1, 2]), search(image, "edge", one_hot))


def test_copies_start_equal_without_scale_in_their_last_batch_norm(search):
    for copies in search.encoder.layers:
        first, *others = (copy.state_dict() for copy in copies)
        assert len(others) == 2
        assert all(torch.equal(value, other[key]) for other in others for key, value in first.items())
        assert not copies[0].bn2.affine and copies[0].bn1.affine


def test_stage_granularity_has_one_choice_a_stage():
    search = build_branch_search(config(layers="stage"), TASKS)
    assert search.encoder.names == STAGES and search.arch.shape == (4, 3, 3)
    assert search.encoder.layers[3][0][-1].bn2.affine is False


def test_gradient_of_the_logits_is_that_of_the_drawn_task_only(search, image):
    for parameter in search.encoder.layers.parameters():  # equal copies are as good as one another
        parameter.data += 0.05 * torch.randn_like(parameter)
    search(image, "depth", search.drawn_path("depth", 1.0)).square().mean().backward()
    assert (search.arch.grad[:, 1] != 0).any(1).all() and not search.arch.grad[:, (0, 2)].any()


def test_decoded_search_is_the_tree_of_the_most_probable_copies(search):
    choices = [(0, 0, 0), (1, 2, 1), (0, 0, 0), (2, 1, 0)]
    with torch.no_grad():
        search.arch.copy_(torch.nn.functional.one_hot(torch.tensor(choices), 3) * 3.0)
    found = search.branching()
    assert found.layers == refine(NAMES, dict(zip(BLOCKS, choices, strict=True))) == TREE.layers
    assert search.best_path("depth") == [0, 2, 0, 1] and search.own_path("depth") == [1, 1, 1, 1]
    costs = search.encoder.gflops.tolist()
    gflops = found.details["gflops"]
    assert gflops["branched"] == pytest.approx(costs[0] + 2 * costs[1] + 2 * costs[2] + 3 * costs[3])
    assert gflops["shared"] == pytest.approx(sum(costs)) and gflops["split"] == pytest.approx(3 * sum(costs))
    assert gflops["expected_published"] >= gflops["expected_exact"]
    assert found.details["probabilities"]["layer2.0"]["depth"][2] > 0.9


def test_statistics_are_forgotten(search, image):
    search.train()
    search(image, "depth", [0, 0, 0, 0])
    norm = search.encoder.layers[0][0].bn1
    assert norm.num_batches_tracked == 1
    search.encoder.reset_statistics()
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any() and (norm.running_var == 1).all()
