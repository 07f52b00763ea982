"""ATRC and its search at every scale: plain loops over single-scale modules, what scales share, and what is counted."""

import pytest
import torch
from small_rooms import as_typed

from atrc_exp.config.derived import build_tasks_of
from atrc_exp.errors import UserError
from atrc_exp.genotype import CONTEXTS, PUBLISHED_GENOTYPES, Genotype, row_of, save, scale_of, task_of, uniform
from atrc_exp.losses import build_losses
from atrc_exp.models import ATRC, SearchATRC, build_network
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.inspection import BlockView
from atrc_exp.models.profile import choice_costs, profile
from atrc_exp.models.search import ArchSample, ScaledSearch, gumbel_noise
from atrc_exp.resizing import resize

TASKS = ("a", "b")
C = (6, 8)
SIZES = ((6, 7), (3, 4))
SIZE = (32, 48)
PUBLISHED = PUBLISHED_GENOTYPES["nyud_hrnet18"]
SCALES = 4  # of the backbone


@pytest.fixture
def pyramids():
    return {t: [torch.randn(2, c, *size) for c, size in zip(C, SIZES, strict=True)] for t in TASKS}


@pytest.fixture
def logits():
    return {row_of(t, i): torch.randn(2, 3, *size) for i, size in enumerate(SIZES) for t in TASKS}


def untouched_by_zeros(module):
    """Let contexts reach the output: the batch norm behind them starts at zero."""
    for name, parameter in module.named_parameters():
        if name.endswith("context.1.weight"):
            torch.nn.init.ones_(parameter)
    return module


def of_scale(scale, pyramids, logits):
    return {t: maps[scale] for t, maps in pyramids.items()}, {t: logits[row_of(t, scale)] for t in TASKS}


@pytest.fixture
def different(tmp_path):
    """The file of a genotype whose scales differ: the published one, turned by a row from scale to scale."""
    tasks = PUBLISHED.tasks
    rows = {row_of(t, i): dict.fromkeys(tasks, "global") for i in range(SCALES) for t in tasks}
    for i in range(SCALES):
        rows[row_of(tasks[i], i)] = {"semseg": "tlabel", "depth": "none", "normals": "local", "edge": "tlabel"}
    save(Genotype(tasks, rows), tmp_path / "genotype.json")
    return str(tmp_path / "genotype.json")


@pytest.mark.parametrize("separate", [True, False])
def test_search_is_a_loop_over_single_scale_searches(separate, pyramids, logits):
    """Scales that share their blocks share the draw too; where each has its own it has its own rows of both."""
    module = untouched_by_zeros(ScaledSearch(TASKS, C, separate=separate, kernel_size=3, types=CONTEXTS))
    blocks = 8 if separate else 4
    with torch.no_grad():
        module.arch.copy_(torch.randn(blocks, len(CONTEXTS)))
    module.frozen[1] = CONTEXTS.index("local")
    noise = gumbel_noise(blocks, 0, 0)
    found = module(pyramids, logits, ArchSample(0.7, noise))
    sum(x.square().sum() for maps in found.values() for x in maps).backward()
    gradient = torch.zeros_like(module.arch)
    for scale, channels in enumerate(C):
        own = slice(4 * scale, 4 * scale + 4) if separate else slice(4)
        plain = SearchATRC(TASKS, channels, kernel_size=3)
        plain.load_state_dict(module.scales[scale].state_dict(), strict=False)
        with torch.no_grad():
            plain.arch.copy_(module.arch[own])
        plain.frozen.copy_(module.frozen[own])
        expected = plain(*of_scale(scale, pyramids, logits), ArchSample(0.7, noise[own]))
        for task in TASKS:
            torch.testing.assert_close(found[task][scale], expected[task], rtol=1e-4, atol=1e-5)
        sum(x.square().sum() for x in expected.values()).backward()
        gradient[own] += plain.arch.grad
    torch.testing.assert_close(module.arch.grad, gradient, rtol=1e-3, atol=1e-3)


