"""Parameters and multiply-adds of the published networks on NYUD-v2 (Table 1 and its conventions)."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atrc_exp.config import BackboneConfig
from atrc_exp.genotype import CONTEXTS, save, uniform
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.profile import PARTS, profile

SIZE = (425, 560)
ARCHITECTURE_LOGITS = 16 * len(CONTEXTS)

# distillation, tasks, parameters, multiply-adds in 10^9: plain, with local attention, by the paper's convention
ROWS = [
    ("none", ("semseg",), 4_026_000, 10.1536, 10.1536, 10.2585),
    ("none", ("normals",), 4_024_000, 10.1164, 10.1164, 10.2207),
    ("none", ("depth",), 4_024_000, 10.1144, 10.1144, 10.2186),
    ("none", ("edge",), 4_024_000, 10.1144, 10.1144, 10.2186),
    ("none", None, 4_515_556, 17.4753, 17.4753, 17.5897),
    ("cross_stitch", None, 4_515_556 + 1_072, 17.4753, 17.4753, 17.590),
    ("nddr", None, 4_515_556 + 72_360, 18.5512, 18.5512, 18.678),
    ("padnet_b", None, 4_515_556 + 504_912, 25.0067, 25.0067, 25.169),
    ("padnet_c", None, 4_515_556 + 988_116, 32.2692, 32.2692, 32.396),
    ("pap", None, 4_515_556 + 27_620, 18.2412, 18.2412, 53.025),
    ("psd", None, 4_515_556 + 189_740, 20.2976, 21.5020, 21.103),
    ("global", None, 4_734_172, 21.1849, 21.1849, 21.422),
    ("local", None, 4_734_172, 20.6550, 21.9363, 22.189),
    ("tlabel", None, 5_060_994, 25.1707, 25.1707, 25.403),
    ("slabel", None, 5_060_994, 25.1707, 25.1707, 25.403),
    ("atrc", None, 5_060_994, 25.0546, 25.0546, 25.290),
    ("search", None, 5_459_238 + ARCHITECTURE_LOGITS, 31.2487, 32.5300, None),
]


@pytest.mark.parametrize(("name", "tasks", "parameters", "plain", "with_local", "paper"), ROWS)
def test_published_resources(make_network, name, tasks, parameters, plain, with_local, paper):
    with torch.device("meta"):
        network = make_network(name, backbone="hrnet_w18_small_v2", **({"tasks": tasks} if tasks else {}))
    total = profile(network, SIZE).total
    if tasks:  # known to the thousand only
        assert round(total.parameters, -3) == parameters
    else:
        assert total.parameters == parameters
    assert total.multiply_adds / 1e9 == pytest.approx(plain, abs=1e-3)
    assert (total.multiply_adds + total.local_attention) / 1e9 == pytest.approx(with_local, abs=1e-3)
    assert paper is None or total.paper / 1e9 == pytest.approx(paper, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "extra"),
    [("cross_stitch", {"stitch": "scalar"}, 16), ("padnet_b", {"plain_messages": True}, 503_304)],
)
def test_parameters_of_the_other_forms(make_network, name, options, extra):
    with torch.device("meta"):
        network = make_network(name, backbone="hrnet_w18_small_v2", **options)
    assert sum(p.numel() for p in network.parameters()) == 4_515_556 + extra


@pytest.mark.parametrize("name", ["tlabel", "slabel"])
def test_regions_from_labels_save_the_auxiliary_heads(make_network, name):
    """What is left has the layers of the global context network, whose size the paper gives."""
    with torch.device("meta"):
        network = make_network(name, backbone="hrnet_w18_small_v2", regions="labels")
    total = profile(network, SIZE)
    assert total.total.parameters == 4_734_172 and total.parts["aux_heads"].parameters == 0
    predicted = 25.1707 - 107 * 140 * (4 * 270 * 270 + 270 * (40 + 40 + 40 + 2)) / 1e9
    assert total.total.multiply_adds / 1e9 == pytest.approx(predicted, abs=1e-3)


def test_four_single_task_networks_have_16_10_million_parameters(make_network):
    with torch.device("meta"):
        networks = [
            make_network("none", backbone="hrnet_w18_small_v2", tasks=(t,))
            for t in ("semseg", "depth", "normals", "edge")
        ]
    assert round(sum(p.numel() for n in networks for p in n.parameters()) / 1e6, 2) == 16.10


def test_hrnet48_multi_task(make_network):
    with torch.device("meta"):
        network = make_network("none", backbone="hrnet_w48")
    total = profile(network, SIZE).total
    assert round(total.parameters / 1e6, 2) == 70.00
    assert round(total.multiply_adds / 1e9, 2) == 148.52  # known to two digits


@pytest.mark.parametrize(
    ("backbone", "options", "parameters"),
    [
        ("convnext_tiny", {"out_indices": [0, 1, 2, 3], "multiple": 32}, 27.819),
        ("swin_tiny_patch4_window7_224", {"out_indices": [0, 1, 2, 3], "multiple": 4}, 27.518),
        ("efficientnet_b0", {"out_indices": [1, 2, 3, 4]}, 3.595),
    ],
)
def test_other_backbones_without_their_classifiers(backbone, options, parameters):
    """28.589, 28.288 and 5.289 M of timm's model cards, less classifier, its norm and the last 1x1 conv with norm."""
    with torch.device("meta"):
        built = build_backbone(BackboneConfig(name=backbone, weights="random", **options))
    assert sum(p.numel() for p in built.parameters()) / 1e6 == pytest.approx(parameters, abs=1e-3)


