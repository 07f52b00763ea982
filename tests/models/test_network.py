"""What every choice of `distillation` must do, and what the final and auxiliary losses may train."""

import copy

import pytest
import torch

from atrc_exp.errors import UserError
from atrc_exp.models.distillation import DISTILLATIONS
from atrc_exp.models.search import ArchSample, gumbel_noise
from atrc_exp.normalisation import Normalisation

TASKS = ("semseg", "depth", "normals", "edge")
FINAL = {"semseg": 40, "depth": 1, "normals": 3, "edge": 1}
REGIONS = {"semseg": 40, "depth": 40, "normals": 40, "edge": 2}
LABEL_READERS = ("atrc", "search", "tlabel", "slabel")
NETWORKS = [(name, None) for name in DISTILLATIONS if name != "custom"]  # that one is whatever the user names
NETWORKS += [(name, "fpm") for name in ("none", "atrc", "search", "global", "padnet_c")]


def draw(network, step: int = 0) -> ArchSample | None:
    return ArchSample(1.0, gumbel_noise(len(network.search.pairs), 0, step)) if network.search else None


def loss(maps: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(((x * torch.randn_like(x)).mean() for x in maps.values()), torch.zeros(()))


def initial_loss(maps: dict[str, list[torch.Tensor]]) -> torch.Tensor:
    return sum((loss(dict(enumerate(pyramid))) for pyramid in maps.values()), torch.zeros(()))


@pytest.mark.parametrize(("name", "neck"), NETWORKS)
@pytest.mark.parametrize("size", [(64, 96), (75, 53)])
def test_contract(make_network, name, neck, size):
    network = make_network(name, neck=neck, channels=8, kernel_size=3).train()
    image = torch.randn(2, 3, *size)
    final, aux, initial = network(image, draw(network))
    quarter = [-(-pixels // 4) for pixels in size]
    assert {t: x.shape for t, x in final.items()} == {t: (2, c, *quarter) for t, c in FINAL.items()}
    assert {t: x.shape for t, x in aux.items()} == {
        t: (2, REGIONS[t], *quarter) for t in TASKS if name in LABEL_READERS
    }
    strides = network.backbone.reductions if network.neck is not None else []
    sizes = [tuple(-(-pixels // stride) for pixels in size) for stride in strides]
    assert {t: [x.shape for x in maps] for t, maps in initial.items()} == {
        t: [(2, FINAL[t], *s) for s in sizes] for t in TASKS if sizes
    }
    (loss(final) + loss(aux) + initial_loss(initial)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key

    network.eval()
    with torch.no_grad():
        final, aux, initial = network(image[:1])
        pair = network(image).final
    assert {t: x.shape for t, x in final.items()} == {t: (1, c, *size) for t, c in FINAL.items()}
    assert aux == initial == {}
    for task in TASKS:  # images of a batch do not see each other
        torch.testing.assert_close(final[task], pair[task][:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "neck"), [row for row in NETWORKS if row[0] != "atrc"])
def test_single_task(make_network, name, neck):
    network = make_network(name, neck=neck, tasks=("depth",), channels=8, kernel_size=3).train()
    final, aux, initial = network(torch.randn(2, 3, 64, 64), draw(network))
    (loss(final) + loss(aux) + initial_loss(initial)).backward()
    assert list(final) == ["depth"]
    assert list(aux) == (["depth"] if name in LABEL_READERS else [])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", ["atrc", "search"])
def test_channels_last_gives_the_same(make_network, name):
    network = make_network(name, channels=8, kernel_size=3).eval()
    for fusion in network.distillation.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = network(image, draw(network)).final
        network = network.to(memory_format=torch.channels_last)
        final = network(image.to(memory_format=torch.channels_last), draw(network)).final
    for task in TASKS:
        torch.testing.assert_close(final[task], expected[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "neck"), [("atrc", "shared"), ("search", "shared"), ("search", "fpm"), ("mti_net", "fpm")]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite(make_network, name, neck, dtype):
    network = make_network(name, neck=neck, channels=8, kernel_size=3).train()
    for fusion in getattr(network.distillation, "fusions", {}).values():
        torch.nn.init.ones_(fusion.context[1].weight)
    with torch.autocast("cpu", dtype=dtype):
        final, aux, initial = network(torch.randn(2, 3, 64, 96), draw(network))
    maps = [*final.values(), *aux.values(), *(x for pyramid in initial.values() for x in pyramid)]
    loss({index: x.float() for index, x in enumerate(maps)}).backward()
    assert all(x.isfinite().all() for x in maps)
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_hrnet_at_an_odd_size(make_network):
    network = make_network("atrc", backbone="hrnet_w18_small_v2").eval()
    with torch.no_grad():
        final = network(torch.randn(1, 3, 53, 70)).final  # 425 x 560 over 8: halves that do not fit
    assert final["semseg"].shape == (1, 40, 53, 70)


def test_parameter_groups_are_disjoint_and_complete(make_network):
    for name in ("none", "tlabel", "search"):
        network = make_network(name, channels=8)
        groups = network.backbone_parameters(), network.head_parameters(), network.architecture_parameters()
        ids = [id(p) for group in groups for p in group]
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(p) for p in network.parameters()}
        assert [p.shape for p in groups[2]] == ([(16, 5)] if name == "search" else [])


@pytest.mark.parametrize("name", ["tlabel", "search"])
def test_auxiliary_heads_are_detached_but_their_maps_are_not(make_network, name):
    network = make_network(name, tasks=("semseg", "edge"), channels=8, kernel_size=3).train()
    for fusion in network.distillation.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)  # contexts count from the first step on
    image = torch.randn(2, 3, 64, 64)

    loss(network(image, draw(network)).aux).backward()
    assert all(p.grad is None for p in network.backbone_parameters())
    assert all(p.grad is None for p in network.heads.parameters())
    assert all(p.grad.any() for p in network.aux_heads.parameters() if p.dim() == 4)

    network.zero_grad()
    loss(network(image, draw(network)).final).backward()
    assert all(p.grad.any() for p in network.aux_heads.parameters() if p.dim() == 4)


def test_final_losses_reach_the_backbone_through_the_features_only(make_network):
    """The backbone's gradient is what it is with the label maps held constant."""
    network = make_network("tlabel", tasks=("semseg", "edge"), channels=8, dropout=0.0).train()
    for fusion in network.distillation.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    image, first = torch.randn(2, 3, 64, 64), next(iter(network.backbone.parameters()))
    weights = {t: torch.randn(2, FINAL[t], 16, 16) for t in ("semseg", "edge")}

    def gradient() -> torch.Tensor:
        final = network(image).final
        return torch.autograd.grad(sum((final[t] * weights[t]).mean() for t in final), first)[0]

    expected = gradient()
    for head in network.aux_heads.values():
        head.register_forward_hook(lambda _module, _input, output: output.detach())
    torch.testing.assert_close(gradient(), expected)


def test_auxiliary_heads_read_the_tasks_own_input_detached(make_network):
    network = make_network("tlabel", neck="fpm", tasks=("semseg", "edge"), channels=8).train()
    inputs = {}
    for part in ("heads", "aux_heads"):
        for task, head in getattr(network, part).items():
            head.register_forward_pre_hook(lambda _m, args, key=(part, task): inputs.update({key: args[0]}))
    loss(network(torch.randn(2, 3, 64, 64)).aux).backward()
    for task in ("semseg", "edge"):
        assert torch.equal(inputs["heads", task], inputs["aux_heads", task])
    assert not torch.equal(inputs["heads", "semseg"], inputs["heads", "edge"])
    assert all(p.grad is None for part in (network.backbone, network.neck) for p in part.parameters())


class Branched(torch.nn.Module):
    """A backbone with a trunk of its own for every task, which see different images."""

    def __init__(self, trunk, signs):
        super().__init__()
        self.trunks = torch.nn.ModuleDict({task: copy.deepcopy(trunk) for task in signs})
        self.signs, self.channels = signs, trunk.channels

    def forward(self, image):
        return {task: trunk(self.signs[task] * image) for task, trunk in self.trunks.items()}


def test_backbone_may_be_branched_by_task(make_network):
    network = make_network("none", tasks=("depth", "edge"), channels=8).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = {"depth": network(image).final["depth"], "edge": network(-image).final["edge"]}
        network.backbone = Branched(network.backbone, {"depth": 1, "edge": -1})
        torch.testing.assert_close(network(image).final, expected)


def test_initial_logit_layers(make_network):
    network = make_network("tlabel")
    for conv in (*network.predictors.values(), *(head[-1] for head in network.aux_heads.values())):
        assert not conv.bias.any()
    weights = torch.cat([head[-1].weight.detach().flatten() for head in network.aux_heads.values()])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.05)
    assert float(network.predictors["semseg"].weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_default_channels_are_a_quarter_of_the_backbone(make_network):
    network = make_network("local")
    joined = sum(network.backbone.channels)
    assert network.predictors["depth"].in_channels == joined // 4
    assert network.distillation.blocks["depth"]["edge"]["local"].query[0].out_channels == joined // 8


def test_valid_mask_reaches_the_contexts_at_their_stride(make_network):
    network = make_network("global", tasks=("depth", "edge"), channels=8, mask_padding=True).eval()
    for fusion in network.distillation.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    seen = []
    network.distillation.blocks.register_forward_pre_hook(lambda _module, args: seen.append(args[1].valid))
    valid = torch.zeros(1, 1, 64, 96, dtype=torch.bool)
    valid[..., 8:56, 16:96] = True
    image = torch.randn(1, 3, 64, 96)
    masked, plain = network(image, valid=valid).final["depth"], network(image).final["depth"]
    expected = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    expected[..., 2:14, 4:24] = True
    assert torch.equal(seen[0], expected) and seen[1] is None
    assert not torch.allclose(masked, plain)


def test_padding_that_a_colour_looks_like_is_refused(make_network, monkeypatch):
    make_network("global", tasks=("depth",), channels=8, mask_padding=True)
    black = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    monkeypatch.setattr("atrc_exp.models.backbones.weights.IMAGENET", black)
    make_network("global", tasks=("depth",), channels=8)
    with pytest.raises(UserError, match=r"distillation\.mask_padding"):
        make_network("global", tasks=("depth",), channels=8, mask_padding=True)


def test_genotype_of_the_same_tasks_in_another_order_gives_the_same_network(make_network, tmp_path):
    from atrc_exp.genotype import PUBLISHED_GENOTYPES, Genotype, save

    published = PUBLISHED_GENOTYPES["nyud_hrnet18"]
    save(Genotype(published.tasks[::-1], published.blocks), tmp_path / "genotype.json")
    first, second = (
        make_network("atrc", channels=8),
        make_network("atrc", channels=8, genotype=str(tmp_path / "genotype.json")),
    )
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(first.eval()(image).final, second.eval()(image).final)


def test_mistakes_are_named(make_network):
    with pytest.raises(UserError, match=r"semseg, depth, normals, edge.*run has depth, edge"):
        make_network("atrc", tasks=("depth", "edge"))
    with pytest.raises(UserError, match=r"did you mean global.*none, cross_stitch"):
        make_network("globl")


@pytest.mark.parametrize("name", ["atrc", "tlabel", "slabel"])
def test_regions_from_labels(make_network, name):
    """No auxiliary maps, regions that matter, finite gradients where regions are empty or nothing is labelled."""
    network = make_network(name, channels=8, kernel_size=3, regions="labels").train()
    for fusion in network.distillation.fusions.values():
        torch.nn.init.ones_(fusion.context[1].weight)
    image = torch.randn(2, 3, 64, 96)
    regions = {task: torch.randint(0, number, (2, 64, 96)) for task, number in REGIONS.items()}
    regions["semseg"][:] = 255
    regions["edge"][0] = 0
    final, aux, _ = network(image, regions=regions)
    assert aux == {} and len(network.aux_heads) == 0
    loss(final).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    network.eval()
    with torch.no_grad():
        before = network(image, regions=regions).final
        after = network(image, regions={**regions, "depth": regions["depth"].flip(2)}).final
    assert any(not torch.equal(before[task], after[task]) for task in TASKS)
    with pytest.raises(ValueError, match="regions"):
        network(image)
    with pytest.raises(ValueError, match="regions"):
        make_network(name, channels=8)(image, regions=regions)