def test_network_is_a_loop_over_single_scale_modules_and_heads(make_network, different):
    network = untouched_by_zeros(make_network("atrc", neck="fpm", genotype=different, kernel_size=3, scales="separate"))
    network.eval()
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        found = network(image).final
        maps = network.neck(network.backbone(image), SIZE).pyramids
        genotype, refined = network.distillation.genotype, {t: [] for t in PUBLISHED.tasks}
        for scale, width in enumerate(network.neck.channels):
            blocks = {t: genotype.blocks[row_of(t, scale)] for t in PUBLISHED.tasks}
            plain = ATRC(Genotype(PUBLISHED.tasks, blocks), width, kernel_size=3).eval()
            plain.load_state_dict(network.distillation.scales[scale].state_dict())
            (read,) = plain.label_tasks
            label_logits = {read: network.aux_heads[row_of(read, scale)](maps[read][scale])}
            for task, x in plain({t: own[scale] for t, own in maps.items()}, label_logits).items():
                refined[task].append(x)
        for task, scales in refined.items():
            joined = torch.cat([resize(x, scales[0].shape[-2:]) for x in scales], 1)
            expected = resize(network.predictors[task](network.heads[task](joined)), SIZE)
            torch.testing.assert_close(found[task], expected, rtol=1e-4, atol=1e-5)


def test_one_genotype_for_all_scales_is_the_same_at_each(make_network, tmp_path):
    save(PUBLISHED.on(SCALES), tmp_path / "genotype.json")
    options = {"neck": "fpm", "kernel_size": 3}
    shared = make_network("atrc", genotype="published/nyud_hrnet18", scales="shared", **options)
    separate = make_network("atrc", genotype=str(tmp_path / "genotype.json"), scales="separate", **options)
    separate.load_state_dict(shared.state_dict())
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        first, second = (untouched_by_zeros(each).eval()(image).final for each in (shared, separate))
    assert all(torch.equal(first[task], second[task]) for task in first)


@pytest.mark.parametrize("neck", ["shared", "fpm"])
def test_every_parameter_learns_and_images_do_not_see_each_other(make_network, neck):
    options = {"tasks": ("depth", "edge"), "neck": neck, "kernel_size": 3, "scales": "separate"}
    network = untouched_by_zeros(make_network("search", **options)).train()
    final, aux, initial = network(torch.randn(2, 3, *SIZE), ArchSample(1.0, gumbel_noise(4 * SCALES, 0, 0)))
    assert [x.shape[-2:] for row, x in aux.items() if task_of(row) == "edge"] == [(8, 12), (4, 6), (2, 3), (1, 2)]
    losses = [x.square().mean() for maps in (final, aux) for x in maps.values()]
    losses += [x.square().mean() for maps in initial.values() for x in maps]
    sum(losses).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    network.eval()
    pair = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        for task, x in network(pair[:1]).final.items():
            torch.testing.assert_close(network(pair).final[task][:1], x, rtol=1e-4, atol=1e-5)


def test_blocks_freeze_scale_by_scale_and_the_genotype_says_so():
    module = ScaledSearch(TASKS, C, separate=True, types=CONTEXTS)
    with torch.no_grad():
        module.arch[5, CONTEXTS.index("global")] = 9.0  # the second scale's a <- b
    assert module.freeze_converged(0.5).tolist() == [index == 5 for index in range(8)]
    genotype = module.genotype()
    assert genotype.scales == 2 and genotype.blocks["a@1"]["b"] == "global" and genotype.blocks["a@0"]["b"] == "none"
    assert genotype.details["frozen"]["a@1"] == {"a": False, "b": True}
    assert set(genotype.details["probabilities"]["b@1"]["b"]) == set(CONTEXTS) - {"slabel"}
    shared = ScaledSearch(TASKS, C, separate=False, types=CONTEXTS).genotype()
    assert shared.rows == TASKS and shared.scales == 0


@pytest.mark.parametrize("scales", ["shared", "separate"])
def test_candidates_add_up_to_the_network_of_a_genotype(make_network, tmp_path, scales):
    tasks = ("depth", "edge")
    genotype = uniform(tasks, "tlabel").changed({"edge": {"depth": "local"}})
    on_each = genotype.on(SCALES)
    genotype = genotype if scales == "shared" else on_each.changed({"depth@2": {"edge": "slabel"}})
    save(genotype, tmp_path / "genotype.json")
    with torch.device("meta"):
        costs = choice_costs(make_network("search", tasks=tasks, scales=scales), SIZE)
        network = make_network("atrc", tasks=tasks, scales=scales, genotype=str(tmp_path / "genotype.json"))
    found = profile(network, SIZE)
    chosen = sum(costs.blocks[Block(t, s, genotype.blocks[t][s])] for t, s in genotype.pairs())
    assert costs.rest + chosen == found.total.multiply_adds + found.total.local_attention
    assert found.total.parameters == sum(p.numel() for p in network.parameters())
    assert set(found.blocks) == set(on_each.rows)


