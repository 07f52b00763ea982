"""FPM and MTI-Net: resources of every part, the mask by plain loops, the order of the scales."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atrc_exp.models.necks.fpm import FPM, FeaturePropagation
from atrc_exp.models.profile import profile

SIZE = (425, 560)
HRNET = {18: "hrnet_w18_small_v2", 48: "hrnet_w48"}
BASELINE = {18: 4_515_556, 48: 70_000_305}  # multi-task, without FPM


def parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture
def on_meta(make_network):
    def make(*args, width=18, **options):
        with torch.device("meta"):
            return make_network(*args, backbone=HRNET[width], **options)

    return make


def test_parameters_of_the_parts(on_meta):
    network = on_meta("mti_net")
    neck, distillation = network.neck, network.distillation
    scales = zip(neck.features, neck.initial, strict=True)
    assert [parameters(*pair) for pair in scales] == [75_447, 298_593, 1_188_117, 2_997_117]
    assert [parameters(module) for module in neck.propagation] == [156_968, 626_128, 2_502_180]
    assert [parameters(scale) for scale in distillation.scales] == [69_984, 279_936, 1_119_744, 4_478_976]
    assert parameters(network.heads, network.predictors) == 307_035
    assert parameters(network.backbone) == 3_860_720


@pytest.mark.parametrize(("width", "percent"), [(18, 173.7), (48, 79.5)])
def test_the_fpm_grows_the_multi_task_baseline_as_published(on_meta, width, percent):
    """The paper: +174 % and +79 % (Sec. 4.3)."""
    neck = on_meta("none", neck="fpm", width=width).neck
    assert round(100 * parameters(neck) / BASELINE[width], 1) == percent


TOTALS = [
    ("mti_net", 18, 17_960_945),
    ("mti_net", 48, 165_402_153),
    ("none", 18, 12_360_106),
    ("none", 48, 125_661_213),
]


@pytest.mark.parametrize(("name", "width", "total"), TOTALS)
def test_parameters_of_the_networks(on_meta, name, width, total):
    assert parameters(on_meta(name, neck="fpm", width=width)) == total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "multiply_adds"),
    [
        ("mti_net", 18, 22.64),
        ("none", 18, 23.54),
        pytest.param("mti_net", 48, 183.2, marks=pytest.mark.exhaustive),
        pytest.param("none", 48, 191.0, marks=pytest.mark.exhaustive),
    ],
)
def test_multiply_adds_of_the_networks(on_meta, name, width, multiply_adds):
    found = profile(on_meta(name, neck="fpm", width=width), SIZE).total
    assert found.paper / 1e9 == pytest.approx(multiply_adds, rel=5e-3)


def test_atrc_on_the_fpm_saves_22_percent_of_mti_net(on_meta):
    found = parameters(on_meta("atrc", neck="fpm", width=48, genotype="published/nyud_hrnet48"))
    assert round(found / 1e6, 2) == 128.14
    assert round(100 * (1 - found / 165_402_153), 1) == 22.5


def test_mti_net_on_five_tasks(on_meta):
    network = on_meta("mti_net", tasks=("semseg", "human_parts", "sal", "normals", "edge"), semseg=21)
    assert parameters(network) == 24_494_716


@pytest.mark.parametrize("softmax", ["paper", "authors"])
def test_propagation_equals_its_definition(softmax):
    tasks, c, height, width = ("depth", "edge", "normals"), 4, 3, 5
    module = FeaturePropagation(c, tasks, softmax).double().eval()
    features = {task: torch.randn(2, c, height, width, dtype=torch.float64) for task in tasks}
    with torch.no_grad():
        found = module(dict(reversed(features.items())))  # the order is the module's, not the dictionary's
        joined = torch.cat([features[task] for task in tasks], 1)
        logits = module.mask(joined).numpy()
        masked = joined.numpy().copy()
        for b, y, x in np.ndindex(2, height, width):
            for t, k in np.ndindex(len(tasks), c):
                channel = t * c + k
                if softmax == "paper":
                    partners = [other * c + k for other in range(len(tasks))]
                else:
                    first = channel // len(tasks) * len(tasks)
                    partners = list(range(first, first + len(tasks)))
                share = np.exp(logits[b, channel, y, x]) / np.exp(logits[b, partners, y, x]).sum()
                masked[b, channel, y, x] *= share
        mixture = module.shared(torch.from_numpy(masked)).numpy()
        for task in tasks:
            se = module.excitations[task]
            mean = mixture.mean((2, 3))
            hidden = np.maximum(mean @ se.fc1.weight.numpy()[:, :, 0, 0].T + se.fc1.bias.numpy(), 0)
            gate = 1 / (1 + np.exp(-(hidden @ se.fc2.weight.numpy()[:, :, 0, 0].T + se.fc2.bias.numpy())))
            expected = mixture * gate[:, :, None, None] + features[task].numpy()
            np.testing.assert_allclose(found[task].numpy(), expected, atol=1e-12)


def test_the_two_masks_differ():
    torch.manual_seed(0)
    paper = FeaturePropagation(4, ("depth", "edge"), "paper").eval()
    authors = FeaturePropagation(4, ("depth", "edge"), "authors").eval()
    authors.load_state_dict(paper.state_dict())
    features = {task: torch.randn(1, 4, 3, 3) for task in ("depth", "edge")}
    assert not torch.allclose(paper(features)["depth"], authors(features)["depth"])


@pytest.fixture
def neck():
    return FPM([4, 6, 8], {"depth": 1, "normals": 3}).eval()


def pyramid() -> list[torch.Tensor]:
    return [torch.randn(2, c, *size) for c, size in ((4, (9, 7)), (6, (5, 4)), (8, (3, 2)))]


def test_scales_are_propagated_from_coarse_to_fine(neck):
    maps = pyramid()
    before = neck(maps, SIZE).pyramids
    finest = neck([maps[0] + 1, *maps[1:]], SIZE).pyramids
    coarsest = neck([*maps[:2], maps[2] + 1], SIZE).pyramids
    for task in ("depth", "normals"):
        assert [x.shape for x in before[task]] == [x.shape for x in maps]
        assert [torch.equal(*pair) for pair in zip(before[task], finest[task], strict=True)] == [False, True, True]
        assert not any(torch.equal(*pair) for pair in zip(before[task], coarsest[task], strict=True))


def test_a_finer_scale_reads_the_backbone_and_the_resized_propagation(neck):
    maps = pyramid()
    propagated, read = [], []
    neck.propagation[0].register_forward_hook(lambda _m, _i, output: propagated.append(output["normals"]))
    neck.features[0]["normals"].register_forward_pre_hook(lambda _m, args: read.append(args[0]))
    neck(maps, SIZE)
    resized = F.interpolate(propagated[0], size=(9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(read[0], torch.cat((maps[0], resized), 1))


def test_initial_predictions_are_made_of_each_scales_features_in_training_only(neck):
    maps = pyramid()
    assert neck(maps, SIZE).initial == {}
    pyramids, initial = neck.train()(maps, SIZE)
    for task, width in (("depth", 1), ("normals", 3)):
        assert [x.shape for x in initial[task]] == [(2, width, *x.shape[-2:]) for x in maps]
        for conv, features, prediction in zip(neck.initial, pyramids[task], initial[task], strict=True):
            torch.testing.assert_close(prediction, conv[task](features))


def test_every_task_may_have_maps_of_its_own(neck):
    own = {"depth": pyramid(), "normals": pyramid()}
    found, shared = neck(own, SIZE).pyramids, neck(own["depth"], SIZE).pyramids
    torch.testing.assert_close(neck(dict.fromkeys(own, own["depth"]), SIZE).pyramids, shared)
    torch.testing.assert_close(found["depth"][2], shared["depth"][2])
    assert not torch.allclose(found["normals"][2], shared["normals"][2])