def test_parts_add_up_and_frozen_blocks_still_count_all_candidates(make_network):
    network = make_network("search", tasks=("semseg", "edge"), channels=8)
    before = profile(network, (64, 96))
    network.search.frozen.fill_(0)
    network.train()
    after = profile(network, (64, 96))
    assert after == before
    assert network.training  # the network itself is left as it was
    assert next(network.parameters()).device.type == "cpu"
    assert before.total.parameters == sum(p.numel() for p in network.parameters())
    assert set(before.as_dict()["parts"]) == set(PARTS)
    assert before.as_dict()["total"]["multiply_adds"] == sum(p.multiply_adds for p in before.parts.values())
    # local attention: 2 K^2 D per pixel and block, D = 4, four blocks, stride 4 at 64 x 96
    assert before.parts["distillation"].local_attention == 2 * 81 * 4 * (16 * 24) * 4


def test_blocks_of_a_search_count_every_candidate_by_itself(make_network):
    network = make_network("search", tasks=("semseg", "edge"), channels=8)
    counted = profile(network, (64, 96))
    modules = network.search.blocks
    assert counted.blocks.keys() == counted.as_dict()["blocks"].keys() == {"semseg", "edge"}
    assert counted.blocks["semseg"]["edge"].keys() == {"global", "local", "tlabel", "slabel"}  # none costs nothing
    assert counted.blocks["edge"]["edge"].keys() == {"global", "local", "tlabel"}
    for target, row in counted.blocks.items():
        for source, types in row.items():
            for name, part in types.items():
                assert part.parameters == sum(p.numel() for p in modules[target][source][name].parameters())
    # 2 K^2 D per pixel, D = 4, stride 4
    assert counted.blocks["semseg"]["edge"]["local"].local_attention == 2 * 81 * 4 * (16 * 24)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        modules["semseg"]["edge"]["global"].eval()(*torch.zeros(2, 1, 8, 16, 24))
    assert counted.blocks["semseg"]["edge"]["global"].multiply_adds == counter.get_total_flops() // 2 > 0


def test_a_block_with_several_contexts_costs_all_of_them(make_network, tmp_path):
    """Beside the shares, one number a context, it differs from a block with the first alone by the other's module."""
    counted = []
    for number, block in enumerate(("local", "global+local")):
        genotype = uniform(("semseg", "edge"), "none").changed({"semseg": {"edge": block}})
        save(genotype, tmp_path / f"{number}.json")
        network = make_network("atrc", tasks=genotype.tasks, channels=8, genotype=str(tmp_path / f"{number}.json"))
        counted.append(profile(network, (64, 96)))
    one, both = (each.parts["distillation"] for each in counted)
    assert counted[1].blocks["semseg"]["edge"].keys() == {"global", "local"}
    other = counted[1].blocks["semseg"]["edge"]["global"]
    assert both.parameters - one.parameters == other.parameters + 2
    assert both.multiply_adds - one.multiply_adds == other.multiply_adds > 0
    assert both.local_attention == one.local_attention > 0


def test_a_network_without_context_blocks_has_none(make_network):
    assert profile(make_network("none", tasks=("semseg",)), (64, 96)).blocks == {}