def test_auxiliary_losses_of_the_scales_of_a_task_add_up(make_network):
    network = make_network("tlabel", neck="fpm", kernel_size=3, scales="shared", tasks=("semseg", "depth")).train()
    rows = network.aux_heads.keys()
    assert set(rows) == {row_of(t, i) for i in range(SCALES) for t in ("semseg", "depth")}
    final, aux, _ = network(torch.randn(2, 3, *SIZE))
    labels = {"semseg": torch.randint(40, (2, *SIZE)), "depth": torch.rand(2, 1, *SIZE) + 1}
    tasks = [network.label_rows[row_of(name, 0)] for name in ("semseg", "depth")]
    terms = build_losses(tasks, rows)(final, aux, labels)
    single = build_losses(tasks, ["semseg", "depth"])
    parts = [
        single(final, {t: aux[row_of(t, i)] for t in ("semseg", "depth")}, labels)["depth_aux"] for i in range(SCALES)
    ]
    assert set(terms) == {"semseg", "depth", "semseg_aux", "depth_aux"}
    assert terms["depth_aux"].item() == pytest.approx(sum(part.item() for part in parts), rel=1e-5)


def test_label_regions_from_labels_have_the_size_of_their_scale(make_network):
    network = make_network("tlabel", neck="fpm", scales="shared", regions="labels", tasks=("depth",)).eval()
    regions = torch.randint(40, (1, *SIZE))
    with torch.no_grad():
        first = network(torch.zeros(1, 3, *SIZE), regions={"depth": regions}).final["depth"]
    assert len(network.aux_heads) == 0 and first.shape == (1, 1, *SIZE)


@pytest.mark.parametrize(("name", "scales"), [("search", "shared"), ("search", "separate"), ("tlabel", "shared")])
def test_a_view_predicts_what_the_network_does_and_a_block_matters_at_its_scale(make_network, name, scales):
    network = untouched_by_zeros(make_network(name, neck="fpm", kernel_size=3, scales=scales)).eval()
    if name == "search":
        torch.nn.init.normal_(network.distillation.arch, std=3.0)
    view = BlockView(network)
    with torch.no_grad(), view.watching() as seen:
        final = network(torch.randn(1, 3, *SIZE)).final
        maps, outputs = seen()
        assert set(outputs) == set(view.blocks) and {scale_of(b.target) for b in outputs} == set(range(SCALES))
        features = [each.features["edge"] for each in maps]
        torch.testing.assert_close(view.predict("edge", features, outputs, SIZE), final["edge"], rtol=1e-4, atol=1e-5)
        block = next(each for each in view.of("edge") if scale_of(each.target) == 2)
        changed = view.predict("edge", features, outputs | {block: outputs[block] + 1}, SIZE)
        assert not torch.allclose(changed, final["edge"], atol=1e-4)
        assert view.context(block) is network.distillation.scales[2].blocks["edge"][block.source][block.context]


def test_padding_is_masked_at_every_scale(make_network):
    network = untouched_by_zeros(make_network("global", neck="fpm", scales="shared", mask_padding=True)).eval()
    for scale in network.distillation.scales:
        assert scale.mask_padding
    valid = torch.ones(1, 1, *SIZE, dtype=torch.bool)
    valid[..., 32:] = False
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        whole, masked = network(image).final["depth"], network(image, valid=valid).final["depth"]
    assert not torch.allclose(whole, masked)


def test_what_does_not_fit_is_one_line(make_network, different):
    for options, part in [
        ({"scales": "shared", "genotype": different}, "distillation.scales=separate"),
        ({"genotype": different}, "distillation.scales=separate"),
        ({"scales": "separate", "genotype": "published/nyud_hrnet18"}, "shared and null"),
    ]:
        with pytest.raises(UserError, match=part) as error:
            make_network("atrc", tasks=PUBLISHED.tasks, **options)
        assert "\n" not in str(error.value)
    config = as_typed("distillation.scales=shared", "backbone=timm", "backbone.name=mobilenetv3_small_050",
                      "backbone.weights=random", "backbone.out_indices=[4]")  # fmt: skip
    with pytest.raises(UserError, match="one scale"):
        build_network(config, build_tasks_of(config))
