import time

import pytest
import safetensors.torch
import timm
import torch

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import build_backbone

HRNET = "hrnet_w18_small_v2"


def build(name: str = HRNET, weights: str = "random", **options):
    return build_backbone(BackboneConfig(name=name, weights=weights, **options))


@pytest.mark.parametrize(
    "name, indices",
    [
        ("resnet10t", [1, 2, 3, 4]),
        ("convnext_atto", [0, 1, 2, 3]),
        ("regnetx_002", [1, 3]),
    ],
)
def test_other_models_load_a_whole_classifier(tmp_path, name, indices):
    """Features after loading are those of the classifier whose file it was, wherever timm renames or leaves out."""
    torch.manual_seed(1)
    classifier = timm.create_model(name).eval()
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "classifier.pth")
    torch.manual_seed(1)
    reference = timm.create_model(name, features_only=True, out_indices=tuple(indices)).eval()
    backbone = build(name, str(tmp_path / "classifier.pth"), out_indices=indices).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(backbone.model(image), reference(image), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert backbone.provenance["weights"].endswith("classifier.pth") and len(backbone.provenance["sha256"]) == 64


def test_efficientnet_features_are_those_of_the_classifier_whose_file_it_loads(tmp_path):
    classifier = timm.create_model("efficientnet_b0").eval()
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    backbone = build("efficientnet_b0", str(tmp_path / "classifier.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        reference = classifier.forward_intermediates(image, indices=[1, 2, 3, 4], intermediates_only=True)
        for ours, theirs in zip(backbone(image), reference, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(53, 70), (41, 33)])
@pytest.mark.parametrize("name, indices, multiple", [
    ("convnext_atto", [0, 1, 2, 3], 32),
    ("swin_tiny_patch4_window7_224", [0, 1, 2, 3], 4),
    ("efficientnet_b0", [1, 2, 3, 4], None),
])  # fmt: skip
def test_backbones_of_the_presets_take_any_size(name, indices, multiple, size):
    """Maps are those of the image rounded up, and see its last rows and columns, which a ConvNeXt alone would drop."""
    backbone = build(name, out_indices=indices, multiple=multiple).eval()
    image = torch.randn(1, 3, *size, requires_grad=True)
    maps = backbone(image)
    assert backbone.reductions == [4, 8, 16, 32]
    strides = zip(backbone.channels, backbone.reductions, strict=True)
    assert [x.shape for x in maps] == [(1, c, -(-size[0] // s), -(-size[1] // s)) for c, s in strides]
    maps[0].square().sum().backward()
    assert image.grad[..., -1, :].any() and image.grad[..., -1].any()


def test_swin_is_timms_where_both_can_run_and_shifts_its_last_windows():
    name = "swin_tiny_patch4_window7_224"
    plain = timm.create_model(name, features_only=True).eval()
    backbone = build(name, out_indices=[0, 1, 2, 3], multiple=4).eval()
    backbone.model.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(backbone(image)[:3], plain(image)[:3], strict=True):
            torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2))
    assert [tuple(block.shift_size) for block in backbone.model.layers_3.blocks] == [(0, 0), (3, 3)]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_hrnet_classifier_file_loads(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = timm.create_model(HRNET).state_dict()
    torch.save(state, path) if suffix == ".pth" else safetensors.torch.save_file(state, path)
    backbone = build(weights=str(path))
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, state[key])


def test_files_that_do_not_fit_are_refused(tmp_path):
    def saved(change) -> str:
        state = timm.create_model(HRNET, features_only=True, feature_location="").state_dict()
        change(state)
        torch.save(state, tmp_path / "changed.pth")
        return str(tmp_path / "changed.pth")

    for key in ["stage2.0.branches.0.0.conv1.weight", "conv1.weight"]:
        with pytest.raises(UserError, match=f"missing {key}$"):
            build(weights=saved(lambda state, key=key: state.pop(key)))
    with pytest.raises(UserError, match="unexpected decoder"):
        build(weights=saved(lambda state: state.update({"decoder.weight": torch.ones(1)})))
    with pytest.raises(UserError, match=r"conv1\.weight .*\(1, 3, 3, 3\)"):
        build(weights=saved(lambda state: state.update({"conv1.weight": torch.ones(1, 3, 3, 3)})))
    with pytest.raises(UserError, match=r"nowhere\.pth: .*imagenet, random"):
        build(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(UserError, match="not a file of weights"):
        build(weights=str(tmp_path / "text.pth"))


class _Stowaway:
    def __reduce__(self):
        return print, ("this must never run",)


def test_pickled_code_in_a_weight_file_does_not_run(tmp_path, capsys):
    torch.save({"conv1.weight": _Stowaway()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a file of weights"):
        build(weights=str(tmp_path / "evil.pth"))
    assert "never run" not in capsys.readouterr().out


def test_without_network_the_option_is_named_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"backbone.weights=imagenet: .*ms_in1k.*\.safetensors file, or to random"):
        build(weights="imagenet", tag="ms_in1k")
    assert time.perf_counter() - start < 15


def test_cached_imagenet_weights_load_with_tag_and_hash(tmp_path, monkeypatch):
    """The hub's download is replaced by a file; what it holds must arrive in the network."""
    asked = []
    state = timm.create_model(HRNET).state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")

    def download(repository, filename, **_):
        asked.append((repository, filename))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("atrc_exp.models.backbones.weights.hf_hub_download", download)
    backbone = build(weights="imagenet", tag="ms_in1k")
    assert asked == [(f"timm/{HRNET}.ms_in1k", "model.safetensors")]
    assert backbone.provenance["tag"] == "ms_in1k" and len(backbone.provenance["sha256"]) == 64
    assert torch.equal(backbone.model.conv1.weight, state["conv1.weight"])


def test_names_and_indices_that_do_not_exist():
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"hrnet_w18_smal_v2.*hrnet_w18_small_v2"):
        build("hrnet_w18_smal_v2")
    with pytest.raises(UserError, match=r"backbone.tag=nothing: .* has .*ms_in1k"):
        build(weights="imagenet", tag="nothing")
    with pytest.raises(UserError, match=r"out_indices=\[1, 9\]"):
        build(out_indices=[1, 9])
    with pytest.raises(UserError, match="must rise"):
        build(out_indices=[2, 1])
    assert time.perf_counter() - start < 30
